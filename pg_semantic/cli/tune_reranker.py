"""The part of ``pg-semantic tune`` that finds how many hits a reranker should reorder."""

import dataclasses
from functools import partial

from pg_semantic import rerankers, tuning
from pg_semantic.cli import output, progress, tune_request
from pg_semantic.cli.tune_request import TuneRequest
from pg_semantic.tuning import RerankTuning, RerankTuningOptions

_COLUMNS = ("to", "p50 ms", "")


def run(request: TuneRequest, how: RerankTuningOptions, *, reranker: str) -> None:
    """Reranks what searches with the options in use find, keeps what is recommended if asked to, and prints the result.

    Raises what `rerankers.load` and `tuning.tune_rerank_depth` raise.
    """
    loaded = rerankers.load(reranker)
    with request.session() as (session, bound):
        how = dataclasses.replace(how, base=tune_request.in_use(session, bound))
        with progress.queries(len(request.judged), shown=not request.json) as advance:
            found = tuning.tune_rerank_depth(
                session, bound, request.judged, reranker=loaded, options=how, on_query=advance
            )
    tune_request.conclude(request, found, partial(_print, found, saved=request.save))


def _print(found: RerankTuning, *, saved: bool) -> None:
    none, *_ = found.depths
    rows = [
        (one.depth or "none", one.mean, one.mean - none.mean, one.low, one.high, one.p50_ms, _role(found, one.depth))
        for one in found.depths
    ]
    title = f"{found.index}, {found.queries} queries, {found.reranker}"
    output.table(("depth", found.measure, "difference", "from", *_COLUMNS), rows, title=title)
    tune_request.say_gain(found, base_mean=none.mean)
    if found.recommended is None:
        output.say("Don't rerank: no gain is shown on queries that the depth wasn't chosen by.")
    else:
        output.say("Recommended:")
        output.verbatim(found.code)
    if saved:
        output.say("Kept in the database: `search.tuned_options(session, ..., reranker=reranker)` returns it.")


def _role(found: RerankTuning, depth: int | None) -> str:
    named = {"best": found.best, "recommended": found.recommended}
    return " ".join(name for name, chosen in named.items() if chosen == depth)
