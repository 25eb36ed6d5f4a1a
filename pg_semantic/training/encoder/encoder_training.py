"""`EncoderTraining`: how to train a whole encoder."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pg_semantic import errors
from pg_semantic.index import seeds
from pg_semantic.search.legs import Where

Loss: TypeAlias = Literal["ranking", "gist", "triplet", "cosent", "cosine", "teacher", "tsdae"]

SCORED: frozenset[Loss] = frozenset({"cosent", "cosine"})
"""The losses that learn from the scores of pairs, without negatives."""

_BATCH_CPU, _BATCH_DEVICE = 32, 128
_RANDOM_CPU, _RANDOM_DEVICE = 500, 2_000
_LEARNING_RATE, _LEARNING_RATE_LORA = 5e-5, 5e-4
_MOST_HELD_OUT = 0.5
_MOST_NEGATIVES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderTraining:
    """How to train a whole encoder.

    Args:
        loss: What to learn. ``ranking`` ranks the answer of a query above its negatives and above the other texts of
            a batch (MultipleNegativesRankingLoss). ``gist`` does the same, but leaves out texts that the encoder
            before training finds more similar than the answer, which are often answers too (GISTEmbedLoss).
            ``triplet`` ranks the answer above one negative, by a margin (TripletLoss with cosine distances). ``cosent``
            learns the order of scored pairs, ``cosine`` the scores themselves. ``teacher`` learns how a teacher scores
            the answer and its negatives (Kullback-Leibler divergence), so mine several negatives. ``tsdae`` learns to
            restore the passages of the pairs from their vectors, after 60% of the words were deleted (TSDAE, Wang,
            Reimers and Gurevych 2021): queries only measure. It needs an encoder that is a BERT or RoBERTa.
        negatives: How many mined negatives per pair, 0 to 16. Each one takes as much time as the answer. Queries with
            fewer get random passages in their place. ``gist`` takes one at most, ``triplet`` exactly one, and
            ``cosent``, ``cosine`` and ``tsdae`` use none.
        margin: Of the loss ``triplet``: by how much the cosine of the answer should be above that of the negative. What
            is that far apart isn't learned from any more.
        matryoshka: Also train the vectors truncated to these dimensions, such as ``(256, 128)``, so that a smaller
            index loses less.
        lora: Train low-rank changes of the weights instead of the weights, which takes less memory and forgets less
            (Hu et al. 2021). They are merged before the encoder is written.
        epochs: How many epochs at most. Held-out queries choose the best.
        batch: Pairs per step; by default 32 on a CPU, and 128 on another device. A larger one has more
            negatives, but there are fewer steps. If a batch doesn't fit into memory, ``ranking`` and ``gist`` encode it
            part by part, and the others take a smaller one. With ``ranking`` and ``gist``, queries that rows connect
            are never in one batch, so with a large group of such queries there are more, smaller batches.
        learning_rate: Of AdamW, the highest one after the warm-up; by default 5e-5, and 5e-4 with ``lora``. Encoders
            of several hundred million weights need a smaller one.
        random: How many random passages of the index held-out queries must rank their answers among; by default 500
            on a CPU, and 2,000 on another device. They are encoded after each epoch.
        where: Conditions on the rows to train and measure with, as in a search. Pairs of other rows are left out.
            Required if the table has row-level security that the role bypasses, because passages of other rows are
            negatives.
        without_quotes: Cut queries out of the passages that answer them, where these quote them as whole words, so that
            the encoder learns more than to find copies. Use it for pairs of `from_texts`, and for those of
            `from_column` if the column is indexed.
        held_out: The share of the queries that are held out, above 0 and up to 0.5. Queries that rows or equal texts
            connect stay together, so it is as near to this as they allow.
        seconds: How long everything may take. Trains for fewer epochs if necessary.
        seed: Decides everything that is random. On the CPU of one machine, the same seed gives the same encoder.
        keep: Write the folder even without a gain.
        from_trained: Start from an encoder that was already trained.
        resume: Continue a training to the same folder that was stopped, if there is one. Pass the same pairs and
            options.
        checkpoint_seconds: How often to write what that needs: weights and figures, and no text. It is in a hidden
            folder next to the result, takes about four times the size of the weights, and is removed in the end.

    Raises:
        errors.ConfigurationError: An argument is out of range.
    """

    loss: Loss = "ranking"
    negatives: int = 1
    margin: float = 0.2
    matryoshka: tuple[int, ...] = ()
    lora: bool = False
    epochs: int = 3
    batch: int | None = None
    learning_rate: float | None = None
    random: int | None = None
    where: Where = ()
    without_quotes: bool = False
    held_out: float = 0.2
    seconds: float | None = None
    seed: int = 0
    keep: bool = False
    from_trained: bool = False
    resume: bool = False
    checkpoint_seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.loss not in get_args(Loss):
            raise errors.ConfigurationError(f"loss={self.loss!r} is unknown: use one of {', '.join(get_args(Loss))}.")
        if self.loss == "gist" and self.negatives > 1:
            raise errors.ConfigurationError(f"negatives={self.negatives}: the loss gist takes one at most.")
        if (self.is_scored or self.loss == "tsdae") and self.negatives > 1:
            raise errors.ConfigurationError(
                f"negatives={self.negatives}: the loss {self.loss} uses none. Leave it out."
            )
        if self.loss == "triplet" and self.negatives != 1:
            raise errors.ConfigurationError(f"negatives={self.negatives}: the loss triplet takes exactly one.")
        if self.loss == "teacher" and self.negatives < 1:
            raise errors.ConfigurationError(
                "negatives=0: the loss teacher compares answers with negatives, so use 1 or more."
            )
        if self.loss == "tsdae" and (self.lora or self.matryoshka):
            raise errors.ConfigurationError("The loss tsdae can't be combined with lora or matryoshka.")
        if not 0 < self.held_out <= _MOST_HELD_OUT:
            raise errors.ConfigurationError(f"held_out={self.held_out} must be above 0 and at most 0.5.")
        self._check_numbers()

    def _check_numbers(self) -> None:
        seeds.require(self.seed)
        if self.negatives > _MOST_NEGATIVES:
            raise errors.ConfigurationError(f"negatives={self.negatives} must be 16 or less.")
        for name, value, least in (
            ("negatives", self.negatives, 0),
            ("epochs", self.epochs, 1),
            ("batch", self.batch, 2),
            ("random", self.random, 0),
            ("matryoshka", min(self.matryoshka, default=None), 1),
        ):
            if value is not None and value < least:
                raise errors.ConfigurationError(f"{name}={value} must be {least} or more.")
        for name in ("learning_rate", "seconds", "checkpoint_seconds", "margin"):
            number = getattr(self, name)
            if number is not None and not 0 < number < math.inf:
                raise errors.ConfigurationError(f"{name}={number} must be above 0, and finite.")

    @property
    def is_scored(self) -> bool:
        """Whether the loss learns from scores."""
        return self.loss in SCORED

    @property
    def fits_in_parts(self) -> bool:
        """Whether a batch can be encoded part by part, with the same gradients."""
        return self.loss in {"ranking", "gist"}

    @property
    def is_in_batch(self) -> bool:
        """Whether the other texts of a batch count as wrong answers."""
        return self.loss in {"ranking", "gist"}

    @property
    def needs_negatives(self) -> bool:
        """Whether random passages are negatives where none was mined."""
        return self.loss in {"teacher", "triplet"}

    @property
    def takes_rows(self) -> bool:
        """Whether the loss can learn from pairs of rows."""
        return self.is_in_batch or self.loss == "tsdae"

    @property
    def highest_rate(self) -> float:
        """The learning rate after the warm-up."""
        return self.learning_rate or (_LEARNING_RATE_LORA if self.lora else _LEARNING_RATE)

    def batch_on(self, device: str) -> int:
        """Returns the pairs per step on a type of device, such as ``cpu``."""
        return self.batch or (_BATCH_CPU if device == "cpu" else _BATCH_DEVICE)

    def random_on(self, device: str) -> int:
        """Returns how many random passages to measure with on a type of device."""
        if self.random is not None:
            return self.random
        return _RANDOM_CPU if device == "cpu" else _RANDOM_DEVICE
