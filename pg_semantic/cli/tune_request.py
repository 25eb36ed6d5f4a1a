"""What the parts of ``pg-semantic tune`` that need judgements share: their input, and lines that they all print."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import search as searching
from pg_semantic import tuning
from pg_semantic.cli import named_index, output
from pg_semantic.database import own_transaction
from pg_semantic.evaluation import Judgements
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import Options
from pg_semantic.tuning import ChunkTuning, RerankTuning, Tuning


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """What to tune on, and what to do with what is found."""

    engine: sa.Engine
    index: str
    judged: Judgements
    save: bool
    json: bool

    @contextmanager
    def session(self) -> Iterator[tuple[orm.Session, BoundIndex[Any]]]:
        """Yields a session and the index, and commits: the queries are then recorded as tuned on."""
        with orm.Session(self.engine) as session:
            yield session, named_index.find(session, self.index)
            session.commit()


def conclude(request: TuneRequest, found: Tuning | RerankTuning | ChunkTuning, show: Callable[[], object]) -> None:
    """Keeps what was found, if it should be kept, and prints it: as JSON, or for people with ``show``."""
    if request.save and not isinstance(found, ChunkTuning):  # a chunk size is no option of a search
        tuning.save(request.engine, found)
    if request.json:
        output.as_json(found.figures)
    else:
        show()


def in_use(session: orm.Session, index: BoundIndex[Any]) -> Options:
    """Returns the options that searches use now: the defaults, or what was kept."""
    with own_transaction.reading(session):
        return searching.tuned_options(session, index)


def say_gain(found: Tuning | RerankTuning | ChunkTuning, *, base_mean: float) -> None:
    """Says how many queries were left out, and what the cross-validation found."""
    if found.held_out:
        output.say(f"{found.held_out} queries were left out, because they are held out for evaluation.")
    if found.zero:
        output.say(
            f"Queries left out, because the encoder finds nothing in them (their vectors are zero): {found.zero}."
        )
    output.say(
        f"Cross-validated: {found.fold_mean:.4f}, which is {found.fold_mean - base_mean:+.4f} "
        f"(90% interval {found.low:+.4f} to {found.high:+.4f}, p {found.p:.4f})."
    )
