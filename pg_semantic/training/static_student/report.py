"""`StaticReport`: what distilling did, and how near the student comes to the encoder that it imitates."""

from dataclasses import dataclass
from pathlib import Path

from pg_semantic.training.report import Gain


@dataclass(frozen=True, slots=True)
class StaticReport:
    """What distilling did.

    Attributes:
        index: The name of the semantic index.
        folder: The folder of the student; None if it wasn't written.
        dimensions: Dimensions of its vectors.
        vocabulary: How many words and pieces it knows.
        words: How many of them are words from the rows, which are therefore in its files.
        chunks: How many chunks it learned from, without those held out.
        spans: How many short texts were encoded for it.
        is_sample: Whether the index has more chunks than were read.
        epochs: The number of epochs that the held-out rows chose.
        held_out: How many sentences of held-out rows it was measured with.
        overlap: The share of the encoder's ten nearest chunks that the student also finds in its nearest ten, for a
            sentence of a held-out row whose own chunks are left out; 0 to 1. The stored vectors of the encoder are
            compared with the student's own vectors.
        judged: nDCG@10 of the judged queries with the encoder (``before``) and with the student (``after``); None
            without judgements. Chooses nothing.
        gone: How many judged rows aren't among the chunks that were read. They were left out.
        seconds: How long everything took.
    """

    index: str
    folder: Path | None
    dimensions: int
    vocabulary: int
    words: int
    chunks: int
    spans: int
    is_sample: bool
    epochs: int
    held_out: int
    overlap: float
    judged: Gain | None
    gone: int
    seconds: float

    @property
    def share(self) -> float | None:
        """The student's nDCG@10 as a share of the encoder's, or None without judgements."""
        return self.judged.after / self.judged.before if self.judged and self.judged.before else None

    @property
    def verdict(self) -> str:
        """One sentence that says how good the student is."""
        near = f"shares {self.overlap:.0%} of the ten nearest chunks with the encoder, for held-out sentences"
        if self.judged is None or self.share is None:
            return f"The student {near}."
        return (
            f"The student reaches {self.share:.0%} of the encoder's nDCG@10 on {self.judged.queries} judged queries "
            f"({self.judged.after:.3f} of {self.judged.before:.3f}), and {near}."
        )
