"""Progress bars for long operations: how much is done, and the time left."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import sqlalchemy as sa
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pg_semantic.cli import output
from pg_semantic.database import transaction
from pg_semantic.fleet import FillProgress
from pg_semantic.operations import status
from pg_semantic.operations.verify import CheckedPage
from pg_semantic.registry import Generation
from pg_semantic.worker.batch_log import Progress as WorkerProgress
from pg_semantic.worker.build_progress import BuildProgress

_COUNT_SECONDS = 2.0


@contextlib.contextmanager
def bar(engine: sa.Engine, *, shown: bool) -> Iterator[Callable[[WorkerProgress], None]]:
    """Shows a bar of synced rows while the block runs.

    Yields:
        A function to call with the worker's progress. It counts the waiting rows at most every two seconds.
    """
    columns = (
        TextColumn("syncing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} rows/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=output.console, disable=not shown) as display:
        task = display.add_task("sync", total=None, rate=0.0)
        started = counted = time.monotonic()
        total = 0

        def advance(done: WorkerProgress) -> None:
            nonlocal counted, total
            now = time.monotonic()
            if not total or now - counted > _COUNT_SECONDS:
                counted = now
                with transaction.unless_busy(), transaction.begin(engine) as connection:
                    total = done.rows + status.waiting(connection)
            display.update(task, completed=done.rows, total=max(total, done.rows), rate=done.rows / (now - started))

        yield advance if shown else lambda _: None


@contextlib.contextmanager
def pages(
    engine: sa.Engine, generations: Sequence[Generation], *, shown: bool
) -> Iterator[Callable[[CheckedPage], None]]:
    """Shows a bar over the rows of these semantic indexes while the block runs. The total is an estimate.

    Yields:
        A function to call with each page.
    """
    columns = (TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.console, disable=not shown, transient=True) as display:
        total = 0
        with transaction.unless_busy():
            total = status.rows_estimate(engine, [generation.id for generation in generations])
        task = display.add_task("rows", total=total or None)
        yield lambda page: display.advance(task, page.rows)


@contextlib.contextmanager
def queries(count: int, *, shown: bool, what: str = "queries") -> Iterator[Callable[[], None]]:
    """Shows a bar over ``count`` queries, or other steps, while the block runs.

    Yields:
        A function to call after each of them.
    """
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.console, disable=not shown, transient=True) as display:
        task = display.add_task(what, total=count)
        yield lambda: display.advance(task)


@contextlib.contextmanager
def compared(count: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Shows a bar over ``count`` rows while the block runs.

    Yields:
        A function to call with the number of rows that were compared since the last call.
    """
    columns = (TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.console, disable=not shown, transient=True) as display:
        task = display.add_task("rows", total=count)
        yield lambda rows: display.advance(task, rows)


@contextlib.contextmanager
def training(*, shown: bool, what: str = "training") -> Iterator[Callable[[int, int], None]]:
    """Shows a bar over the steps of training, or of ``what``, while the block runs.

    Yields:
        A function to call after each step, with how many are done and how many are planned.
    """
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.console, disable=not shown, transient=True) as display:
        task = display.add_task("steps", total=None)
        yield lambda done, planned: display.update(task, completed=done, total=planned)


@contextlib.contextmanager
def index_build(chunks: int, *, shown: bool) -> Iterator[Callable[[BuildProgress], None]]:
    """Shows a bar over the chunks of a vector index while it is built, with the phase that the server is in.

    Args:
        chunks: How many chunks there are, by estimate.
        shown: Whether to show it.

    Yields:
        A function to call with the progress.
    """
    columns = (TextColumn("{task.fields[phase]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.console, disable=not shown, transient=True) as display:
        task = display.add_task("chunks", total=chunks, phase="building index")

        def advance(done: BuildProgress) -> None:
            before = 0 if done.partition is None else (done.partition - 1) * chunks // done.partitions
            display.update(
                task, completed=before + done.chunks, total=max(chunks, before + done.chunks), phase=done.phase
            )

        yield advance


@contextlib.contextmanager
def backfill(*, shown: bool) -> Iterator[Callable[[FillProgress], None]]:
    """Shows a bar of synced rows, whichever worker synced them, then the phases of the index build.

    Yields:
        A function to call with the progress.
    """
    columns = (
        TextColumn("{task.fields[phase]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=output.console, disable=not shown, transient=True) as display:
        task = display.add_task("rows", total=None, phase="starting", speed="")

        def advance(now: FillProgress) -> None:
            phase = now.build.phase if now.build else "paused" if now.paused else f"syncing, {now.workers} workers"
            speed = f"{now.rows_per_second:.0f} rows/s" if now.rows_per_second else ""
            display.update(task, completed=now.done, total=now.total, phase=phase, speed=speed)

        yield advance
