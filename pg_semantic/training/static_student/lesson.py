"""What a student learns from, and what it is measured with: `Lesson`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders import Encoder, tokenization
from pg_semantic.encoders.base import Vectors
from pg_semantic.training.base_encoder import BaseEncoder
from pg_semantic.training.static_student import bags, first_table, held_out, spans, words
from pg_semantic.training.static_student.fit import StudyTexts
from pg_semantic.training.static_student.held_out import HeldOut
from pg_semantic.training.static_student.static_training import StaticTraining
from pg_semantic.training.static_student.teacher_chunks import TeacherChunks
from pg_semantic.training.static_student.teacher_vectors import TeacherVectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.normalizers import BertNormalizer

LEAST_ROWS = 50
"""The fewest rows to distill from. A tenth of them is held out, and the others have few words."""

_HELD_OUT = 0.1  # of the rows
_MOST_HELD_OUT = 1_000  # rows


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a student learns from, and what it is measured with.

    Attributes:
        tokenizer: The student's tokenizer.
        words: How many words of its vocabulary come from the rows.
        first: The table to start from, shape (vocabulary, dimensions).
        chunks: How many chunks it learns from.
        spans: How many short texts it learns from.
        examples: Both, with the encoder's vectors.
        held_out: What it is measured with.
    """

    tokenizer: "Tokenizer"
    words: int
    first: Vectors
    chunks: int
    spans: int
    examples: StudyTexts
    held_out: HeldOut


def prepare(base: BaseEncoder, chunks: TeacherChunks, options: StaticTraining, *, teacher: TeacherVectors) -> Lesson:
    """Chooses the vocabulary and the short texts, and has them encoded.

    Raises:
        errors.ConfigurationError: There are too few rows, too many dimensions, or too little time.
    """
    dimensions = _dimensions(base.encoder, options)
    learned, others = _divided(chunks, options.seed)
    made, count = _tokenizer(base, chunks, learned, options=options)
    tokens = bags.of(made, chunks.texts)
    asked = spans.choose(chunks.texts, others, count=_MOST_HELD_OUT, seed=options.seed)
    rows, own = chunks.rows, chunks.rows[asked.chunks]
    expected = held_out.nearest(
        teacher.needed(asked.texts, what="the held-out sentences"), chunks.stored.vectors, own=own, rows=rows
    )
    vocabulary = [token for token, _ in sorted(made.get_vocab().items(), key=lambda item: item[1])]
    of_words = teacher.needed([words.text_of(token) for token in vocabulary], what="the vocabulary")
    short = spans.choose(chunks.texts, learned, count=options.spans, seed=options.seed)
    targets = [chunks.stored.vectors[learned], first_table.unit(teacher.if_in_time(short.texts))]
    project = first_table.projection(targets[0], dimensions)
    counts = np.bincount(tokens.take(learned).ids, minlength=len(vocabulary))
    taught = [tokens.take(learned), bags.of(made, short.texts[: len(targets[1])])]
    return Lesson(
        tokenizer=made,
        words=count,
        first=first_table.make(of_words @ project, counts),
        chunks=len(learned),
        spans=len(targets[1]),
        examples=StudyTexts(bags.joined(taught), first_table.unit(np.concatenate(targets) @ project)),
        held_out=HeldOut(bags.of(made, asked.texts), own, tokens, rows, expected),
    )


def _dimensions(encoder: Encoder, options: StaticTraining) -> int:
    wanted = options.dimensions or encoder.dimensions
    if wanted > encoder.dimensions:
        raise errors.ConfigurationError(
            f"dimensions={wanted} is more than the {encoder.dimensions} of encoder {encoder.reference!r}, which the "
            "student learns from: use fewer."
        )
    return wanted


def _divided(chunks: TeacherChunks, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the chunks to learn from, and those of held-out rows."""
    count = len(chunks.stored.keys)
    if count < LEAST_ROWS:
        raise errors.ConfigurationError(
            f"Only {count} rows with vectors were read, and distilling needs {LEAST_ROWS}: run `pg-semantic worker` "
            "until more rows are synced, or read more chunks."
        )
    chosen = np.zeros(count, np.bool_)
    chosen[np.random.default_rng(seed).permutation(count)[: min(_MOST_HELD_OUT, round(_HELD_OUT * count))]] = True
    is_held_out = chosen[chunks.rows]
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _tokenizer(
    base: BaseEncoder, chunks: TeacherChunks, learned: NDArray[np.int64], *, options: StaticTraining
) -> tuple["Tokenizer", int]:
    """Returns the student's tokenizer, and how many words it took from the rows."""
    teacher = tokenization.fast_tokenizer(base.whole, "document")
    normalize = words.normalizer(teacher)
    known = dict.fromkeys([words.UNKNOWN, *words.pieces(teacher, normalize)])
    taken = _words(chunks, learned, normalize, options=options) if options.vocabulary == "rows" else ()
    added = [word for word in taken if word not in known]
    most = None if base.encoder.max_tokens >= tokenization.NO_LIMIT else base.encoder.max_tokens
    return words.tokenizer([*known, *added], normalize, most_tokens=most), len(added)


def _words(
    chunks: TeacherChunks, learned: NDArray[np.int64], normalize: "BertNormalizer", *, options: StaticTraining
) -> Sequence[str]:
    """Returns the frequent words of the rows to learn from."""
    texts: dict[int, list[str]] = {}
    for number, row in zip(learned.tolist(), chunks.rows[learned].tolist(), strict=True):
        texts.setdefault(row, []).append(chunks.texts[number])
    return words.frequent(texts.values(), normalize, least_rows=options.least_rows, most=options.words)
