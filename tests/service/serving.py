"""The service over real sockets: in this process, with an encoder that a test holds back, or as the process it is."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa
import uvicorn

from pg_semantic import encoders as loading
from pg_semantic.encoders import Encoder
from pg_semantic.service import app, server
from pg_semantic.service.dependencies import ServiceContext
from pg_semantic.settings import Settings

PATIENCE_SECONDS = 30
KEY = "a-key-for-the-tests"
_BASE = re.compile(r"serving on (http://[\w.:\[\]]+)")


@contextlib.contextmanager
def running(
    *served: Encoder, engine: sa.Engine | None = None, rerankers: tuple[str, ...] = (), **settings: Any
) -> Iterator[httpx2.Client]:
    """A client of a service that has these encoders, on a thread of this process."""
    context = prepared(*served, engine=engine, rerankers=rerankers, **settings)
    config = uvicorn.Config(app.build(context), port=0, log_config=None, access_log=False, timeout_graceful_shutdown=5)
    listening = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            listening.set()

    serving = Server(config)
    thread = threading.Thread(target=serving.run, daemon=True)
    thread.start()
    try:
        assert listening.wait(PATIENCE_SECONDS)
        port = serving.servers[0].sockets[0].getsockname()[1]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
            yield client
    finally:
        serving.should_exit = True
        thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def announced(client: httpx2.Client, size: int) -> int:
    """The status that a request gets which says how large its body is and sends none of it."""
    address = (client.base_url.host, client.base_url.port or 0)
    with socket.create_connection(address, timeout=PATIENCE_SECONDS) as connection:
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
        connection.sendall(head.encode())
        return int(connection.recv(1000).split()[1])


def prepared(*served: Encoder, engine: sa.Engine | None, rerankers: tuple[str, ...], **settings: Any) -> ServiceContext:
    """What a service shares that has these encoders, under their references."""
    known = {encoder.reference: encoder for encoder in served}
    serving = server.ServeOptions(tuple(known), rerankers)

    def load(reference: str, **how: Any) -> Encoder:
        return known.get(reference) or loading.load(reference, **how)

    return server.prepare(Settings(**settings), serving, load=load, engine=engine)


@dataclass
class Process:
    """``pg-semantic serve`` in a process of its own, its standard error read line by line."""

    running: subprocess.Popen[str]
    url: str = ""
    lines: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def listen(self) -> None:
        """Waits until it listens."""
        assert self.running.stderr is not None
        for line in self.running.stderr:
            self.lines.append(line)
            if found := _BASE.search(line):
                self.url = found[1]
                break
        threading.Thread(target=self._read, daemon=True).start()
        assert self.url, self.log

    @property
    def log(self) -> str:
        """What it has logged."""
        return "".join(self.lines)

    def end(self) -> int:
        """Waits for its end; its exit code."""
        code = self.running.wait(PATIENCE_SECONDS)
        self._ended.wait(PATIENCE_SECONDS)
        return code

    def _read(self) -> None:
        assert self.running.stderr is not None
        self.lines.extend(self.running.stderr)
        self._ended.set()


@contextlib.contextmanager
def process(*arguments: str, folder: Path, **environment: str) -> Iterator[Process]:
    """The command as a person runs it, on a free port; killed at the end if it still runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG_SEMANTIC_")}
    with subprocess.Popen(
        [sys.executable, "-m", "pg_semantic.cli", "serve", "--port", "0", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=kept | environment,
    ) as started:
        serving = Process(started)
        try:
            serving.listen()
            yield serving
        finally:
            started.kill()
            serving.end()
