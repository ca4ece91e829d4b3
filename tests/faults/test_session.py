"""What SQLAlchemy's session promises of transactions holds over several databases."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, event, insert, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

from router import CrossShardError, Outcome, RoutingError, TransactionInDoubtError
from router.session import ending
from router.transaction.probes import Moment, probing
from router.transaction.protocol import Act, Deed
from tests.faults.ledger import (
    BALANCES,
    ENTRIES,
    WORLDS,
    Ledger,
    Ledgers,
    assert_whole,
    open_ledger,
    prepare,
    writes,
)
from tests.support.databases import MakeDatabases

EVENTS = ("before_commit", "after_commit", "after_rollback", "after_soft_rollback")


@pytest.fixture(params=list(WORLDS))
def ledger(request: pytest.FixtureRequest, ledgers: Ledgers) -> Ledger:
    """A ledger of each kind."""
    return ledgers.of(request.param)


def begun(ledger: Ledger) -> tuple[Session, list[str]]:
    """Return a session that has written everywhere, and the events that it has from now on."""
    session: Session = ledger.router.sessionmaker()()
    for statement in writes(ledger.router, ledger.begin()):
        session.execute(statement)
    heard: list[str] = []
    for name in EVENTS:
        event.listen(session, name, lambda *_, name=name: heard.append(name))
    return session, heard


def test_prepare_and_commit(ledger: Ledger) -> None:
    """Prepared, nobody else sees it; committed, everybody does, and one event tells it."""
    session, heard = begun(ledger)
    with session:
        session.prepare()
        assert len(ledger.router.in_doubt().branches) == 2
        session.commit()
    ledger.committed.add(ledger.number)
    assert heard == ["before_commit", "after_commit"]
    assert_whole(ledger.router, committed=ledger.committed)


@pytest.mark.parametrize("end", ["rollback", "close", "invalidate"])
def test_prepare_and_not_commit(ledger: Ledger, end: str) -> None:
    """What is prepared is rolled back, however the session lets go of it."""
    session, heard = begun(ledger)
    session.prepare()
    getattr(session, end)()
    session.close()
    ledger.router.recover(grace=0)
    assert "after_commit" not in heard
    assert_whole(ledger.router, committed=ledger.committed)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:The garbage collector:sqlalchemy.exc.SAWarning")
def test_prepared_and_forgotten(ledger: Ledger) -> None:
    """Collecting garbage commits nothing and rolls back nothing that is prepared."""
    session, _ = begun(ledger)
    session.prepare()
    del session
    gc.collect()
    assert ledger.router.in_doubt().branches
    ledger.router.recover(grace=0)
    assert_whole(ledger.router, committed=ledger.committed)


def fail(moment: Moment, act: Act) -> None:
    """Let somebody be unable to prepare."""
    if act.deed is Deed.PREPARE:
        raise ZeroDivisionError


def test_events_of_a_commit_that_fails(ledger: Ledger) -> None:
    """It was rolled back, and no event says anything else."""
    session, heard = begun(ledger)
    with session, probing(fail), pytest.raises(ZeroDivisionError):
        session.commit()
    assert heard == ["before_commit", "after_rollback", "after_soft_rollback"]
    assert_whole(ledger.router, committed=ledger.committed)


def test_in_doubt(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither committed nor rolled back, says the error, and no event; it is known later."""
    session, heard = begun(ledger)
    transaction: Any = session.get_transaction()
    with monkeypatch.context() as patched:
        # Nobody answers: the question, and not the server, is taken away.
        patched.setattr(ending, "_ask", lambda decider, gtid: None)
        session.prepare()
        transaction.ending._coordinator._decider.connection.invalidate()
        with pytest.raises(TransactionInDoubtError) as caught:
            session.commit()
    assert heard == ["before_commit"]
    assert set(caught.value.participants.values()) == {"no answer", "prepared"}
    # The session can be used again.
    assert session.execute(text("SELECT 1"), bind_arguments={"keyspace": "k0"}).scalar() == 1
    session.close()
    assert ledger.router.outcome(caught.value.gtid) is Outcome.ABORTED
    assert not [one for one in ledger.router.recover(grace=0) if one.is_open]
    assert_whole(ledger.router, committed=ledger.committed)
    for wrong in ("", "x" * 32, "0" * 32):
        with pytest.raises(RoutingError, match="R412"):
            ledger.router.outcome(wrong)


