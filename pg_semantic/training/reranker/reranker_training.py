"""`RerankerTraining`: how to train a reranker."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from pg_semantic import errors
from pg_semantic.index import seeds
from pg_semantic.search.legs import Where
from pg_semantic.search.request import Mode, Options

RerankerLoss: TypeAlias = Literal["bce", "lambda"]

_BATCH = 32
_MOST_HELD_OUT = 0.5
_MOST_DEPTH = 1000  # as of `search.Rerank`
_SEARCH = ("fusion", "match", "depth", "ef_search", "min_score")  # the options that decide what a search finds


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerTraining:
    """How to train a reranker, and which searches it must improve.

    Args:
        start: The cross-encoder to start from: a folder, or a hub name. None starts from the weights of the index's own
            encoder, with a new head; this needs many more pairs.
        loss: What to learn. ``bce`` learns whether a passage answers a query, so that scores are probabilities (binary
            cross entropy, in which answers count as much as all other passages). ``lambda`` learns the order of a
            query's passages (LambdaLoss, Wang et al. 2018).
        mode: How the first stage ranks, as in a search.
        search: Other options of the first stage, such as the `search.Options` that `search.tuned_options` returns.
        where: Conditions of the first stage, as in a search. All passages that it is trained on fulfill them too, and
            pairs of other rows are left out. Required if the table has row-level security that the role bypasses.
        depth: How many hits of a search to rerank, 10 to 1000.
        max_tokens: The limit of a query and a passage together; longer ones are truncated. None keeps the limit of the
            weights that training starts from. Time grows with it, in training and in searches.
        epochs: How many epochs at most. Held-out queries choose the best.
        batch: Pairs of a query and a passage per step; with ``lambda``, as many queries as have about this many.
        learning_rate: Of AdamW, the highest one after the warm-up; by default 2e-5 from a cross-encoder, and 5e-5 from
            an encoder.
        held_out: The share of the queries that are held out, above 0 and up to 0.5. Queries that rows or equal texts
            connect stay together, so it is as near to this as they allow.
        seconds: How long everything may take. Trains for fewer epochs if necessary.
        seed: Decides everything that is random. On the CPU of one machine, the same seed gives the same reranker.
        keep: Write the folder even without a gain.
        from_trained: Start from weights even if this package has trained them; otherwise from the encoder before its
            training. If they were trained on held-out queries too, the reported gain is too high.
        resume: Continue a training to the same folder that was stopped, if there is one. Pass the same pairs and
            options.
        checkpoint_seconds: How often to write what that needs: weights and figures, and no text. It is in a hidden
            folder next to the result, takes about four times the size of the weights, and is removed in the end.

    Raises:
        errors.ConfigurationError: An argument is out of range.
        errors.QueryError: The mode is unknown, or the first stage itself reranks or diversifies.
    """

    start: str | None = None
    loss: RerankerLoss = "bce"
    mode: Mode = "dense"
    search: Options = Options()  # noqa: RUF009 - frozen
    where: Where = ()
    depth: int = 20
    max_tokens: int | None = None
    epochs: int = 3
    batch: int = _BATCH
    learning_rate: float | None = None
    held_out: float = 0.2
    seconds: float | None = None
    seed: int = 0
    keep: bool = False
    from_trained: bool = False
    resume: bool = False
    checkpoint_seconds: float = 600.0

    def __post_init__(self) -> None:
        seeds.require(self.seed)
        _require_known("loss", self.loss, get_args(RerankerLoss))
        _require_known("mode", self.mode, get_args(Mode))
        if self.search.rerank or self.search.diverse:
            raise errors.QueryError("RerankerTraining(search=...): the first stage can't rerank or diversify itself.")
        if not 0 < self.held_out <= _MOST_HELD_OUT:
            raise errors.ConfigurationError(f"held_out={self.held_out} must be above 0 and at most 0.5.")
        if not 10 <= self.depth <= _MOST_DEPTH:  # noqa: PLR2004 - nDCG@10 is measured
            raise errors.ConfigurationError(f"depth={self.depth} must be 10 to {_MOST_DEPTH}.")
        for name, least in (("epochs", 1), ("batch", 2), ("max_tokens", 8)):
            _require_amount(name, getattr(self, name), least=least)
        for name in ("learning_rate", "seconds", "checkpoint_seconds"):
            _require_amount(name, getattr(self, name), least=None)

    @property
    def recorded(self) -> dict[str, Any]:
        """What distinguishes a training from others, as data for JSON. Conditions are only counted."""
        names = ("loss", "mode", "depth", "max_tokens", "epochs", "batch", "learning_rate", "held_out")
        found = {name: getattr(self, name) for name in names} | {"conditions": len(self.where)}
        return found | {"search": {name: str(getattr(self.search, name)) for name in _SEARCH}}


def _require_known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise errors.ConfigurationError(f"{name}={value!r} is unknown: use one of {', '.join(known)}.")


def _require_amount(name: str, amount: float | None, *, least: int | None) -> None:
    """Raises an error if an amount is lower than the least one, or not above 0 if there is no least one."""
    if amount is None:
        return
    if least is not None and amount < least:
        raise errors.ConfigurationError(f"{name}={amount} must be {least} or more.")
    if not 0 < amount < math.inf:
        raise errors.ConfigurationError(f"{name}={amount} must be above 0, and finite.")
