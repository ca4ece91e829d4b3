"""SQLAlchemy's own tests of its ORM, run with our session in the place of its own.

::

    python -m tests.drop_in                                  # all of test/orm and test/ext
    python -m tests.drop_in --dialect postgresql --kinds routed --processes 4
    python -m tests.drop_in -- test/orm/test_session.py      # some files

The tests come from the source distribution of the SQLAlchemy that is installed, which pip fetches
once, and run three times: with SQLAlchemy's session, with ours without a router (``unrouted``),
and with ours over a map of one database (``routed``).  A test that passes with SQLAlchemy's
session and not with ours is a regression, also one that was not run because a process died.
`tests.drop_in.excused` names the few that cannot pass, each with its reason.

Printed is one line for each dialect and kind, then every regression; the exit code is 1 if there
is one.  What came of SQLAlchemy's own session is kept below the user's cache directory, for each
file of which no test failed; ``--fresh`` runs them again.
"""
