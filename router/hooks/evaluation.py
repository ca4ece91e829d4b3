"""What ``synchronize_session="evaluate"`` does to the objects of a session.

Leans on the class methods `orm_pre_session_exec`, which checks the options of a statement,
`_eval_condition_from_statement`, `_get_matched_objects_on_criteria` and
`_apply_update_set_values_to_objects` of `BulkUDCompileState` and `BulkORMUpdate` (with an
underscore before them from 2.1 on), on `Session._remove_newly_deleted` and on
`InstanceState._expire_attributes`.  Checked against 2.0.40 and 2.1.9.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Delete
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import InstanceState, Session, bulk_persistence
from sqlalchemy.orm.evaluator import UnevaluatableError
from sqlalchemy.util import immutabledict

from router.hooks.loaders import statement_options


def _class(name: str) -> Any:
    return getattr(bulk_persistence, f"_{name}", None) or getattr(bulk_persistence, name)


_State, _Update = _class("BulkUDCompileState"), _class("BulkORMUpdate")


class Strategy(Enum):
    """How the objects of an UPDATE or DELETE are found in the session."""

    EVALUATE = "evaluate"
    FETCH = "fetch"
    NONE = False


def strategy_of(statement: Any, mapper: Any, options: Mapping[str, Any]) -> Strategy:
    """Return how objects are found, as the ORM decides it.

    Raises
    ------
    sqlalchemy.exc.ArgumentError
        `synchronize_session` is none of the values that SQLAlchemy knows.
    sqlalchemy.exc.InvalidRequestError
        The criteria are to be evaluated in Python, which is not possible.
    """
    how = {**statement_options(statement), **options}.get("synchronize_session", "auto")
    if how not in ("auto", "evaluate"):
        _State.orm_pre_session_exec(None, statement, None, immutabledict(options), {}, True)
        # None is not documented, and taken for False.
        return Strategy(how or False)
    try:
        _condition(statement, mapper)
    except UnevaluatableError as error:
        if how == "auto":
            return Strategy.FETCH
        fix = "use 'fetch' or False as synchronize_session"
        what = f"the criteria cannot be evaluated in Python: {error}; {fix}"
        raise InvalidRequestError(what) from error
    return Strategy.EVALUATE


def _condition(statement: Any, mapper: Any) -> Any:
    return _State._eval_condition_from_statement(SimpleNamespace(_subject_mapper=mapper), statement)


@dataclass(frozen=True, slots=True)
class Matched:
    """The objects of a session that an UPDATE or DELETE takes for those of its rows."""

    session: Session
    statement: Any
    mapper: Any
    objects: tuple[tuple[Any, InstanceState[Any], dict[str, Any], bool], ...]

    def without(self, written: Collection[Any]) -> Matched:
        """Return those whose primary keys are not among `written`."""
        left = tuple(one for one in self.objects if _key(one[1]) not in written)
        return Matched(self.session, self.statement, self.mapper, left)

    def synchronise(self) -> None:
        """Let the objects have what the statement gives to its rows, or be deleted as they are."""
        if not self.objects:
            return
        if isinstance(self.statement, Delete):
            self._delete()
            return
        plain = [one[:3] for one in self.objects]
        options = SimpleNamespace(_subject_mapper=self.mapper)
        _Update._apply_update_set_values_to_objects(
            self.session, options, self.statement, {}, plain, (), ()
        )

    def _delete(self) -> None:
        private: Any = self.session
        for _, state, values, expired in self.objects:
            if expired:
                state._expire(values, private.identity_map._modified)
        private._remove_newly_deleted([one[1] for one in self.objects if not one[3]])


def matched(session: Session, statement: Any, mapper: Any) -> Matched:
    """Return the objects that match the criteria of an UPDATE or DELETE as they are now."""
    options = SimpleNamespace(
        _subject_mapper=mapper, _eval_condition=_condition(statement, mapper), _identity_token=None
    )
    states = session.identity_map.all_states()
    found = _State._get_matched_objects_on_criteria(options, states)
    return Matched(session, statement, mapper, tuple(found))


def _key(state: InstanceState[Any]) -> tuple[Any, ...]:
    key: Any = state.key
    return tuple(key[1])
