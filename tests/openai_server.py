"""A real HTTP server that speaks OpenAI's ``/v1/embeddings`` and ``/v1/models``; faults are played to it by a test."""

import base64
import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from pg_semantic.encoders.hashed import HashedEncoder

DIMENSIONS = 32


@dataclass(frozen=True)
class Request:
    """A request as it came in, with the moment of the clock that only goes forward."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float

    @property
    def texts(self) -> list[str]:
        return list(self.body["input"])


@dataclass(frozen=True)
class Reply:
    """An answer other than vectors; ``after`` is waited for before it is sent."""

    status: int = 200
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    after: threading.Event | None = None


class Server:
    """Answers with the vectors of `HashedEncoder`, last first, unless ``next`` or ``rule`` has another answer."""

    def __init__(self) -> None:
        self.encoder = HashedEncoder(DIMENSIONS)
        self.requests: list[Request] = []
        self.next: deque[Reply] = deque()
        self.rule: Callable[[Request], Reply | None] = lambda _: None
        self.models: Reply = Reply(404)
        self.knows_base64 = True
        self.truncates = False
        self.tokens_per_text: int | None = None  # as it reports them
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self.base = "/v1"
        self.elsewhere = Reply(404)
        self.url = ""

    def answer(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            planned = self.next.popleft() if self.next else None
        try:
            reply = planned or self.rule(request) or Reply(200, self.vectors(request))
            if reply.after is not None:
                reply.after.wait(20)
                return Reply(reply.status, reply.body or self.vectors(request), reply.headers)
            return reply
        finally:
            with self._lock:
                self._at_once -= 1

    def vectors(self, request: Request) -> dict[str, Any]:
        """What OpenAI would answer, but for the order."""
        data = []
        for index, vector in enumerate(self.encoder.encode_documents(request.texts)):
            shown = vector[: request.body.get("dimensions")] if self.truncates else vector
            data.append({"object": "embedding", "index": index, "embedding": self._written(shown)})
        tokens = (self.tokens_per_text or 0) * len(data)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens} if self.tokens_per_text is not None else {}
        return {"object": "list", "model": request.body["model"], "data": data[::-1], "usage": usage}

    def _written(self, vector: np.ndarray[Any, np.dtype[np.float32]]) -> str | list[float]:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode() if self.knows_base64 else vector.tolist()


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server on a free port of this machine."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(server.models if self.path == f"{server.base}/models" else Reply(404))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, headers, body, time.monotonic())
            self._send(server.answer(request) if self.path == f"{server.base}/embeddings" else server.elsewhere)

        def _send(self, reply: Reply) -> None:
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client waits no longer
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    listening.block_on_close = False
    server.url = f"http://127.0.0.1:{listening.server_port}/v1"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
