"""Random transactions against a model of what each of their reads may see."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from tests.replicas.world import NAMES, PRIMARY, World
from tests.session.shop import Account, Customer

PLACES: dict[str, tuple[Any, Any]] = {
    "main": (Account, 1),
    "d0": (Customer, 0),
    "d1": (Customer, 1),
}


@dataclass
class Model:
    """What a session has to see: its own values at least, and where it may look."""

    committed: dict[str, int] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    savepoints: list[dict[str, int]] = field(default_factory=list)
    wrote: bool = False
    read: dict[str, set[int | None]] = field(default_factory=dict)

    def end(self, *, commits: bool) -> None:
        """Commit, or roll back."""
        if commits:
            self.committed.update(self.pending)
        self.pending, self.savepoints, self.wrote, self.read = {}, [], False, {}

    def check(self, database: str, value: int, numbers: set[int | None]) -> None:
        """A read of `database` has given `value`, and `numbers` have answered it."""
        assert len(numbers) == 1
        if self.wrote:
            assert numbers == {PRIMARY}
        expected = {**self.committed, **self.pending}.get(database)
        if expected is not None:
            assert value == expected
        elif not self.wrote:
            before = self.read.setdefault(database, set(numbers))
            assert before == numbers


class Run:
    """One session, its model, and random steps."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.model = Model()
        self.session: Session = world.router.sessionmaker()()
        self.count = 0

    def step(self) -> None:
        """Do one thing."""
        names = ["read"] * 6 + ["write"] * 2 + ["commit", "commit", "rollback", "begin", "pause"]
        getattr(self, self.random.choice(names))()

    def read(self) -> None:
        """Read a value, in one of several ways."""
        database = self.random.choice(NAMES)
        mapped, key = PLACES[database]
        self.world.asked.clear()
        if self.random.random() < 0.5:
            value = self.session.scalar(select(mapped.name).where(mapped.id == key))
        else:
            value = self.session.get_one(mapped, key, populate_existing=True).name
        numbers = {number for (name, number), _ in self.world.asked if name == database}
        self.model.check(database, int(value), numbers)

    def write(self) -> None:
        """Write a value, in one of several ways."""
        database = self.random.choice(NAMES)
        mapped, key = PLACES[database]
        self.count += 1
        way = self.random.randrange(3)
        if way == 0:
            change = update(mapped).where(mapped.id == key).values(name=str(self.count))
            self.session.execute(change)
        elif way == 1:
            self.session.get_one(mapped, key).name = str(self.count)
            self.session.flush()
        else:
            sql = f"UPDATE {mapped.__tablename__} SET name = '{self.count}' WHERE id = {key}"
            place: dict[str, Any] = {"keyspace": "shop", "shard_key": key}
            if database == "main":
                place = {"keyspace": "accounts"}
            self.session.execute(text(sql), bind_arguments=place)
            self.session.expire_all()
        self.model.pending[database] = self.count
        self.model.wrote = True

    def begin(self) -> None:
        """Begin a savepoint, or end the innermost one."""
        nested = self.session.get_nested_transaction()
        if nested is None:
            self.model.savepoints.append(dict(self.model.pending))
            self.session.begin_nested()
        elif self.random.random() < 0.5:
            self.model.savepoints.pop()
            nested.commit()
        else:
            self.model.pending = self.model.savepoints.pop()
            nested.rollback()

    def commit(self) -> None:
        """End the transaction."""
        self.session.commit()
        self.model.end(commits=True)
        if self.random.random() < 0.3:
            # Another session, which is told what it has to see.
            token = self.session.token()
            self.session.close()
            self.session = self.world.router.sessionmaker()(after=token)

    def rollback(self) -> None:
        """Undo the transaction."""
        self.session.rollback()
        self.model.end(commits=False)

    def pause(self) -> None:
        """Let a replica stop or go on replaying."""
        number = self.random.randrange(2)
        if self.random.random() < 0.5:
            self.world.servers.pause(number)
        else:
            self.world.servers.resume(number)


@pytest.mark.parametrize("seed", range(6))
def test_random_transactions(world: World, seed: int) -> None:
    """Own writes are always seen, one replica serves a transaction, writers read primaries."""
    with world.router.sessionmaker().begin() as session:
        session.execute(update(Account).values(name="0"))
        session.execute(update(Customer).values(name="0"))
    world.servers.catch_up()
    run = Run(world, seed)
    for _ in range(150):
        run.step()
    run.session.close()
    for engines in world.router.replicas.values():
        assert [engine.pool.checkedout() for engine in engines] == [0, 0]