def test_savepoints(ledger: Ledger) -> None:
    """What a savepoint undoes is not committed; the rest is."""
    session, _ = begun(ledger)
    with session:
        savepoint = session.begin_nested()
        session.execute(insert(ENTRIES[1]).values(id=-1))
        savepoint.rollback()
        with session.begin_nested(), pytest.raises(InvalidRequestError, match="can't prepare"):
            session.get_nested_transaction().prepare()  # type: ignore[union-attr]
        session.commit()
    ledger.committed.add(ledger.number)
    assert_whole(ledger.router, committed=ledger.committed)


def test_readers_are_not_asked(ledger: Ledger) -> None:
    """One writer commits alone, and its database keeps no log of it."""
    for at in range(3):
        with ledger.router.sessionmaker().begin() as session:
            session.execute(insert(ENTRIES[at]).values(id=-7))
            for other in range(3):
                session.execute(ENTRIES[other].select())
        with ledger.router.engines[f"b{at}"].begin() as connection:
            assert connection.execute(ENTRIES[at].delete().where(ENTRIES[at].c.id == -7)).rowcount
    assert ledger.forgets()
    assert_whole(ledger.router, committed=ledger.committed)


@pytest.mark.parametrize("locks", [True, False])
def test_locks_outlast_the_commit(make_databases: MakeDatabases, locks: bool) -> None:
    """A row that was only locked guards what is written elsewhere until that is committed."""
    heard: list[tuple[str, str]] = []
    with open_ledger(make_databases("postgresql", 2)) as router, router.sessionmaker()() as session:
        prepare(router)
        for name, engine in router.engines.items():
            event.listen(engine, "commit", lambda *_, name=name: heard.append(("commit", name)))
            event.listen(engine, "checkin", lambda *_, name=name: heard.append(("release", name)))
        query = BALANCES[1].select()
        session.execute(query.with_for_update() if locks else query)
        session.execute(insert(ENTRIES[0]).values(id=1))
        session.commit()
    first = [("commit", "b0"), ("release", "b0") if locks else ("commit", "b1")]
    assert heard[:2] == first


def test_rows_of_the_log_go(make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the decider deletes what every participant has acknowledged."""
    with open_ledger(make_databases("postgresql", 2)) as router:
        prepare(router)
        monkeypatch.setattr(router.wiring.branches.journal, "_at_once", 5)
        for number in range(12):
            with router.sessionmaker().begin() as session:
                for statement in writes(router, number):
                    session.execute(statement)
        with router.engines["b0"].connect() as connection:
            rows = text("SELECT count(*) FROM router_commit_log WHERE verdict = 'C'")
            assert connection.execute(rows).scalar_one() == 2


@pytest.fixture
def stranger(make_databases: MakeDatabases) -> Iterator[Any]:
    """An engine that no map knows."""
    engine = create_engine(make_databases("postgresql", 1)[0])
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id int)"))
    yield engine
    engine.dispose()


def test_a_database_that_is_not_in_the_map(ledgers: Ledgers, stranger: Any) -> None:
    """Nobody could recover it; so it commits alone or not at all."""
    ledger = ledgers.of("postgresql")
    with ledger.router.sessionmaker()() as session:
        session.execute(insert(ENTRIES[0]).values(id=ledger.begin()))
        with pytest.raises(CrossShardError, match=r"R401.*not in the map"):
            session.execute(text("INSERT INTO t VALUES (1)"), bind_arguments={"bind": stranger})
    assert_whole(ledger.router, committed=ledger.committed)


def test_no_log(make_databases: MakeDatabases) -> None:
    """Without its table a database commits alone; together with others it is refused."""
    for kind in ("postgresql", "mariadb"):
        with open_ledger(make_databases(kind, 2)) as router:
            prepare(router)
            with router.engines["b1"].begin() as connection:
                connection.execute(text("DROP TABLE router_commit_log"))
            with router.sessionmaker().begin() as session:
                session.execute(insert(ENTRIES[1]).values(id=1))
            with router.sessionmaker()() as session:
                for statement in writes(router, 2):
                    session.execute(statement)
                with pytest.raises(CrossShardError, match=r"R402.*b1"):
                    session.commit()
