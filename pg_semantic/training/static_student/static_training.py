"""`StaticTraining`: how to distill an encoder into a table of words."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pg_semantic import errors
from pg_semantic.index import seeds
from pg_semantic.search.legs import Where

Vocabulary: TypeAlias = Literal["rows", "encoder"]

_LEAST_DIMENSIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticTraining:
    """How to distill an encoder into a table of words.

    Args:
        dimensions: Dimensions of the student's vectors, at most those of the encoder, which is the default. Fewer make
            it smaller; far fewer lose relevance.
        vocabulary: ``rows`` takes frequent words of the rows into the vocabulary, in addition to the pieces of words
            that the encoder's tokenizer has. So the student's files contain these words. ``encoder`` takes none, so
            the files tell nothing about the rows but how often they have each piece.
        least_rows: A word of the rows must occur in this many different rows to be taken. 2 or more, so that no word
            is written that only one row has.
        words: How many words to take from the rows at most, the most frequent ones.
        chunks: How many chunks to learn from at most. A larger index is sampled.
        spans: How many short texts to encode: random sentences of chunks, in place of queries. They take most of the
            time, and more of them make a better student.
        epochs: How many epochs at most. Held-out rows choose the best.
        where: Conditions on the rows to learn from, as in a search. Required if the table has row-level security that
            the role bypasses, because the student's files contain words of the rows.
        seconds: How long everything may take. Encodes fewer short texts and trains for fewer epochs if necessary.
        seed: Decides everything that is random. On the CPU of one machine, the same seed gives the same table.
        from_trained: Distill an encoder that was already trained by this package.

    Raises:
        errors.ConfigurationError: An argument is out of range.
    """

    dimensions: int | None = None
    vocabulary: Vocabulary = "rows"
    least_rows: int = 5
    words: int = 50_000
    chunks: int = 50_000
    spans: int = 20_000
    epochs: int = 6
    where: Where = ()
    seconds: float | None = None
    seed: int = 0
    from_trained: bool = False

    def __post_init__(self) -> None:
        seeds.require(self.seed)
        if self.vocabulary not in get_args(Vocabulary):
            known = ", ".join(get_args(Vocabulary))
            raise errors.ConfigurationError(f"vocabulary={self.vocabulary!r} is unknown: use one of {known}.")
        least = {"dimensions": _LEAST_DIMENSIONS, "least_rows": 2, "words": 0, "chunks": 1, "spans": 1, "epochs": 1}
        for name, bound in least.items():
            if (value := getattr(self, name)) is not None and value < bound:
                raise errors.ConfigurationError(f"{name}={value} must be {bound} or more.")
        if self.seconds is not None and not self.seconds > 0:
            raise errors.ConfigurationError(f"seconds={self.seconds} must be above 0.")
