"""`Setting`: a fusion, its depth and match; the `grid` of those that `tune` tries, and which of them are neighbors."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pg_semantic.index.bm25_expressions import Match
from pg_semantic.search import Convex, Fusion, Options, Rrf

DEPTH = 100

_SHARES = 20  # steps of the weight of the dense leg, from 0 to 1
_REACH = 0.15  # neighbors are closer than this


@dataclass(frozen=True, slots=True)
class Setting:
    """How a hybrid search fuses its legs.

    Args:
        fusion: By ranks or by scores.
        depth: How many rows of each leg are fused.
        match: Which rows match by words, as in `search.Options`.
    """

    fusion: Fusion = Rrf()  # noqa: RUF009 - frozen
    depth: int = DEPTH
    match: Match = "any"

    @classmethod
    def of(cls, options: Options) -> "Setting":
        """Returns the setting of options."""
        return cls(options.fusion, options.depth or DEPTH, options.match)

    @property
    def options(self) -> Options:
        """The options of a hybrid search with this setting."""
        return Options(fusion=self.fusion, depth=None if self.depth == DEPTH else self.depth, match=self.match)

    @property
    def code(self) -> str:
        """The options as Python, to paste."""
        given = ", ".join(f"{name}={value:g}" for name, value in asdict(self.fusion).items())
        depth = "" if self.depth == DEPTH else f", depth={self.depth}"
        match = "" if self.match == "any" else f', match="{self.match}"'
        return f"Options(fusion={type(self.fusion).__name__}({given}){depth}{match})"

    @property
    def data(self) -> dict[str, Any]:
        """The setting as data for JSON."""
        fusion = {"kind": type(self.fusion).__name__.lower(), **asdict(self.fusion)}
        return {"fusion": fusion, "depth": self.options.depth, "match": self.match}


def grid(base: Setting) -> Sequence[Setting]:
    """Returns the settings to try, each once: the base, and all weights of a convex combination in steps of 0.05.

    A convex combination has one parameter, and learns it from fewer queries than reciprocal rank fusion learns its own
    (Bruch et al. 2022). At its ends, one leg ranks alone. All have the depth and the match of the base.
    """
    shares = (step / _SHARES for step in range(_SHARES + 1))
    convex = [replace(base, fusion=Convex(share, round(1 - share, 2))) for share in shares]
    return list(dict.fromkeys([base, *convex]))


def smoothing(settings: Sequence[Setting]) -> NDArray[np.float64]:
    """Returns how much the mean of each setting counts for its neighbors, shape (settings, settings); rows add up to 1.

    Convex combinations with nearly equal weights rank nearly alike, so the best of them is better known from all of
    them. The weight of a neighbor falls linearly to 0 at a distance of 0.15. Other settings have no neighbors, nor have
    settings with another depth or match.
    """
    shares = np.array([_share(setting) for setting in settings])
    near = np.clip(1 - np.abs(shares[:, None] - shares[None, :]) / _REACH, 0, None)
    near = np.where(np.isnan(near), 0.0, near)
    legs = np.unique([f"{one.depth} {one.match}" for one in settings], return_inverse=True)[1]
    near[legs[:, None] != legs[None, :]] = 0
    np.fill_diagonal(near, 1)
    return np.asarray(near / near.sum(axis=1, keepdims=True))


def _share(setting: Setting) -> float:
    how = setting.fusion
    return how.dense / (how.dense + how.lexical) if isinstance(how, Convex) else np.nan
