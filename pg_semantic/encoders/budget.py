"""How much an encoder reads at once: batches of like length within a token budget that fits the machine."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence

log = logging.getLogger("pg_semantic.encoders")

FIRST = 2048
_LIKE_THE_BEST = 0.97  # a smaller budget that is as fast as this is taken
_TRIES = 3
_PROBE_SECONDS = 3.0


class Budget:
    """Tokens that an encoder reads at once, padding included: given, or tuned by a probe; less once memory ended."""

    def __init__(self, tokens: int | None) -> None:
        self.tokens = tokens or FIRST
        self.is_tuned = tokens is not None
        self._has_shrunk = False

    def batches(self, counts: Sequence[int], numbers: Sequence[int]) -> Iterator[list[int]]:
        """The numbers of texts in batches, longest first, whose padded size stays within the budget."""
        batch: list[int] = []
        width = 0
        for number in sorted(numbers, key=lambda number: -counts[number]):
            if batch and (len(batch) + 1) * width > self.tokens:
                yield batch
                batch = []
            width = width if batch else max(1, counts[number])
            batch.append(number)
        if batch:
            yield batch

    def shrink(self, tokens: int) -> None:
        """Keeps to half of what was too much."""
        self.tokens = max(1, tokens // 2)
        self.is_tuned = self._has_shrunk = True
        log.warning("out of memory at %d tokens: the budget is %d from now on", tokens, self.tokens)

    def tune(self, encode: Callable[[int], None], sizes: Sequence[int]) -> None:
        """Takes the smallest of the sizes that is as fast as any; ``encode`` is to encode so many tokens."""
        self.is_tuned = True
        started = time.monotonic()
        rates: dict[int, float] = {}
        for size in sizes:
            if rates and time.monotonic() - started > _PROBE_SECONDS:
                break
            rates[size] = size / _quickest(encode, size)
        if not self._has_shrunk:
            self.tokens = min(size for size, rate in rates.items() if rate >= _LIKE_THE_BEST * max(rates.values()))
        log.info("token budget %d, of %s", self.tokens, ", ".join(f"{n}: {r:.0f}/s" for n, r in rates.items()))


def _quickest(encode: Callable[[int], None], size: int) -> float:
    moments = []
    for _ in range(_TRIES):
        moments.append(time.perf_counter())
        encode(size)
    moments.append(time.perf_counter())
    return max(min(after - before for before, after in itertools.pairwise(moments)), math.ulp(1.0))
