"""A transaction pooler as pgbouncer is in transaction mode, and a nasty one: every transaction meets another backend.

A backend keeps the settings, temporary tables and prepared statements that whoever had it left there, and a client
finds none of its own. Only what the tests need of the protocol is here; requests to cancel are not.
"""

import contextlib
import select
import socket
import socketserver
import threading
from collections import defaultdict
from collections.abc import Iterator

import sqlalchemy as sa

# The codes of SSLRequest and GSSENCRequest, which come in place of a startup message.
_ENCRYPTION_REQUESTS = (80877103, 80877104)

# An odd number, or a client that does a thing every other transaction would always do it in the same place.
_IDLE = 3


class _Pooler(socketserver.ThreadingTCPServer):
    """Backends are kept by the startup message that they were logged in with."""

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Client)
        self._server = server
        self._idle: dict[bytes, list[socket.socket]] = defaultdict(list)
        self._lock = threading.Lock()
        self.clients: set[socket.socket] = set()

    def take(self, startup: bytes) -> socket.socket:
        """The backend that has been idle for the longest, of several: so it is not that of the transaction before."""
        with self._lock:
            idle = self._idle[startup]
            if len(idle) >= _IDLE:
                return idle.pop(0)
        return self.log_in(startup)[0]

    def put_back(self, startup: bytes, backend: socket.socket) -> None:
        with self._lock:
            self._idle[startup].append(backend)

    def log_in(self, startup: bytes) -> tuple[socket.socket, bytes]:
        """A new backend and all that it says in greeting; the server must ask for no password."""
        backend = socket.socket(socket.AF_UNIX)
        backend.connect(self._server)
        backend.sendall(startup)
        said = [_receive(backend)]
        while said[-1][:1] not in b"ZE":  # ReadyForQuery, ErrorResponse
            said.append(_receive(backend))
        return backend, b"".join(said)

    def close(self) -> None:
        self.shutdown()
        for client in list(self.clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self.server_close()  # waits for the threads of the clients
        for backend in [backend for idle in self._idle.values() for backend in idle]:
            backend.close()


class _Client(socketserver.BaseRequestHandler):
    """A client's connection, on a thread of its own."""

    server: _Pooler
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.clients.add(self.request)
        with contextlib.suppress(EOFError, OSError):  # the client is gone, or the test is over
            self._serve()
        self.server.clients.discard(self.request)

    def _serve(self) -> None:
        startup = self._startup()
        backend, welcome = self.server.log_in(startup)
        backend.close()  # as with pgbouncer, the process that a client is told of is none that it ever meets
        self.request.sendall(welcome)
        while (message := _receive(self.request))[:1] != b"X":  # Terminate
            backend = self.server.take(startup)
            try:
                self._relay_transaction(message, backend)
            except BaseException:
                backend.close()  # and the server rolls back
                raise
            self.server.put_back(startup, backend)

    def _startup(self) -> bytes:
        """The first message, which has no type; offers of encryption are declined."""
        while True:
            length = _exactly(self.request, 4)
            body = _exactly(self.request, int.from_bytes(length) - 4)
            if int.from_bytes(body[:4]) not in _ENCRYPTION_REQUESTS:
                return length + body
            self.request.sendall(b"N")

    def _relay_transaction(self, message: bytes, backend: socket.socket) -> None:
        """Passes messages both ways until the backend has answered all and says that it is in no transaction.

        COPY is expected as a simple query, as psycopg sends it: in the extended protocol a Sync would go unanswered.
        """
        unanswered = 0
        sender = self.request
        while True:
            if sender is self.request:
                unanswered += message[:1] in b"QFS"  # Query, FunctionCall, Sync
                backend.sendall(message)
            else:
                unanswered -= message[:1] == b"Z"
                self.request.sendall(message)
                if message[:1] == b"Z" and message[5:] == b"I" and not unanswered:
                    return
            sender = select.select([backend, self.request], [], [])[0][0]
            message = _receive(sender)


def _receive(sender: socket.socket) -> bytes:
    """One message: a type, the length of what follows, and that."""
    head = _exactly(sender, 5)
    return head + _exactly(sender, int.from_bytes(head[1:]) - 4)


def _exactly(sender: socket.socket, size: int) -> bytes:
    """So many bytes. Not with MSG_WAITALL, which can wait forever for the end of a message that is there."""
    received = bytearray()
    while len(received) < size:
        if not (part := sender.recv(size - len(received))):
            raise EOFError
        received += part
    return bytes(received)


@contextlib.contextmanager
def running(dsn: str) -> Iterator[str]:
    """The DSN of a pooler before a server that listens at a Unix socket."""
    url = sa.make_url(dsn)
    pooler = _Pooler(f"{url.query['host']}/.s.PGSQL.{url.port or 5432}")
    thread = threading.Thread(target=pooler.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        there = url.set(host="127.0.0.1", port=pooler.server_address[1], query={})
        yield there.render_as_string(hide_password=False)
    finally:
        pooler.close()
        thread.join()
