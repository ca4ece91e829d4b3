"""Primaries with real replicas: streaming on PostgreSQL, by GTID on MariaDB."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Self

import psycopg
import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.pool import NullPool

from router.testing.servers import MariaDBServer, PostgresServer, Server, ServerError, flags
from router.testing.servers.places import HOST
from router.testing.servers.postgres import SUPERUSER
from tests.support.databases import autocommit, query
from tests.support.processes import eventually

REPLICAS = 2


class Proxy:
    """A port before a server that can be cut, and mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._is_cut = False
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections, and take no more."""
        with self._lock:
            self._is_cut = True
        self.drop()

    def stall(self) -> None:
        """Take connections, and let nothing through, until mended or cut."""
        self._flows.clear()

    def drop(self) -> None:
        """End all connections there are."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._flows.set()

    def mend(self) -> None:
        """Take connections again, and let everything through."""
        self._flows.set()
        with self._lock:
            self._is_cut = False

    def turn(self, port: int) -> None:
        """Stand before another server from now on."""
        with self._lock:
            self._target = port
        self.drop()

    def close(self) -> None:
        """End everything."""
        self.cut()
        with suppress(OSError):
            # Wakes whoever waits for a connection.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_cut:
                    near.close()
                    continue
                try:
                    far = socket.create_connection((HOST, self._target))
                except OSError:
                    near.close()
                    continue
                self._open += [near, far]
            threading.Thread(target=self._join, args=(near, far), daemon=True).start()

    def _join(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far)
            back.join()
            with self._lock:
                self._open = [one for one in self._open if one not in (near, far)]

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Replicated(ABC):
    """A primary and its replicas, each replica behind a `Proxy`."""

    kind: ClassVar[str]
    server_id: ClassVar[str]
    """The query that tells servers apart."""

    def __init__(self) -> None:
        self.primary: Server
        self.replicas: list[Server] = []
        self.proxies: list[Proxy] = []
        self._killed: set[int] = set()
        self._promoted: set[int] = set()

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Start everything; stop it at the end."""
        with ExitStack() as stack:
            self.primary = stack.enter_context(self._make_primary())
            for number in range(REPLICAS):
                server = stack.enter_context(self._make_replica(number))
                proxy = Proxy(server.port)
                stack.callback(proxy.close)
                self.replicas.append(server)
                self.proxies.append(proxy)
                self._follow(number)
            yield self

    def database(self) -> str:
        """Create a database on the primary, which the replicas then have; return its name."""
        name = f"app_{secrets.token_hex(6)}"
        with autocommit(_text(self.primary.url())) as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        self.catch_up()
        return name

    def drop(self, name: str) -> None:
        """Drop a database."""
        self.restore()
        with autocommit(_text(self.primary.url())) as connection:
            connection.execute(text(f"DROP DATABASE {name}{self._force}"))

    _force: ClassVar[str] = ""

    def url(self, name: str) -> str:
        """Return the URL of a database on the primary."""
        return _text(self.primary.url(name))

    def replica_url(self, number: int, name: str) -> str:
        """Return the URL of a database on a replica."""
        return _text(self.replicas[number].url(name).set(port=self.proxies[number].port))

    def catch_up(self) -> None:
        """Wait until all replicas that are left have everything."""
        self.catch_up_with(*self.alive)

    def catch_up_with(self, *numbers: int) -> None:
        """Wait until these replicas have everything."""
        wanted = self._written()
        for number in numbers:
            assert eventually(lambda number=number: self._has(number, wanted))

    def restore(self) -> None:
        """Mend and resume everything."""
        for number in self.alive:
            self.proxies[number].mend()
            self.resume(number)

    @property
    def alive(self) -> list[int]:
        """The replicas that have not been killed, nor promoted."""
        gone = self._killed | self._promoted
        return [number for number in range(REPLICAS) if number not in gone]

    def kill(self, number: int) -> None:
        """Kill a replica's process, for good."""
        self._killed.add(number)
        os.kill(self.replicas[number].pid, signal.SIGKILL)

    def identity(self, number: int | None = None) -> object:
        """Return what `server_id` answers on a replica, or on the primary."""
        server = self.primary if number is None else self.replicas[number]
        return query(server.url(), self.server_id)[0][0]

    @abstractmethod
    def pause(self, number: int = 0) -> None:
        """Let a replica replay nothing from now on."""

    @abstractmethod
    def resume(self, number: int = 0) -> None:
        """Let a replica replay again."""

    @abstractmethod
    def promote(self, number: int) -> None:
        """Let a replica replay nothing any more, and take writes of its own, for good."""

    @abstractmethod
    def _make_primary(self) -> Server: ...

    @abstractmethod
    def _make_replica(self, number: int) -> Server: ...

    @abstractmethod
    def _follow(self, number: int) -> None: ...

    @abstractmethod
    def _written(self) -> object: ...

    @abstractmethod
    def _has(self, number: int, wanted: object) -> bool: ...


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


# -- PostgreSQL --------------------------------------------------------------------------------


class _Primary(PostgresServer):
    def _command(self, data: Path) -> list[str]:
        return [*super()._command(data), "-c", "wal_writer_delay=10ms"]

    def _greet(self) -> None:
        super()._greet()
        _as_superuser(self, f"ALTER ROLE {flags.ROLE} REPLICATION")


