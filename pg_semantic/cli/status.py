"""``pg-semantic status``: shows how far the vectors are in sync with the text."""

import shlex
from collections.abc import Iterator
from typing import Annotated

import typer

from pg_semantic import database
from pg_semantic.cli import options, output
from pg_semantic.database import transaction
from pg_semantic.operations import status as sync
from pg_semantic.operations.status import BuiltIndex, IndexStatus, Status
from pg_semantic.recall import objective
from pg_semantic.recall.objective import State
from pg_semantic.recall.store import KeptRecall
from pg_semantic.worker import build_forecast

EXAMPLES = options.examples(
    "pg-semantic status --json",
    "pg-semantic status --exact",
    "pg-semantic status --max-age 300",
)

_PATIENCE = "30min"  # --exact scans tables
_LARGE_BYTES, _MUCH_DRIFT = 100_000_000, 0.5
_BEHIND = 1  # the exit code of --max-age
_PROBLEM = {
    "sync": "not kept in sync",
    "build": "index not built",
    "key": "not adapted to its altered key",
    "capture": "capture not restored",
    "foreign_key": "foreign key not validated",
}
_STATES: dict[State, str] = {
    "met": "met",
    "open": "neither met nor missed with certainty",
    "missed": "missed, a worker will raise ef_search",
    "unreachable": f"cannot be reached, {objective.UNREACHABLE_ADVICE}",
}
_COLUMNS = ("index", "rows", "synced", "waiting", "failed", "truncated", "chunks", "age s", "eta s", "hnsw", "bm25")


