"""One set of database servers for a whole test run, however many processes it has.

The main process owns the servers and starts each kind when somebody first asks for it.
Workers of pytest-xdist ask over a local connection; where there are none, the call is direct.
"""

from __future__ import annotations

import os
import secrets
import threading
from contextlib import ExitStack
from multiprocessing.connection import Client, Listener
from typing import Protocol

from router.testing.servers import MariaDBServer, PostgresServer, Server, ServerError, running

KINDS: dict[str, type[Server]] = {"postgresql": PostgresServer, "mariadb": MariaDBServer}
SERVERS_OF_A_KIND = 2
EXTERNAL_VARIABLES = {"mariadb": "ROUTER_TEST_MYSQL_URLS"}
"""Variables that name servers which run already, as URLs separated by commas."""


class Servers(Protocol):
    """Where the servers' URLs come from."""

    def urls(self, kind: str) -> list[str]:
        """Return the URLs of the servers of a kind, which run when this returns."""


class Broker:
    """Owns the servers; lives in the main process of a test run."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self._urls: dict[str, list[str]] = {}
        self._key = secrets.token_bytes(16)
        self._listener: Listener | None = None

    def urls(self, kind: str) -> list[str]:
        """Return the URLs of the servers of a kind; start them first if nobody has."""
        if kind not in self._urls:
            self._urls[kind] = _external(kind) or self._start(kind)
        return self._urls[kind]

    def _start(self, kind: str) -> list[str]:
        servers = [KINDS[kind]() for _ in range(SERVERS_OF_A_KIND)]
        self._running.enter_context(running(*servers))
        return [server.url().render_as_string(hide_password=False) for server in servers]

    def address(self) -> dict[str, str | int]:
        """Return what a worker needs to ask; listen for it from now on."""
        if self._listener is None:
            self._listener = Listener(("127.0.0.1", 0), authkey=self._key)
            threading.Thread(target=self._serve, args=[self._listener], daemon=True).start()
        host, port = self._listener.address
        return {"host": str(host), "port": int(port), "key": self._key.hex()}

    def _serve(self, listener: Listener) -> None:
        # One request after another, so that no server is started twice.
        while True:
            try:
                connection = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.send(self.urls(connection.recv()))
                except ServerError as error:
                    connection.send(error)

    def close(self) -> None:
        """Stop all servers."""
        if self._listener is not None:
            self._listener.close()
        self._running.close()


class RemoteBroker:
    """The broker, as a worker sees it."""

    def __init__(self, address: dict[str, str | int]) -> None:
        self._address = (str(address["host"]), int(address["port"]))
        self._key = bytes.fromhex(str(address["key"]))

    def urls(self, kind: str) -> list[str]:
        """Return the URLs of the servers of a kind, which run when this returns."""
        with Client(self._address, authkey=self._key) as connection:
            connection.send(kind)
            answer = connection.recv()
        if isinstance(answer, ServerError):
            raise answer
        urls: list[str] = answer
        return urls


def _external(kind: str) -> list[str]:
    named = os.environ.get(EXTERNAL_VARIABLES.get(kind, ""), "")
    return [url.strip() for url in named.split(",") if url.strip()]
