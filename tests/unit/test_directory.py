"""The table of a directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateTable

from router.directory import MAX_KEY_BYTES, DirectoryTable, directory_table
from router.shardmap.functions.protocol import Key
from router.shardmap.keys import KeyValueError

KEYS: list[Key] = [(number,) for number in range(40)]
THREADS = 8


@pytest.fixture
def engine(urls: list[str]) -> Iterator[Engine]:
    """An engine of each dialect in turn."""
    made = create_engine(urls[0])
    yield made
    made.dispose()


@pytest.fixture
def directory(engine: Engine) -> DirectoryTable:
    """The directory of a keyspace, with its table."""
    made = DirectoryTable(engine, "shop")
    made.create()
    return made


def statements(engine: Engine) -> list[str]:
    """Return a list that fills with the statements that leave for the database."""
    seen: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    return seen


def test_the_first_placement_stays(directory: DirectoryTable) -> None:
    """Placing again returns where the key already is."""
    assert directory.lookup([(1,), (2,)]) == {}
    assert directory.place({(1,): "s0"}) == {(1,): "s0"}
    assert directory.place({(1,): "s1", (2,): "s1"}) == {(1,): "s0", (2,): "s1"}
    assert directory.lookup([(1,), (2,), (3,)]) == {(1,): "s0", (2,): "s1"}


def test_creating_twice_is_fine(directory: DirectoryTable) -> None:
    """An existing table and its rows are kept."""
    directory.place({(1,): "s0"})
    directory.create()
    assert directory.lookup([(1,)], fresh=True) == {(1,): "s0"}


def test_keys_that_databases_confuse(directory: DirectoryTable) -> None:
    """Case, accents, trailing blanks and types make different keys."""
    keys: list[Key] = [("a",), ("A",), ("ä",), ("a ",), (5,), ("5",), (b"5",), (5, "a"), ("5a",)]
    placements = {key: f"s{number}" for number, key in enumerate(keys)}
    assert directory.place(placements) == placements
    assert directory.lookup(keys, fresh=True) == placements


def test_keyspaces_do_not_meet(engine: Engine, directory: DirectoryTable) -> None:
    """One table serves several keyspaces, whose names differ in case only perhaps."""
    other = DirectoryTable(engine, "SHOP")
    directory.place({(1,): "s0"})
    assert other.lookup([(1,)]) == {}
    assert other.place({(1,): "s1"}) == {(1,): "s1"}
    assert directory.lookup([(1,)], fresh=True) == {(1,): "s0"}


def test_more_keys_than_fit_into_one_statement(directory: DirectoryTable) -> None:
    """Keys are asked for in batches."""
    placements: dict[Key, str] = {(number,): f"s{number % 3}" for number in range(1234)}
    assert directory.place(placements) == placements


def test_what_is_known_is_not_asked_again(engine: Engine, directory: DirectoryTable) -> None:
    """Placements are remembered, and forgotten when there are too many."""
    small = DirectoryTable(engine, "shop", cache_size=2)
    small.place({(number,): "s0" for number in range(3)})
    seen = statements(engine)
    assert small.lookup([(1,), (2,)]) == {(1,): "s0", (2,): "s0"}
    assert seen == []
    assert small.lookup([(0,)]) == {(0,): "s0"}
    assert len([statement for statement in seen if "SELECT" in statement]) == 1


def test_a_fresh_look_corrects_what_is_remembered(
    engine: Engine, directory: DirectoryTable
) -> None:
    """After keys were moved or removed by someone else, one look with `fresh` is enough."""
    directory.place({(1,): "s0", (2,): "s0"})
    with engine.begin() as connection:
        connection.execute(text("UPDATE router_directory SET shard = 's1' WHERE key_hex = '31'"))
        connection.execute(text("DELETE FROM router_directory WHERE key_hex = '32'"))
    assert directory.lookup([(1,), (2,)]) == {(1,): "s0", (2,): "s0"}
    assert directory.lookup([(1,), (2,)], fresh=True) == {(1,): "s1"}
    assert directory.lookup([(1,), (2,)]) == {(1,): "s1"}


def test_threads_agree(engine: Engine, directory: DirectoryTable) -> None:
    """Eight workers propose different shards in different orders; all learn the same."""
    start = Barrier(THREADS)

    def place(worker: int) -> dict[Key, str]:
        mine = DirectoryTable(engine, "shop")
        keys = KEYS if worker % 2 else KEYS[::-1]
        start.wait()
        got: dict[Key, str] = {}
        for chunk in (keys[:15], keys[15:]):
            got |= mine.place(dict.fromkeys(chunk, f"s{worker}"))
        return got

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(place, range(THREADS)))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0] == directory.lookup(KEYS, fresh=True)
    assert answers[0].keys() == set(KEYS)


PROCESS = """
import sys
from sqlalchemy import create_engine
from router.directory import DirectoryTable
url, name = sys.argv[1:]
directory = DirectoryTable(create_engine(url), "shop")
keys = [(number,) for number in range(40)]
print("ready", flush=True)
sys.stdin.readline()
placed = {}
for key in keys if name == "s0" else keys[::-1]:
    placed |= directory.place({key: name})
print(sorted(placed.items()))
"""


def test_processes_agree(engine: Engine, directory: DirectoryTable) -> None:
    """Two processes that start together place every key once."""
    url = engine.url.render_as_string(hide_password=False)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, url, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("s0", "s1")
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    answers = [worker.communicate("go\n", timeout=60)[0] for worker in workers]
    placed = directory.lookup(KEYS, fresh=True)
    assert answers == [f"{sorted(placed.items())}\n"] * 2
    assert len(placed) == len(KEYS)


def test_keys_that_are_too_long_are_refused(directory: DirectoryTable) -> None:
    """A key that the table would cut is an error for readers and writers."""
    longest: Key = ("x" * (MAX_KEY_BYTES - 2),)
    assert directory.place({longest: "s0"}) == {longest: "s0"}
    long: Key = ("x" * (MAX_KEY_BYTES - 1),)
    sentence = f"a directory holds keys of at most {MAX_KEY_BYTES} bytes, got {MAX_KEY_BYTES + 1}"
    with pytest.raises(KeyValueError, match=sentence):
        directory.lookup([long])
    with pytest.raises(KeyValueError, match=sentence):
        directory.place({(1,): "s0", long: "s0"})
    assert directory.lookup([(1,)], fresh=True) == {}


def test_nothing_to_do_asks_nothing(engine: Engine, directory: DirectoryTable) -> None:
    """Without keys there are no statements."""
    seen = statements(engine)
    assert directory.lookup([]) == {}
    assert directory.place({}) == {}
    assert seen == []


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    """The table is created on request only; the database's own error says what is missing."""
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(OperationalError, match="no such table"):
        DirectoryTable(engine, "shop").lookup([(1,)])
    engine.dispose()


def test_names_compare_by_their_bytes_on_mysql() -> None:
    """MySQL's usual collations ignore case, and its indexes have at most 3072 bytes."""
    from sqlalchemy import MetaData

    ddl = str(CreateTable(directory_table(MetaData())).compile(dialect=mysql.dialect()))
    assert ddl.count("CHARACTER SET ascii COLLATE ascii_bin") == 3
    assert 64 + 2 * MAX_KEY_BYTES < 3072
