"""``pg-semantic worker``: the process that keeps vectors true to the text."""

import logging
import signal
import threading
from typing import Annotated

import typer

from pg_semantic import settings
from pg_semantic.cli import options, output, progress
from pg_semantic.sync.worker import Worker

_INTERRUPTED = 130


def worker(
    once: Annotated[bool, typer.Option("--once", help="Exit when no job is waiting.")] = False,
    device: Annotated[
        str | None, typer.Option(help="Torch device: cpu, cuda:1, mps. Default: the fastest at hand.")
    ] = None,
    batch_rows: Annotated[int | None, typer.Option(help="Rows to claim at once.", show_default="256")] = None,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Encode rows whose text changed, for every semantic index in the database, until told to stop.

    SIGTERM or Ctrl-C finishes the rows in hand and exits. Any number of workers may run.

    Examples: `pg-semantic worker --dsn postgresql://app@localhost/shop`, `pg-semantic worker --once --json`
    """
    logging.basicConfig(level=logging.WARNING if once else logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("pg_semantic").setLevel(logging.WARNING if once else logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    configured = settings.load(device=device, batch_rows=batch_rows)
    with options.engine(dsn) as engine, progress.bar(engine, shown=once and not json) as advance:
        done = Worker(engine, configured, on_progress=advance).run(stop, once=once)
    if once and stop.is_set():
        raise typer.Exit(_INTERRUPTED)
    if json:
        output.as_json(done)
    else:
        output.say(f"{done.rows} rows synced, {done.chunks_encoded} chunks encoded, {done.rows_failed} rows failed.")
