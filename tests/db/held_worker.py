"""``pg-semantic worker`` with an encoder that a test holds back: ``python -m tests.db.held_worker --json``.

Before each batch it says on standard output how many texts it was given, and waits for a byte on standard input.
"""

import os
import sys
from collections.abc import Sequence
from unittest import mock

from pg_semantic import cli
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder

STDIN = 0

_encode = HashedEncoder.encode_documents


def _held(encoder: HashedEncoder, texts: Sequence[str]) -> Vectors:
    sys.stdout.write(f"encoding {len(texts)}\n")
    sys.stdout.flush()
    os.read(STDIN, 1)
    return _encode(encoder, texts)


if __name__ == "__main__":
    with mock.patch.object(HashedEncoder, "encode_documents", _held):
        sys.argv[1:1] = ["worker"]
        cli.run()
