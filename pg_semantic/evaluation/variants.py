"""`Variant`: one way of searching, to be compared with others."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pg_semantic import errors, rerankers
from pg_semantic.index.bm25_expressions import Match
from pg_semantic.index.chunk_tables import Role
from pg_semantic.rerankers import BatchingReranker
from pg_semantic.search import Convex, Diverse, Fusion, Mode, Options, Rerank, Rrf, Where

N = TypeVar("N", int, float)

_KEYS = "generation, mode, exact, match, depth, ef_search, fusion, k, dense, lexical, reranker, rerank_depth, diverse"
_ONLY_IN = {
    "match": ("lexical", "hybrid"),
    **dict.fromkeys(("exact", "ef_search"), ("dense", "hybrid")),
    **dict.fromkeys(("depth", "fusion", "k", "dense", "lexical"), ("hybrid",)),
}
_EXAMPLE = "both:mode=hybrid,fusion=convex,dense=0.6,lexical=0.4"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of searching.

    Args:
        name: What reports call it.
        generation: The copy of the index to search: ``live``, ``next`` or ``previous``.
        mode: Ranks by meaning (``dense``), by words with BM25 (``lexical``) or by both (``hybrid``).
        exact: Computes every distance instead of scanning the vector index.
        options: All other options of a search.
        where: Conditions on the searched table, as in `Searcher.search`.

    Raises:
        errors.QueryError: The generation or the mode is unknown.
    """

    name: str
    generation: Role = "live"
    mode: Mode = "dense"
    exact: bool = False
    options: Options = Options()  # noqa: RUF009 - frozen
    where: Where = ()

    def __post_init__(self) -> None:
        for field, known in (("generation", get_args(Role)), ("mode", get_args(Mode))):
            if (given := getattr(self, field)) not in known:
                raise errors.QueryError(
                    f"Variant {self.name!r}: {field}={given!r} is unknown: use one of {', '.join(known)}."
                )

    @property
    def longest_page(self) -> int | None:
        """The fewest hits that a step reorders, which is the most that one page may have; None for no limit.

        Each step reorders at least a page. Measured with a longer page, it would reorder more rows than it does in use.
        """
        steps = [step.depth for step in (self.options.rerank, self.options.diverse) if step]
        return min(steps, default=None)

    @property
    def settings(self) -> dict[str, Any]:
        """What distinguishes it from other variants, without its name, as data for JSON. Filters are only counted."""
        options = self.options
        found: dict[str, Any] = {"generation": self.generation, "mode": self.mode, "exact": self.exact}
        if self.mode != "dense":
            found |= {"match": options.match}
        if self.mode == "hybrid":
            fusion = {"kind": type(options.fusion).__name__.lower(), **dataclasses.asdict(options.fusion)}
            found |= {"fusion": fusion, "depth": options.depth}
        if options.ef_search is not None:
            found["ef_search"] = options.ef_search
        if options.min_score is not None:
            found["min_score"] = options.min_score
        if options.rerank:
            reranker = options.rerank.reranker
            found["rerank"] = {
                "reranker": reranker.reference,
                "depth": options.rerank.depth,
                "seconds": options.rerank.seconds,
            }
        if options.diverse:
            found["diverse"] = dataclasses.asdict(options.diverse)
        return found | ({"conditions": len(self.where)} if self.where else {})


def parse_variant(
    text: str,
    *,
    load: Callable[[str], BatchingReranker] | None = None,
    tuned: Callable[[], Options] | None = None,
) -> Variant:
    """Returns the variant that a text such as ``both:mode=hybrid,fusion=convex,dense=0.6,lexical=0.4`` describes.

    Args:
        text: A name, and after a colon its options, separated by commas. ``now`` alone is a dense search.
        load: Loads a reranker by its reference. The default loads it for this variant alone.
        tuned: Returns the options that ``fusion=tuned`` stands for, as `search.tuned_options` does.

    Raises:
        errors.ConfigurationError: The text has another form, an option is unknown, or a value does not fit.
    """
    name, _, rest = text.partition(":")
    given: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = part.partition("=")
        if not equals or key.strip() in given:
            raise errors.ConfigurationError(f"Variant {text!r}: write options as NAME:KEY=VALUE,..., as in {_EXAMPLE}.")
        given[key.strip()] = value.strip()
    if "=" in name or "," in name:
        raise errors.ConfigurationError(
            f"Variant {text!r}: write a name and a colon before its options, as in {_EXAMPLE}."
        )
    if not name.strip():
        raise errors.ConfigurationError(f"Variant {text!r} has no name: write it before the colon, as in {_EXAMPLE}.")
    try:
        given |= _tuned(given, tuned)
        made = _variant(name.strip(), given, load or _load)
    except (errors.QueryError, ValueError) as error:
        raise errors.ConfigurationError(f"Variant {text!r}: {error}") from None
    if given:
        raise errors.ConfigurationError(f"Variant {text!r}: {', '.join(given)} is unknown: the options are {_KEYS}.")
    return made


