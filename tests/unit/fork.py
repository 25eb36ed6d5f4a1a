"""A process that forks while its encoder is at work: both then ask for a vector. Run by `test_batching_encoder`."""

import os
import sys
import threading
from collections.abc import Sequence

from pg_semantic.encoders import BatchingEncoder, Vectors
from pg_semantic.encoders.hashed import HashedEncoder


class HeldInTheFirst(HashedEncoder):
    """Waits to be let go in the process that made it, and in no other."""

    def __init__(self) -> None:
        super().__init__(8)
        self._process = os.getpid()
        self.begun, self.free = threading.Event(), threading.Event()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        if os.getpid() == self._process:
            self.begun.set()
            self.free.wait()
        return super().encode_queries(texts)


def main() -> None:
    encoder = HeldInTheFirst()
    queries = BatchingEncoder(encoder)
    threading.Thread(target=queries.encode, args=["first"], daemon=True).start()
    encoder.begun.wait()
    with queries._threads.get()._lock:  # as a thread may have it that does not live on in the child
        child = os.fork()
        if child == 0:
            _say("child", queries)
            os._exit(0)
    os.waitpid(child, 0)
    encoder.free.set()
    _say("parent", queries)


def _say(who: str, queries: BatchingEncoder) -> None:
    sys.stdout.write(f"{who} {queries.encode('tea').shape == (8,)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
