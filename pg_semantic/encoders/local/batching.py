"""How much an encoder reads at once: batches of like length within a token budget that fits the machine."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence

log = logging.getLogger("pg_semantic.encoders")

FIRST = 2048
_BATCH = 1 / 32  # of the budget: what a batch costs beside its tokens, at most
_LIKE_THE_BEST = 0.97  # a smaller budget that is as fast as this is taken
_ROUNDS = 3
_PROBE_SECONDS = 3.0


class TokenBudget:
    """Tokens that an encoder reads at once, padding included: given, or tuned by a probe; less once memory ended."""

    def __init__(self, tokens: int | None) -> None:
        self.tokens = tokens or FIRST
        self.is_tuned = tokens is not None
        self._has_shrunk = False

    def batches(self, counts: Sequence[int], numbers: Sequence[int]) -> Iterator[list[int]]:
        """The numbers of texts in batches, longest first, whose padded size stays within the budget.

        The next batch begins, too, where the padding of one would cost more than another batch does.
        """
        batch: list[int] = []
        width = padding = 0
        for number in sorted(numbers, key=lambda number: -counts[number]):
            padding += width - counts[number]
            if batch and ((len(batch) + 1) * width > self.tokens or padding > self.tokens * _BATCH):
                yield batch
                batch = []
            if not batch:
                width, padding = max(1, counts[number]), 0
            batch.append(number)
        if batch:
            yield batch

    def shrink(self, tokens: int) -> None:
        """Keeps to half of what was too much."""
        self.tokens = max(1, min(self.tokens, tokens // 2))
        self.is_tuned = self._has_shrunk = True
        log.warning("out of memory at %d tokens: the budget is %d from now on", tokens, self.tokens)

    def tune(self, encode: Callable[[int], None], sizes: Sequence[int]) -> None:
        """Takes the smallest of the sizes that is about as fast as any; ``encode`` is to encode so many tokens.

        In rounds, as the speed of a machine changes; ended after a few seconds, or when memory ends.
        """
        self.is_tuned = True
        quickest = dict.fromkeys(sizes, math.inf)
        ends = time.monotonic() + _PROBE_SECONDS
        for size in list(sizes) * _ROUNDS:
            self.tokens = size
            quickest[size] = min(quickest[size], _seconds(encode, size))
            if self._has_shrunk or time.monotonic() > ends:
                break
        fitting = {size: seconds for size, seconds in quickest.items() if size <= self.tokens or not self._has_shrunk}
        rates = {size: size / seconds for size, seconds in fitting.items()} or {self.tokens: 0.0}
        self.tokens = min(size for size, rate in rates.items() if rate >= _LIKE_THE_BEST * max(rates.values()))
        log.info("token budget %d, of %s", self.tokens, ", ".join(f"{n}: {r:.0f}/s" for n, r in rates.items()))


def _seconds(encode: Callable[[int], None], size: int) -> float:
    started = time.perf_counter()
    encode(size)
    return max(time.perf_counter() - started, math.ulp(1.0))
