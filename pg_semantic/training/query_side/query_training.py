"""`QueryTraining`: how to train the queries' side of an encoder."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from pg_semantic import errors
from pg_semantic.index import seeds
from pg_semantic.search.legs import Where
from pg_semantic.training.query_side.epochs import Recipe

Kind: TypeAlias = Literal["map", "encoder"]

_RECIPES: dict[Kind, Recipe] = {
    "map": Recipe(epochs=6, batch=64, learning_rate=3e-3),
    "encoder": Recipe(epochs=1, batch=32, learning_rate=5e-5, weight_decay=0.01),
}
_MOST_HELD_OUT = 0.5
_ROUNDING = 0.05  # of a share: 0.33 is meant to be a third


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryTraining:
    """How to train the queries' side of an encoder.

    Args:
        kind: What to train. ``map`` is a linear map of the vectors of queries, which adds next to nothing to the time
            of a search. It takes about a minute of CPU time for 900 pairs and 5,000 stored vectors, in proportion to
            both.
            ``encoder`` is a copy of all weights, for queries only, which doubles the size of the encoder.
        held_out: The share of the queries that are held out at a time: one of 2, 3, 4 ... equal parts, so 0.5, 0.33,
            0.25 and so on.
        epochs: How many epochs at most; by default 6 for a map, 1 for an encoder. Held-out queries choose the best.
        learning_rate: Of AdamW; by default 0.003 for a map, 0.00005 for an encoder.
        where: Conditions on the rows whose vectors are read, as in a search. Pairs of other rows are left out. Required
            if the table has row-level security that the role bypasses, because vectors of other rows are negatives.
        seconds: How long everything may take. Trains for fewer epochs if necessary.
        seed: Decides everything that is random. On the CPU of one machine, the same seed gives the same encoder.
        keep: Write the folder even without a gain.
        from_trained: Start from the live encoder even if it was trained; otherwise from the one before its training.

    Raises:
        errors.ConfigurationError: An argument is out of range.
    """

    kind: Kind = "map"
    held_out: float = 0.2
    epochs: int | None = None
    learning_rate: float | None = None
    where: Where = ()
    seconds: float | None = None
    seed: int = 0
    keep: bool = False
    from_trained: bool = False

    def __post_init__(self) -> None:
        seeds.require(self.seed)
        if self.kind not in get_args(Kind):
            raise errors.ConfigurationError(f"kind={self.kind!r} is unknown: use one of {', '.join(get_args(Kind))}.")
        if not 0 < self.held_out <= _MOST_HELD_OUT:
            raise errors.ConfigurationError(f"held_out={self.held_out} must be above 0 and at most 0.5.")
        if abs(self.held_out * self.parts - 1) > _ROUNDING:
            fewer = int(1 / self.held_out)
            raise errors.ConfigurationError(
                f"held_out={self.held_out}: the queries are divided into equal parts, and one part is held out at a "
                f"time. Use {1 / (fewer + 1):.3g} or {1 / fewer:.3g}."
            )
        if self.epochs is not None and self.epochs < 1:
            raise errors.ConfigurationError(f"epochs={self.epochs} must be 1 or more.")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise errors.ConfigurationError(f"learning_rate={self.learning_rate} must be above 0.")
        if self.seconds is not None and not self.seconds > 0:
            raise errors.ConfigurationError(f"seconds={self.seconds} must be above 0.")

    @property
    def parts(self) -> int:
        """How many equal parts the queries are divided into."""
        return round(1 / self.held_out)

    @property
    def recipe(self) -> Recipe:
        """How to train, step by step."""
        known = _RECIPES[self.kind]
        given: dict[str, Any] = {"epochs": self.epochs, "learning_rate": self.learning_rate}
        return replace(known, **{name: value for name, value in given.items() if value is not None})

    @property
    def used(self) -> dict[str, Any]:
        """The settings as data for JSON."""
        return asdict(self.recipe) | {"held_out": self.held_out, "conditions": len(self.where)}
