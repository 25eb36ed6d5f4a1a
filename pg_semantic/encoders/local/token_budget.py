"""Batches texts of similar length within a token budget that suits the machine."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence

log = logging.getLogger("pg_semantic.encoders")

FIRST = 2048
OF_A_TABLE = 1 << 17
"""The budget of a table of word vectors, which computes so little that the fixed cost of a batch matters."""

_BATCH = 1 / 32  # upper bound for the fixed cost of a batch, as a fraction of the budget
_LIKE_THE_BEST = 0.97  # a smaller budget is preferred if it reaches this fraction of the best speed
_ROUNDS = 3
_PROBE_SECONDS = 3.0


class TokenBudget:
    """How many tokens an encoder reads at once, including padding.

    It shrinks when memory runs out.

    Args:
        tokens: A fixed budget, or None to start with `FIRST` and let a probe tune it.
    """

    def __init__(self, tokens: int | None) -> None:
        self.tokens = tokens or FIRST
        self.is_tuned = tokens is not None
        self._has_shrunk = False

    def batches(self, counts: Sequence[int], numbers: Sequence[int]) -> Iterator[list[int]]:
        """Divides texts into batches, longest first, whose padded size stays within the budget.

        A new batch also begins where more padding would cost more than another batch. A text that exceeds the budget
        gets a batch of its own.

        Args:
            counts: The number of tokens of each text.
            numbers: Positions in ``counts`` of the texts to batch.

        Yields:
            Positions of the texts in a batch.
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
        """Sets the budget to half of the ``tokens`` that didn't fit into memory."""
        self.tokens = max(1, min(self.tokens, tokens // 2))
        self.is_tuned = self._has_shrunk = True
        fields = {"event": "token_budget_reduced"}
        log.warning("out of memory at %d tokens: token budget reduced to %d", tokens, self.tokens, extra=fields)

    def tune(self, encode: Callable[[int], None], sizes: Sequence[int]) -> None:
        """Sets the budget to the smallest size that is about as fast as any other.

        Measures each size several times, because the speed of a machine varies. Stops after a few seconds, or when
        memory runs out.

        Args:
            encode: Encodes about as many tokens as its argument says.
            sizes: Budgets to try, in ascending order.
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
        measured = ", ".join(f"{n}: {r:.0f}/s" for n, r in rates.items())
        log.info("token budget %d, chosen from %s", self.tokens, measured, extra={"event": "token_budget"})


def _seconds(encode: Callable[[int], None], size: int) -> float:
    started = time.perf_counter()
    encode(size)
    return max(time.perf_counter() - started, math.ulp(1.0))
