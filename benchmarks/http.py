"""A cheap HTTP/1.1 client for benchmarks of a server: one connection, one request at a time."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and how long it took, in seconds."""

    status: int
    seconds: float
    body: bytes


@dataclass(slots=True)
class Answers:
    """The responses of all clients in one phase."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Returns the requests per second that were answered with 200."""
        return len(self.latencies) / self.seconds

    def add(self, answer: Answer) -> None:
        """Counts a response."""
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        if answer.status == 200:
            self.latencies.append(answer.seconds)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def post(self, path: str, body: dict[str, Any]) -> Answer:
        """Sends JSON and waits for the response."""
        started = time.perf_counter()
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        status, answered = await self._read()
        return Answer(status, time.perf_counter() - started, answered)

    async def _read(self) -> tuple[int, bytes]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), await self._reader.readexactly(int(headers["content-length"]))


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    """Connects to a server on this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def load(port: int, bodies: Iterator[dict[str, Any]], *, path: str, clients: int, seconds: float) -> Answers:
    """Runs concurrent clients. Each sends its next request when it has a response, and after a 429 waits first."""
    answers = Answers()
    started = time.perf_counter()

    async def ask() -> None:
        async with connected(port) as client:
            while time.perf_counter() - started < seconds:
                answer = await client.post(path, next(bodies))
                answers.add(answer)
                if answer.status == 429:
                    await asyncio.sleep(1)  # as its Retry-After header says

    await asyncio.gather(*(ask() for _ in range(clients)))
    answers.seconds = time.perf_counter() - started
    return answers
