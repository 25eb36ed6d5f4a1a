"""``pg-semantic worker`` with an encoder that a test holds back: ``python -m tests.db.held_worker --json``.

It says on standard output what happens: ``encoding N`` when the encoder was given N texts, which then waits for a byte
on standard input; ``told`` when a signal was obeyed.
"""

import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from unittest import mock

from pg_semantic import cli
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder

STDIN, STDOUT = 0, 1
_LOOK_SECONDS = 0.05  # as an encoder does, it comes back to Python now and then, where signals are seen

_encode = HashedEncoder.encode_documents
_signal = signal.signal


def _held(encoder: HashedEncoder, texts: Sequence[str]) -> Vectors:
    os.write(STDOUT, b"encoding %d\n" % len(texts))
    while not select.select([STDIN], [], [], _LOOK_SECONDS)[0]:
        pass
    os.read(STDIN, 1)
    return _encode(encoder, texts)


def _announced(number: int, handler: Callable[..., object]) -> object:
    def obey(*arguments: object) -> None:
        handler(*arguments)
        os.write(STDOUT, b"told\n")

    return _signal(number, obey)


if __name__ == "__main__":
    sys.argv[1:1] = ["worker"]
    with mock.patch.object(HashedEncoder, "encode_documents", _held), mock.patch.object(signal, "signal", _announced):
        cli.run()
