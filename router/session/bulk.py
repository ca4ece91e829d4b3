"""The operations of a session that write rows past the unit of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect

from router.session.using import ReadsReplicas

if TYPE_CHECKING:
    from router.session.writes import Parts, Writes


class WritesInBulk(ReadsReplicas):
    """The part of `RoutingSession` that splits bulk operations."""

    def bulk_insert_mappings(
        self, mapper: Any, mappings: Iterable[Any], *a: Any, **kw: Any
    ) -> None:
        """Insert rows, each where it belongs; see `Session.bulk_insert_mappings`."""
        rows = list(mappings)
        insert = partial(super().bulk_insert_mappings, mapper)
        self._bulk(
            insert, rows, lambda writes: writes.homes_of_inserts(inspect(mapper), rows), *a, **kw
        )

    def bulk_update_mappings(self, mapper: Any, mappings: Iterable[Any]) -> None:
        """Update rows by primary key, each where it is; see `Session.bulk_update_mappings`."""
        rows = list(mappings)
        update = partial(super().bulk_update_mappings, mapper)
        self._bulk(update, rows, lambda writes: writes.homes_of_updates(inspect(mapper), rows))

    def bulk_save_objects(self, objects: Iterable[Any], *a: Any, **kw: Any) -> None:
        """Save objects, each where it belongs; see `Session.bulk_save_objects`."""
        given = list(objects)
        save = super().bulk_save_objects
        self._bulk(save, given, lambda writes: writes.homes_of_objects(given), *a, **kw)

    def _bulk(
        self,
        run: Callable[..., None],
        given: list[Any],
        parts: Callable[[Writes], Parts],
        *args: Any,
        **kw: Any,
    ) -> None:
        if self._routing is None or not given:
            run(given, *args, **kw)
            return
        writes = self._routing.writes
        self._lead()
        found = parts(writes)
        for database in found:
            writes.note(database)
        for database, some in found.items():
            with writes.aiming(database):
                run(some, *args, **kw)
