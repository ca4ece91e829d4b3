"""Sending a statement without parameters and rows by the driver alone.

A commit over several databases is many small statements, for each of which SQLAlchemy's own
execution costs more than the driver's.
Leans on `Dialect.do_execute_no_params`, `.is_disconnect`, `.loaded_dbapi` and on
`DBAPIError.instance`.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


def send(connection: Connection, statement: str) -> None:
    """Execute `statement`.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        As `Connection.execute` does; a lost connection is invalidated.
    """
    raw = connection.connection
    dialect: Any = connection.dialect
    cursor = raw.cursor()
    try:
        dialect.do_execute_no_params(cursor, statement)
    except dialect.loaded_dbapi.Error as error:
        lost = dialect.is_disconnect(error, raw.dbapi_connection, cursor)
        if lost:
            connection.invalidate(error)
        wrapped: Any = DBAPIError.instance(
            statement,
            None,
            error,
            dialect.loaded_dbapi.Error,
            connection_invalidated=lost,
            dialect=dialect,
        )
        raise wrapped from error
    except BaseException:
        # Interrupted: what it was doing is not known.
        connection.invalidate()
        raise
    finally:
        if not connection.invalidated:
            cursor.close()
