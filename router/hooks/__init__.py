"""The one room for SQLAlchemy internals that have no public door.

Every module here names the internals it leans on; `tests/unit/test_hooks.py` fails
when one of them moves.  Checked against SQLAlchemy 2.0.40 and 2.1.9.
"""
