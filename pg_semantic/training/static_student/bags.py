"""`Bags`: tokenized texts, from which batches are taken quickly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_AT_ONCE = 2_000  # texts, because a tokenizer needs many times the memory of its text


@dataclass(frozen=True, slots=True)
class Bags:
    """The tokens of texts, one text after the other.

    Attributes:
        ids: The ids of all tokens, shape (tokens,).
        starts: Where each text begins, and where the last one ends, shape (texts + 1,).
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, numbers: NDArray[np.int64]) -> "Bags":
        """Returns some of the texts, in this order."""
        lengths = self.starts[numbers + 1] - self.starts[numbers]
        starts = np.concatenate(([0], np.cumsum(lengths)))
        places = np.repeat(self.starts[numbers] - starts[:-1], lengths) + np.arange(starts[-1])
        return Bags(self.ids[places], starts)


def of(tokenizer: "Tokenizer", texts: Sequence[str]) -> Bags:
    """Tokenizes texts, truncated as the tokenizer says."""
    ids = [np.zeros(0, np.int64)]
    for start in range(0, len(texts), _AT_ONCE):
        encodings = tokenizer.encode_batch_fast(list(texts[start : start + _AT_ONCE]), add_special_tokens=False)
        ids += [np.array(encoding.ids, np.int64) for encoding in encodings]
    return Bags(np.concatenate(ids), np.cumsum([len(one) for one in ids]))


def joined(bags: Sequence[Bags]) -> Bags:
    """Returns all texts of several bags, in their order."""
    ends = np.cumsum([0, *(len(one.ids) for one in bags)])
    starts = [one.starts[:-1] + end for one, end in zip(bags, ends, strict=False)]
    return Bags(np.concatenate([one.ids for one in bags]), np.concatenate([*starts, ends[-1:]]))
