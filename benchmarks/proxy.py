"""A TCP proxy that makes a server far away: every byte is late, in both directions.

Runs in a process of its own, so that its work does not count: ``python -m benchmarks.proxy``.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

Queue = asyncio.Queue[tuple[float, bytes]]


@contextmanager
def far(host: str, port: int, milliseconds: float) -> Iterator[int]:
    """Yield the port of a proxy to a server that is `milliseconds` away, each way."""
    command = [sys.executable, "-m", "benchmarks.proxy", host, str(port), str(milliseconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())  # type: ignore[union-attr]
        finally:
            process.terminate()


async def serve(host: str, port: int, seconds: float) -> None:
    """Accept connections on a free port, whose number is printed, until the process ends."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(
            delay(reader, server_writer, seconds), delay(server_reader, writer, seconds)
        )

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def delay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Pass on what is read, each piece `seconds` after it came."""
    queue: Queue = asyncio.Queue()
    sending = asyncio.create_task(send(queue, writer))
    clock = asyncio.get_running_loop().time
    data = b"begin"
    while data:
        try:
            data = await reader.read(1 << 16)
        except ConnectionError:
            data = b""
        queue.put_nowait((clock() + seconds, data))
    await sending


async def send(queue: Queue, writer: asyncio.StreamWriter) -> None:
    """Write each piece when it is due; an empty one ends the connection."""
    clock = asyncio.get_running_loop().time
    data = b"begin"
    while data:
        due, data = await queue.get()
        await asyncio.sleep(due - clock())
        writer.write(data)
    writer.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000))
