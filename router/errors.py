"""Every error this library raises, and the id each of them carries.

::

    RouterError                    also sqlalchemy.exc.InvalidRequestError
    ├── ShardMapError              the YAML or the metadata is wrong; lists every problem
    ├── RoutingError               no key, a key of the wrong type, a shard that does not exist
    │   └── UnboundTableError      also sqlalchemy.exc.UnboundExecutionError
    ├── CrossShardError            the statement or the flush would span shards
    ├── ShardUnavailableError      also sqlalchemy.exc.OperationalError
    └── TransactionInDoubtError    the outcome of a commit is not known yet

A message reads: id and what happened, where, how to fix it.  The ids live in
`router.catalogue`; ``docs/errors.md`` explains each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exc as sa_exc

from router.catalogue import CATALOGUE


class RouterError(sa_exc.DontWrapMixin, sa_exc.InvalidRequestError):
    """Base of all errors raised by `router`.

    Parameters
    ----------
    id:
        A key of `router.catalogue.CATALOGUE`, such as ``"R203"``.
    what:
        One sentence: what was asked and why it cannot be done.
    where:
        The place to look at: ``file:line:column``, a table, a shard.
    fix:
        What to do; the catalogue's remedy when omitted.
    """

    def __init__(self, id: str, what: str, *, where: str = "", fix: str = "") -> None:
        self.id = id
        self.what = what
        self.where = where
        self.fix = fix or CATALOGUE[id].remedy
        # Not `super()`: some of these errors are DBAPI errors, too, which take other arguments.
        Exception.__init__(self, self._render())

    def _render(self) -> str:
        lines = [f"{self.id} {self.what}"]
        if self.where:
            lines.append(f"  where: {self.where}")
        lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle by their positional arguments, which ours do not have.
        return _restore, (type(self), self.__dict__.copy())


def _restore(cls: type[RouterError], state: dict[str, Any]) -> RouterError:
    error = cls.__new__(cls)
    error.__dict__.update(state)
    error.args = (error._render(),)
    return error


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a shard map: id, what, where (``file:line:column``), how to fix it."""

    id: str
    what: str
    where: str = ""
    fix: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        fix = self.fix or CATALOGUE[self.id].remedy
        return f"{self.id} {place}{self.what}\n  fix:   {fix}"


class ShardMapError(RouterError):
    """The shard map cannot be used; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(first.id, first.what, where=first.where, fix=first.fix)

    def _render(self) -> str:
        if len(self.problems) == 1:
            return super()._render()
        head = f"the shard map has {len(self.problems)} problems:"
        return "\n".join([head, *(str(problem) for problem in self.problems)])


class RoutingError(RouterError):
    """The shard of a statement or a row cannot be told: no key, a wrong key, no such shard."""


class UnboundTableError(RoutingError, sa_exc.UnboundExecutionError):
    """Nothing in the map binds what a statement or a mapper uses to a keyspace."""


class CrossShardError(RouterError):
    """What was asked spans shards or databases, and doing it there could be inexact."""


class ShardUnavailableError(RouterError, sa_exc.OperationalError):
    """A database cannot be reached, or is silent; `database` is its name in the map."""

    def __init__(
        self, database: str, what: str, orig: Exception, *, where: str = "", id: str = "R501"
    ) -> None:
        self.database = database
        # Attributes that handlers of SQLAlchemy's own OperationalError look at.
        self.orig = orig
        self.statement = None
        self.params = None
        self.connection_invalidated = True
        self.hide_parameters = True
        self.detail: list[str] = []
        self.ismulti = None
        RouterError.__init__(self, id, what, where=where)

    def __str__(self) -> str:
        return self._render()


class TransactionInDoubtError(RouterError):
    """Nobody can tell yet whether a transaction over several databases was committed.

    `gtid` names the transaction; `participants` maps each database to what is known of it.
    """

    def __init__(self, gtid: str, participants: Mapping[str, str], *, where: str = "") -> None:
        self.gtid = gtid
        self.participants = dict(participants)
        known = ", ".join(f"{name}: {state}" for name, state in self.participants.items())
        super().__init__("R410", f"transaction {gtid} is in doubt ({known})", where=where)