class _Standby(PostgresServer):
    def __init__(self, primary: PostgresServer, name: str) -> None:
        super().__init__()
        self._primary = primary
        self._name = name

    def _initialise(self, data: Path) -> None:
        conninfo = (
            f"host={HOST} port={self._primary.port} user={flags.ROLE} "
            f"password={flags.password()} application_name={self._name}"
        )
        program = self._bin / "pg_basebackup"
        self._tool([program, "-D", data, "-d", conninfo, "-R", "--checkpoint=fast", "--no-sync"])

    def _command(self, data: Path) -> list[str]:
        status = ("-c", "wal_receiver_status_interval=1s", "-c", f"cluster_name={self._name}")
        return [*super()._command(data), *status]

    def _greet(self) -> None:
        psycopg.connect(
            host=str(self.run), port=self.port, user=SUPERUSER, dbname="postgres"
        ).close()


def _as_superuser(server: PostgresServer, statement: str) -> object:
    with psycopg.connect(
        host=str(server.run), port=server.port, user=SUPERUSER, dbname="postgres", autocommit=True
    ) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


class ReplicatedPostgres(Replicated):
    """Streaming replication."""

    kind = "postgresql"
    server_id = "SELECT current_setting('cluster_name')"
    _force = " WITH (FORCE)"

    def _make_primary(self) -> Server:
        return _Primary()

    def _make_replica(self, number: int) -> Server:
        assert isinstance(self.primary, PostgresServer)
        return _Standby(self.primary, f"replica{number}")

    def _follow(self, number: int) -> None:
        pass

    def pause(self, number: int = 0) -> None:
        """Let a replica replay nothing from now on."""
        self._on(number, "SELECT pg_wal_replay_pause()")
        state = "SELECT pg_get_wal_replay_pause_state()"
        assert eventually(lambda: self._on(number, state) == "paused")

    def resume(self, number: int = 0) -> None:
        """Let a replica replay again."""
        self._on(number, "SELECT pg_wal_replay_resume()")

    def promote(self, number: int) -> None:
        """Let a replica replay nothing any more, and take writes of its own, for good."""
        self._promoted.add(number)
        assert self._on(number, "SELECT pg_promote()")

    def _on(self, number: int, statement: str) -> object:
        server = self.replicas[number]
        assert isinstance(server, PostgresServer)
        return _as_superuser(server, statement)

    def _written(self) -> object:
        assert isinstance(self.primary, PostgresServer)
        # Nothing is written to the disk for this long where nobody waits for it.
        return _as_superuser(self.primary, "SELECT pg_current_wal_insert_lsn()")

    def _has(self, number: int, wanted: object) -> bool:
        # Of the header of a page that nothing is written to yet, nothing is replayed.
        return bool(self._on(number, f"SELECT pg_last_wal_replay_lsn() >= '{wanted}'::pg_lsn - 40"))


# -- MariaDB -----------------------------------------------------------------------------------


class _Maria(MariaDBServer):
    def __init__(self, number: int, *more: str) -> None:
        super().__init__()
        self._more = (f"--server-id={number}", "--gtid-strict-mode=ON", *more)

    def _command(self, data: Path) -> list[str]:
        return [*super()._command(data), *self._more]

    def _first_statements(self) -> Path:
        file = super()._first_statements()
        rights = "RELOAD, READ_ONLY ADMIN, BINLOG MONITOR, REPLICATION SLAVE"
        rights += ", REPLICATION SLAVE ADMIN"
        with file.open("a", encoding="utf-8") as out:
            out.write(f"GRANT {rights} ON *.* TO '{flags.ROLE}'@'%';\n")
        return file


class ReplicatedMariaDB(Replicated):
    """Replication by GTID."""

    kind = "mariadb"
    server_id = "SELECT @@server_id"

    def _make_primary(self) -> Server:
        trusting = "--log-bin-trust-function-creators=ON"
        return _Maria(1, "--log-bin=log", "--binlog-format=ROW", trusting)

    def _make_replica(self, number: int) -> Server:
        return _Maria(2 + number, "--read-only=ON")

    def _follow(self, number: int) -> None:
        change = (
            f"CHANGE MASTER TO MASTER_HOST='{HOST}', MASTER_PORT={self.primary.port}, "
            f"MASTER_USER='{flags.ROLE}', MASTER_PASSWORD='{flags.password()}', "
            "MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1"
        )
        self._on(number, change, "START SLAVE")

    def pause(self, number: int = 0) -> None:
        """Let a replica replay nothing from now on."""
        self._on(number, "STOP SLAVE SQL_THREAD")

    def resume(self, number: int = 0) -> None:
        """Let a replica replay again."""
        self._on(number, "START SLAVE SQL_THREAD")

    def promote(self, number: int) -> None:
        """Let a replica replay nothing any more, and take writes of its own, for good."""
        self._promoted.add(number)
        self._on(number, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = OFF")

    def _on(self, number: int, *statements: str) -> object:
        engine = create_engine(self.replicas[number].url(), poolclass=NullPool)
        with engine.connect() as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement)
            return result.scalar() if result.returns_rows else None

    def _written(self) -> object:
        return query(self.primary.url(), "SELECT @@global.gtid_binlog_pos")[0][0]

    def _has(self, number: int, wanted: object) -> bool:
        return self._on(number, f"SELECT MASTER_GTID_WAIT('{wanted}', 0)") == 0


KINDS: dict[str, type[Replicated]] = {
    "postgresql": ReplicatedPostgres,
    "mariadb": ReplicatedMariaDB,
}


@contextmanager
def replicated(kind: str) -> Iterator[Replicated]:
    """Yield a primary with replicas, running; skip the test where they are not installed."""
    with ExitStack() as stack:
        try:
            servers = stack.enter_context(KINDS[kind]().running())
        except ServerError as error:
            if error.id != "R601":
                raise
            pytest.skip(f"NOT RUN, no server: {error.what}")
        yield servers
