"""SQLAlchemy's own tests of its ORM, run with our session in the place of its own.

``python -m tests.drop_in --help`` says how.
"""