def status(
    exact: Annotated[
        bool, typer.Option("--exact", help="Scan tables to count rows, receipts and chunks instead of estimating.")
    ] = False,
    max_age: Annotated[
        float | None,
        typer.Option(
            help="Exit with 1 if no worker is alive, or a change has waited for more seconds than this.", min=0
        ),
    ] = None,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Show each semantic index: rows synced and waiting, failures, the vector index, workers.

    rows, synced, chunks: for large tables, the planner's estimates (~) unless --exact. waiting: rows that changed and
    that no worker has synced yet. failed: given up after errors, see `pg-semantic retry`. truncated: rows with
    text longer than the encoder reads. age: of the oldest waiting change. eta: the time until workers are done.

    Any SQL client can get the same from SELECT * FROM semantic.index_status.
    """
    with (
        database.translated(),
        options.engine(dsn) as engine,
        transaction.begin(engine, statement_timeout=_PATIENCE) as connection,
    ):
        database.require_installed(connection)
        found = sync.read(connection, exact=exact)
    if json:
        output.as_json(found)
    else:
        _print(found)
    if max_age is not None and (behind := _behind(found, max_age)):
        typer.echo("\n".join(behind), err=True)
        raise typer.Exit(_BEHIND)


def _behind(found: Status, seconds: float) -> list[str]:
    """Returns why changes are behind: no worker is alive, or a change has waited for longer than ``seconds``."""
    late = [index for index in found.indexes if (index.oldest_seconds or 0) > seconds]
    return [
        *([] if found.workers else ["No worker is alive: none has sent a heartbeat in the last minute."]),
        *(f"{index.index}: a change has waited for {index.oldest_seconds:.0f} s." for index in late),
    ]


def _print(found: Status) -> None:
    if not found.indexes:
        output.say(output.NO_INDEXES)
        return
    title = f"{output.counted(found.workers, 'worker')} alive, {found.rows_per_second:.0f} rows/s"
    output.table(_COLUMNS, [_row(index) for index in found.indexes], title=title)
    for reason in found.paused:
        output.say(output.escaped(f"Backfill is paused: {reason}."))
    if found.tokens_today:
        output.say(f"Remote encoders have received {found.tokens_today:,} tokens since 00:00 UTC.")
    for index in found.indexes:
        for said in _said(index):
            output.say(output.escaped(f"{index.index}: {said}"))
        _print_problems(index)
        _print_failures(index)


def _said(index: IndexStatus) -> Iterator[str]:
    """Yields what there is to say about an index beyond the numbers."""
    if not index.backfilled:
        yield f"{_backfill(index)}."
    if index.stale_since:
        yield f"{_staleness(index)}."
    if index.capture_problem:
        yield index.capture_problem
    if index.built and _is_worth_telling(index.built):
        yield _built(index.built)
    if recall := _recall(index.recall):
        yield recall


def _print_failures(index: IndexStatus) -> None:
    for parked in index.failures:
        times = output.counted(parked.attempts, "time")
        what = f"{index.index}, row {parked.key}: failed {times}: {parked.error}"
        output.say(output.escaped(what))
    if index.failed:
        output.say(output.escaped(f"{index.index}: once the cause is fixed: `pg-semantic retry {_quoted(index)}`"))


def _print_problems(index: IndexStatus) -> None:
    for one in index.problems:
        since = f" for {one.seconds:.0f} s" if one.failures else ""
        output.say(output.escaped(f"{index.index}: {_PROBLEM[one.kind]}{since}: {one.reason}"))
        if one.failures:
            failed = output.counted(one.failures, "attempt")
            output.say(f"  {failed} failed. A running worker tries again in {one.next_seconds:.0f} s.")


def _backfill(index: IndexStatus) -> str:
    if index.backfill_rows is None or not index.rows:
        return "the backfill is in progress"
    return f"the backfill is at {min(1.0, index.backfill_rows / index.rows) * 100:.0f}%"


def _staleness(index: IndexStatus) -> str:
    since = f"{index.stale_since:%Y-%m-%d %H:%M:%S %Z}"
    why = f" ({index.stale_reason})" if index.stale_reason else ""
    done = "in progress" if index.reconciled is None else f"at {index.reconciled * 100:.0f}%"
    return f"may be stale since {since}{why}, reconcile {done}"


def _is_worth_telling(built: BuiltIndex) -> bool:
    """Whether a vector index is large, or much has changed. The others are in ``--json``."""
    return (built.bytes or 0) > _LARGE_BYTES or (built.drift or 0) > _MUCH_DRIFT


def _built(built: BuiltIndex) -> str:
    """Returns the age, the size and the drift of a vector index, as far as they are known."""
    age = "built at an unknown time" if built.age_seconds is None else f"built {_ago(built.age_seconds)}"
    size = "" if built.bytes is None else f", {build_forecast.said(built.bytes)}"
    bloat = "" if built.bloat is None else f" ({built.bloat:.0%} of a new one)"
    prefixes = f", prefixes of {build_forecast.said(built.prefix_bytes)}" if built.prefix_bytes else ""
    drift = "" if built.drift is None else f", {built.drift:.0%} of its chunks changed since"
    advice = ": `pg-semantic reindex` builds it again" if (built.drift or 0) > _MUCH_DRIFT else ""
    return f"vector index {age}{size}{bloat}{prefixes}{drift}{advice}."


def _ago(seconds: float) -> str:
    return f"{build_forecast.duration(seconds).removeprefix('about ')} ago"


def _recall(known: KeptRecall) -> str:
    """Returns what is known of the recall of an index that has an objective or was tuned; otherwise nothing."""
    scans = f"ef_search = {known.ef_search}{' (tuned)' if known.tuned else ''}"
    if known.stale and known.objective is None:
        return "ef_search was tuned for the previous copy, so searches use the default: run `tune --recall` again."
    if known.objective is None:
        return f"searches use {scans}." if known.tuned else ""
    if known.problem:
        return f"recall objective {known.objective:g}, {scans}; not measured: {known.problem}."
    if known.recall is None or known.state is None:
        return f"recall objective {known.objective:g}, {scans}; not measured yet."
    measured = f"recall {known.recall:.3f} ({known.low:.3f} to {known.high:.3f}, {known.queries} queries)"
    return f"{measured}, objective {known.objective:g}: {_STATES[known.state]}; {scans}."


def _row(index: IndexStatus) -> tuple[object, ...]:
    rows = (_count(count, exact=index.exact) for count in (index.rows, index.synced))
    return (
        index.index,
        *rows,
        index.waiting,
        index.failed,
        index.truncated,
        _count(index.chunks, exact=index.exact),
        _seconds(index.oldest_seconds),
        _seconds(index.eta_seconds),
        index.vector_index,
        index.lexical_index or "none",
    )


def _quoted(index: IndexStatus) -> str:
    """Returns the name of the index, quoted for the shell."""
    return shlex.quote(index.index.removesuffix(f" ({index.generation})"))


def _count(count: int | None, *, exact: bool) -> object:
    return count if exact or count is None else f"~{count}"


def _seconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)
