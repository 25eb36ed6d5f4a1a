"""``pg-semantic worker`` with an encoder that a test holds back: ``python -m tests.db.held_worker --json``.

It says on standard output what happens: ``encoding N`` when the encoder was given N texts, which then waits for a byte
on standard input; ``told`` when a signal was obeyed.
"""

import os
import socket
import sys
from collections.abc import Sequence
from unittest import mock

from pg_semantic import cli
from pg_semantic.cli import worker
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder

STDIN, STDOUT = 0, 1

_encode = HashedEncoder.encode_documents
_await = worker._await


def _held(encoder: HashedEncoder, texts: Sequence[str]) -> Vectors:
    os.write(STDOUT, b"encoding %d\n" % len(texts))
    os.read(STDIN, 1)
    return _encode(encoder, texts)


class _Announced:
    """Waits for a signal; when it is asked to again, the one before was obeyed."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, signals: socket.socket) -> None:
        if self._told:
            os.write(STDOUT, b"told\n")
        self._told = True
        _await(signals)


if __name__ == "__main__":
    sys.argv[1:1] = ["worker"]
    with (
        mock.patch.object(HashedEncoder, "encode_documents", _held),
        mock.patch.object(worker, "_await", _Announced()),
    ):
        cli.run()
