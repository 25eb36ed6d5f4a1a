"""Detects a vector index that is measured to miss its recall objective, or whose recall can't be measured."""

import shlex
from collections.abc import Iterator

import sqlalchemy as sa

from pg_semantic import registry
from pg_semantic.recall import objective, store
from pg_semantic.recall.store import KeptRecall

NAME = "recall_objective"
WHY = "searches miss more of the nearest rows than the objective allows, or no one knows whether they do"


def findings(connection: sa.Connection) -> Iterator[tuple[str, str, str, str]]:
    """Yields subject, what, why and repair for each live generation that misses its objective."""
    known = store.read(connection)
    for live in registry.generations(connection):
        kept = known.get(live.id)
        if live.role == "live" and kept is not None and kept.objective is not None:
            command = f"pg-semantic index objective {shlex.quote(live.qualified_name)}"
            for what, repair in _faults(kept, command):
                yield f"index {live.name}", what, WHY, repair


def _faults(kept: KeptRecall, command: str) -> Iterator[tuple[str, str]]:
    if kept.problem is not None:
        yield f"its recall can't be measured: {kept.problem}", f"{command} none"
    elif kept.state in {"missed", "unreachable"}:
        what = f"its recall is {kept.recall:.3f} with ef_search = {kept.ef_search}, the objective {kept.objective:g}"
        if kept.state == "missed":
            yield what, "Keep a worker running, which raises ef_search: pg-semantic worker"
        else:
            yield what, f"R{objective.UNREACHABLE_ADVICE[1:]}: {command} SHARE"
