"""Real database servers for tests and the demo, started and stopped by the program itself.

>>> with PostgresServer() as server:
...     engine = create_engine(server.url())
"""

from router.testing.servers.errors import ServerError
from router.testing.servers.mariadb import MariaDBServer
from router.testing.servers.places import cache_directory
from router.testing.servers.postgres import PostgresServer
from router.testing.servers.process import Durability, Server, running

__all__ = [
    "Durability",
    "MariaDBServer",
    "PostgresServer",
    "Server",
    "ServerError",
    "cache_directory",
    "running",
]
