"""Routers over fresh databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from sqlalchemy import event

from router import Router
from router.transaction.log import NAME as LOG
from tests.conftest import MakeDatabases
from tests.session.shop import open_router


@pytest.fixture
def shop(dialect: str, make_databases: MakeDatabases) -> Iterator[Router]:
    """A shop over two shards and one more database, on each kind of server."""
    with open_router(make_databases(dialect, 3)) as router:
        yield router


@pytest.fixture
def lite(make_databases: MakeDatabases) -> Iterator[Router]:
    """A shop over three SQLite shards, for what does not depend on the server."""
    with open_router(make_databases("sqlite", 4)) as router:
        yield router


@dataclass
class Statements:
    """What was sent to which database."""

    sent: list[tuple[str, str]] = field(default_factory=list)

    def count(self, word: str) -> Counter[str]:
        """Return database name -> number of statements that start with `word`, commits' aside."""
        own = [(name, sql.lstrip()) for name, sql in self.sent if LOG not in sql]
        return Counter(name for name, sql in own if sql.upper().startswith(word))


def watch(router: Router) -> Statements:
    """Return a record of every statement that `router` sends from now on."""
    statements = Statements()
    for name in router.engines:

        def note(
            connection: object, cursor: object, sql: str, *rest: object, name: str = name
        ) -> None:
            statements.sent.append((name, sql))

        event.listen(router.engines[name], "before_cursor_execute", note)
    return statements
