"""The values of a statement's parameters in one execution."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy.sql.elements import BindParameter

from router.errors import RoutingError
from router.hooks.statements import is_lasting
from router.route.predicates import Value

_RENDERED = re.compile(r"_m?[0-9a-f]+$")


class Parameters:
    """Reads values the way SQLAlchemy does: those given to the execution go first.

    Parameters
    ----------
    binds:
        The parameters of the statement, in the order of its cache key.
    given:
        Values by name, given to the execution or to the statement.
    """

    __slots__ = ("_binds", "given")

    def __init__(self, binds: Sequence[BindParameter[Any]], given: Mapping[str, Any]) -> None:
        self._binds = binds
        self.given = given or {}

    def __call__(self, value: Value) -> Any:
        """Return what is sent for `value`.

        Raises
        ------
        RoutingError
            It is not known before the statement is executed.
        """
        bind = self._binds[value.index]
        if self.given and bind.key in self.given:
            return self.given[bind.key]
        if value.others:
            self._check_alike(value)
        return bind.value if bind.callable is None else plain_value(bind)

    def has_others(self) -> bool:
        """Return whether values are given by other names than those of the parameters."""
        # Asked for every `get()`, which has one of each.
        if len(self.given) == len(self._binds) == 1:
            return self._binds[0].key not in self.given
        return not self.given.keys() <= {bind.key for bind in self._binds}

    def strange(self, known: frozenset[str]) -> set[str]:
        """Return the names of given values that may stand for a parameter without a name.

        SQLAlchemy takes a value also by the name that such a parameter is rendered with.
        """
        return strange(self.given, known.union(bind.key for bind in self._binds))

    def name(self, value: Value) -> str:
        """Return the name of `value` in this statement."""
        return self._binds[value.index].key

    def _check_alike(self, value: Value) -> None:
        values = [self._binds[at].value for at in (value.index, *value.others)]
        if any(one != values[0] or type(one) is not type(values[0]) for one in values):
            what = f"the parameter {value.name!r} is there twice, with different values"
            raise RoutingError("R204", what, fix="give the parameters different names")


def strange(names: Iterable[Any], known: frozenset[str]) -> set[str]:
    """Return those of `names` that look like rendered ones, but for those that are `known`."""
    given = {name for name in names if isinstance(name, str)}
    return {name for name in given - known if _RENDERED.search(name)}


def refuse_names(strange: set[str]) -> None:
    """Raise if there are names of values that may stand for parameters which have none."""
    if strange:
        what = f"{min(strange)!r} is a name that SQLAlchemy makes up for a value of the statement"
        raise RoutingError("R204", what, fix="give the parameter a name: bindparam('key')")


def plain_value(bind: BindParameter[Any]) -> Any:
    """Return the value of `bind`; raise `RoutingError` where it may change until it is sent."""
    if bind.callable is not None and not is_lasting(bind.callable):
        what = f"the value of parameter {bind.key!r} is a function, whose result may change"
        raise RoutingError("R204", what, fix="call the function first, and pass its result")
    return bind.effective_value
