"""``pg-semantic worker``: the process that keeps vectors true to the text."""

import logging
import os
import signal
import threading
from typing import Annotated

import typer

from pg_semantic import errors, settings
from pg_semantic.cli import logs, options, output, progress
from pg_semantic.settings import Settings
from pg_semantic.sync.pipeline import Progress
from pg_semantic.sync.worker import Worker

_INTERRUPTED = 130

log = logging.getLogger("pg_semantic.worker")


def worker(
    once: Annotated[bool, typer.Option("--once", help="Exit when no job is waiting.")] = False,
    device: Annotated[
        str | None, typer.Option(help="Torch device: cpu, cuda:1, mps. Default: the fastest at hand.")
    ] = None,
    batch_rows: Annotated[int | None, typer.Option(help="Rows to claim at once, at most.", show_default="256")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.", show_default="text")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log with --once too.")] = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Encode rows whose text changed, for every semantic index in the database, until told to stop.

    SIGTERM or Ctrl-C finishes the rows in hand and exits; rows not finished in PG_SEMANTIC_DRAIN_SECONDS, or at a
    second signal, are given back at once. When the database goes away the worker waits for it, except with --once.
    Any number of workers may run.

    Examples: `pg-semantic worker --dsn postgresql://app@localhost/shop`, `pg-semantic worker --once --json`
    """
    configured = settings.load(device=device, batch_rows=batch_rows, log_format=log_format)
    logs.configure(style=configured.log_format, level=logging.WARNING if once and not verbose else logging.INFO)
    stop = threading.Event()
    with options.engine(dsn) as engine, progress.bar(engine, shown=once and not json) as advance:
        working = Worker(engine, configured, on_progress=advance)
        _obey_signals(working, stop, configured)
        done = working.run(stop, once=once)
    if once and stop.is_set():
        raise typer.Exit(_INTERRUPTED)
    _print(done, json=json)


def _obey_signals(working: Worker, stop: threading.Event, configured: Settings) -> None:
    def ask(*_: object) -> None:
        if stop.is_set():
            threading.Thread(target=_give_up, args=(working,), daemon=True).start()
            return
        stop.set()
        late = threading.Timer(configured.drain_seconds, _give_up, args=(working,))
        late.daemon = True
        late.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)


def _give_up(working: Worker) -> None:
    """Ends the process with work in hand, which an encoder can not be made to leave."""
    log.warning("stopped before all in hand was finished: the rest is given back", extra={"event": "abandoned"})
    try:
        working.abandon()
    except errors.DatabaseError:
        log.warning("the database does not answer: others take the rest when the leases end")
    os._exit(_INTERRUPTED)


def _print(done: Progress, *, json: bool) -> None:
    if json:
        output.as_json(done)
    else:
        output.say(f"{done.rows} rows synced, {done.chunks_encoded} chunks encoded, {done.rows_failed} rows failed.")