def parse_variants(
    texts: Iterable[str],
    *,
    load: Callable[[str], BatchingReranker] | None = None,
    tuned: Callable[[], Options] | None = None,
) -> list[Variant]:
    """Returns the variants that texts describe, as in `parse_variant`. Those with the same reranker share it.

    Raises:
        errors.ConfigurationError: As in `parse_variant`.
    """
    shared = functools.cache(load or _load)
    return [parse_variant(text, load=shared, tuned=tuned) for text in texts]


def _load(reference: str) -> BatchingReranker:
    return BatchingReranker(rerankers.load(reference))


def _tuned(given: Mapping[str, str], tuned: Callable[[], Options] | None) -> dict[str, str]:
    """Returns the options of a variant that ``fusion=tuned`` stands for; none if it isn't there."""
    if given.get("fusion") != "tuned":
        return {}
    others = sorted({"k", "dense", "lexical"} & given.keys())
    if others:
        raise ValueError(f"fusion=tuned already has {', '.join(others)}: leave it out.")
    if tuned is None:
        raise ValueError("fusion=tuned needs the options that were tuned for an index.")
    options = tuned()
    depth = {} if options.depth is None or "depth" in given else {"depth": str(options.depth)}
    match = {} if options.match == "any" or "match" in given else {"match": options.match}
    weights = {name: str(value) for name, value in dataclasses.asdict(options.fusion).items()}
    return {"fusion": type(options.fusion).__name__.lower(), **weights, **depth, **match}


def _variant(name: str, given: dict[str, str], load: Callable[[str], BatchingReranker]) -> Variant:
    """Makes a variant of the options, and removes those that it has used."""
    mode: Any = given.pop("mode", "dense")
    for key, modes in _ONLY_IN.items():
        if key in given and mode not in modes:
            raise ValueError(f"{key} has no effect with mode={mode}: it needs mode={' or '.join(modes)}.")
    generation: Any = given.pop("generation", "live")
    match: Any = given.pop("match", "any")
    if match not in get_args(Match):
        raise ValueError(f"match={match} is unknown: use one of {', '.join(get_args(Match))}.")
    exact = _yes_or_no("exact", given.pop("exact", "no"))
    depth, ef_search, rerank_depth = (_whole_number(given, key) for key in ("depth", "ef_search", "rerank_depth"))
    if exact and ef_search is not None:
        raise ValueError("ef_search has no effect with exact=yes: leave one of them out.")
    fusion, diverse, reranker = _fusion(given), _number(given, "diverse"), given.pop("reranker", None)
    if rerank_depth is not None and reranker is None:
        raise ValueError("rerank_depth needs reranker=REFERENCE.")
    depths = {} if rerank_depth is None else {"depth": rerank_depth}
    options = Options(
        fusion=fusion,
        match=match,
        depth=depth,
        ef_search=ef_search,
        rerank=None if reranker is None else Rerank(load(reranker), **depths),
        diverse=None if diverse is None else Diverse(diverse),
    )
    return Variant(name, generation, mode, exact, options)


def _fusion(given: dict[str, str]) -> Fusion:
    kind = given.pop("fusion", "rrf")
    found = {key: _number(given, key) for key in ("dense", "lexical")}
    weights: Mapping[str, float] = {key: weight for key, weight in found.items() if weight is not None}
    if kind == "convex":
        if "k" in given:
            raise ValueError("k is an option of fusion=rrf.")
        return Convex(**weights)
    if kind != "rrf":
        raise ValueError(f"fusion={kind} is unknown: use rrf, convex or tuned.")
    k = _whole_number(given, "k")
    return Rrf(60 if k is None else k, **weights)


def _whole_number(given: dict[str, str], key: str) -> int | None:
    """Removes an option and returns its value; None if it isn't there."""
    return _value(given, key, int, wanted="a whole number")


def _number(given: dict[str, str], key: str) -> float | None:
    """Removes an option and returns its value; None if it isn't there."""
    return _value(given, key, float, wanted="a number")


def _value(given: dict[str, str], key: str, read: Callable[[str], N], *, wanted: str) -> N | None:
    text = given.pop(key, None)
    if text is None:
        return None
    try:
        return read(text)
    except ValueError:
        raise ValueError(f"{key}={text}: write {wanted}.") from None


def _yes_or_no(key: str, value: str) -> bool:
    if value not in {"yes", "no"}:
        raise ValueError(f"{key}={value}: write yes or no.")
    return value == "yes"
