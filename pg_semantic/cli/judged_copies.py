"""Judged queries on two copies of an index, for ``generation compare`` and ``switch``: how to search, what to show."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import sqlalchemy as sa
import typer
from sqlalchemy import orm

from pg_semantic import database, errors, generations, search
from pg_semantic.cli import output, progress
from pg_semantic.evaluation import Judgements, Variant, parse_variant
from pg_semantic.generations import readiness
from pg_semantic.generations.gate import count_learned
from pg_semantic.index import declare
from pg_semantic.registry import Generation
from pg_semantic.search import Options
from pg_semantic.search.tuned_options import documents_of

How = Annotated[
    str,
    typer.Option(
        metavar="OPTION=VALUE,...", help="How to search, as in `evaluate --variant`: mode=hybrid,fusion=tuned"
    ),
]


def variant(engine: sa.Engine, live: Generation, how: str) -> Variant:
    """Returns how to search both copies; ``fusion=tuned`` stands for what was tuned for the live one."""

    def tuned() -> Options:
        with orm.Session(engine) as session:
            return search.tuned_options(session, declare.bind(live.spec))

    return parse_variant(f"how:{how}", tuned=tuned)


def doubts(
    engine: sa.Engine, live: Generation, other: Generation, *, judged: Judgements | None, how: str
) -> Iterator[str]:
    """Yields why a comparison says less than it seems to, as far as the role can know."""
    with _as_far_as_allowed():
        if missing := readiness.unfinished(engine, other):
            yield f"{other.title} isn't filled yet: {'; '.join(missing)}. Run a worker first."
    with _as_far_as_allowed():
        if judged and (known := count_learned(engine, live, judged)):
            yield (
                f"{known} of {len(judged)} queries were tuned or trained on, so they don't show what to expect of "
                "others. `switch --if-better` leaves them out."
            )
    yield from _lapsing(live, other, how)


def _lapsing(live: Generation, other: Generation, how: str) -> Iterator[str]:
    """Yields that tuned options won't be in use after a switch, if so."""
    is_tuned = any(part.replace(" ", "") == "fusion=tuned" for part in how.split(","))
    if is_tuned and documents_of(live) != documents_of(other):
        yield (
            "fusion=tuned: both copies are searched with the options that were tuned for the live one. A switch ends "
            "their use, because the other copy has other documents or vectors: run `pg-semantic tune --save` after it."
        )


@contextlib.contextmanager
def _as_far_as_allowed() -> Iterator[None]:
    """Ends the block if the role lacks privileges."""
    try:
        yield
    except errors.DatabaseError as error:
        if not database.is_denied(error):
            raise


def show(found: generations.Comparison) -> None:
    """Prints a comparison as tables."""
    if found.zero:
        output.say(f"Queries that find nothing, because their vectors are zero: {found.zero}.")
    overlap = (found.index, found.role, found.queries, found.overlap, found.low, found.high)
    output.table(("index", "with", "queries", "overlap", "from", "to"), [overlap])
    if gain := found.difference:
        columns = ("judged queries", "nDCG of live", f"nDCG of {found.role}", "difference", "from", "to", "p")
        figures = (found.live_ndcg, found.ndcg, gain.mean, gain.low, gain.high, gain.p)
        output.table(columns, [(gain.queries, *figures)])
    if found.scores:
        output.table(("share of hits kept", "min_score of live", f"min_score of {found.role}"), found.scores)


@dataclass(frozen=True, slots=True)
class Gate:
    """What judged queries must show before a switch."""

    judgements: Judgements
    worse_by: float | None
    how: str

    @classmethod
    def of(
        cls, read: Callable[[], Judgements] | None, worse_by: float | None, how: str, *, if_better: bool
    ) -> "Gate | None":
        """Returns the gate that the options ask for; None without any of them."""
        if if_better and worse_by is not None:
            raise typer.BadParameter("--if-better cannot be combined with --unless-worse.")
        if read is None and (if_better or worse_by is not None):
            raise typer.BadParameter("--if-better and --unless-worse need --judgements.")
        if read is None:
            return None
        if not if_better and worse_by is None:
            raise typer.BadParameter("--judgements needs --if-better or --unless-worse.")
        return cls(read(), worse_by, how)

    def require(self, engine: sa.Engine, name: str, *, shown: bool) -> None:
        """Evaluates both copies. Raises `errors.GenerationError` if the new one is not good enough."""
        live, chosen = (generations.find(engine, name, role) for role in ("live", "next"))
        how = variant(engine, live, self.how)
        for doubt in _lapsing(live, chosen, self.how):
            typer.echo(doubt, err=True)
        with progress.queries(len(self.judgements), shown=shown) as advance:
            generations.require_relevance(
                engine, name, self.judgements, how=how, worse_by=self.worse_by, on_query=advance
            )
