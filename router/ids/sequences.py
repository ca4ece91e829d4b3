"""Sequences that each shard counts in steps of its own, so that they never meet."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Sequence

from router.errors import RoutingError


class StripedSequence(Sequence):
    """A sequence of which the n-th shard has every `stripes`-th number, from n + 1 on.

    `Router.create_all` creates it so on every shard.  The stripe of a shard is its position in
    the map: shards may be appended, never reordered.

    >>> mapped_column(BigInteger, ids.StripedSequence("order_ids"), primary_key=True)

    Parameters
    ----------
    name:
        The name in the databases.
    stripes:
        The number of shards that there can ever be.
    """

    def __init__(self, name: str, *, stripes: int = 1024, **kw: Any) -> None:
        super().__init__(name, data_type=BigInteger, **kw)
        self.stripes = stripes

    def for_shard(self, position: int) -> Sequence:
        """Return the sequence of the shard at a position of the map.

        Raises
        ------
        RoutingError
            There are more shards than stripes.
        """
        if position >= self.stripes:
            what = f"sequence {self.name} has {self.stripes} stripes, too few for its shards"
            raise RoutingError("R806", what)
        return Sequence(
            self.name,
            start=position + 1,
            increment=self.stripes,
            schema=self.schema,
            data_type=BigInteger,
        )
