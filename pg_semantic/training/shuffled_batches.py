"""`ShuffledBatches`: the batches of each epoch in random order, which are the same if training is resumed."""

import math
import random
from typing import Protocol


class EpochBatches(Protocol):
    """The batches of each epoch, the same number in all of them.

    Attributes:
        size: The most examples of a batch.
    """

    size: int

    def __len__(self) -> int: ...

    def epoch(self, number: int) -> list[list[int]]:
        """Returns the batches of an epoch, as numbers of examples."""
        ...


class ShuffledBatches:
    """All examples in random order, cut into batches.

    Args:
        count: How many examples there are.
        size: How many examples a batch has; the last one may have fewer.
        seed: The same seed gives the same batches.
    """

    def __init__(self, count: int, *, size: int, seed: int) -> None:
        self.size = size
        self._count, self._seed = count, seed

    def __len__(self) -> int:
        return math.ceil(self._count / self.size)

    def epoch(self, number: int) -> list[list[int]]:
        """Returns the batches of an epoch, as numbers of examples."""
        order = list(range(self._count))
        random.Random(f"{self._seed} {number}").shuffle(order)  # noqa: S311 - not a secret
        return [order[start : start + self.size] for start in range(0, self._count, self.size)]
