"""``pg-semantic worker``: the process that keeps vectors true to the text."""

import gc
import logging
import os
import signal
import socket
import threading
from typing import Annotated

import typer

from pg_semantic import encoders, errors, settings
from pg_semantic.cli import devices as several
from pg_semantic.cli import logs, options, output, progress
from pg_semantic.encoders import Encoder
from pg_semantic.worker import signals
from pg_semantic.worker.pipeline import Progress
from pg_semantic.worker.worker import Worker

EXAMPLES = options.examples(
    "pg-semantic worker --dsn postgresql://app@localhost/shop",
    "pg-semantic worker --once --json",
    "pg-semantic worker --devices all",
)

_INTERRUPTED = 130
_GIVE_BACK_SECONDS = 5.0
_STDIN = 0

log = logging.getLogger("pg_semantic.worker")


def worker(
    once: Annotated[bool, typer.Option("--once", help="Exit when no job is waiting.")] = False,
    device: Annotated[
        str | None, typer.Option(help="Torch device: cpu, cuda:1, mps. Default: the fastest at hand.")
    ] = None,
    devices: Annotated[
        str | None, typer.Option(help="One worker process for each of: cuda:0,cuda:1, or all of this machine's.")
    ] = None,
    batch_rows: Annotated[int | None, typer.Option(help="Rows to claim at once, at most.", show_default="2000")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.", show_default="text")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log with --once too.")] = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Encode rows whose text changed, for every semantic index in the database, until told to stop.

    SIGTERM or Ctrl-C finishes the rows in hand and exits; rows not finished in PG_SEMANTIC_DRAIN_SECONDS, or at a
    second signal, are given back at once. When the database goes away the worker waits for it, except with --once.
    Any number of workers may run; --devices starts several, and starts again those that die.
    """
    if device and devices:
        raise typer.BadParameter("give --device or --devices, not both", param_hint="--devices")
    configured = settings.load(device=device, batch_rows=batch_rows, log_format=log_format)
    logs.configure(style=configured.log_format, level=logging.WARNING if once and not verbose else logging.INFO)
    if devices is not None:
        given = {"--batch-rows": batch_rows, "--log-format": log_format, "--verbose": verbose, "--json": json}
        names = several.listed(devices)
        raise typer.Exit(several.run(names, given | {"--once": once}, once=once, dsn=dsn))
    _work(configured, once=once, json=json, dsn=dsn, supervised=supervised)


def _work(configured: settings.Settings, *, once: bool, json: bool, dsn: str | None, supervised: bool) -> None:
    stop = threading.Event()
    with options.engine(dsn) as engine, progress.bar(engine, shown=once and not (json or supervised)) as advance:
        working = Worker(engine, configured, load=_loaded, on_progress=advance)
        _obey_signals(working, stop, configured.drain_seconds)
        if supervised:
            threading.Thread(target=_stop_with_supervisor, daemon=True).start()
        done = working.run(stop, once=once)
    if once and stop.is_set():
        raise typer.Exit(_INTERRUPTED)
    _print(done, json=json)


def _loaded(
    reference: str,
    *,
    dimensions: int,
    query_prompt: str | None,
    document_prompt: str | None,
    settings: settings.Settings,
) -> Encoder:
    """An encoder that stays: to look through all it consists of for garbage would stop all for a third of a second.

    One before it that was refused goes first, and so does what loading leaves behind: a hundred megabytes.
    """
    gc.unfreeze()
    gc.collect()
    try:
        encoder = encoders.load(
            reference,
            dimensions=dimensions,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            settings=settings,
        )
        gc.collect()
    finally:  # also of the others, when this one could not be loaded
        gc.freeze()
    return encoder


def _obey_signals(working: Worker, stop: threading.Event, drain_seconds: float) -> None:
    """Has signals obeyed on a thread of its own: a handler would interrupt whatever the main thread holds."""
    heard = signals.listen(signal.SIGTERM, signal.SIGINT)
    threading.Thread(target=_obey, args=(heard, working, stop, drain_seconds), daemon=True).start()


def _stop_with_supervisor() -> None:
    """Standard input is a pipe that only the supervisor holds; it closes when that ends, however it ends."""
    while os.read(_STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _obey(heard: socket.socket, working: Worker, stop: threading.Event, drain_seconds: float) -> None:
    _await(heard)
    stop.set()
    late = threading.Timer(drain_seconds, _give_up, args=(working,))
    late.daemon = True
    late.start()
    _await(heard)
    _give_up(working)


def _await(heard: socket.socket) -> None:
    heard.recv(1)


def _give_up(working: Worker) -> None:
    """Ends the process with work in hand, which an encoder can not be made to leave."""
    log.warning("stopped before all in hand was finished: the rest is given back", extra={"event": "abandoned"})
    giving_back = threading.Thread(target=_give_back, args=(working,), daemon=True)
    giving_back.start()
    giving_back.join(_GIVE_BACK_SECONDS)
    os._exit(_INTERRUPTED)


def _give_back(working: Worker) -> None:
    try:
        working.abandon()
    except errors.DatabaseError:
        log.warning("the database does not answer: others take the rest when the leases end")


def _print(done: Progress, *, json: bool) -> None:
    if json:
        output.as_json(done)
    else:
        output.say(f"{done.rows} rows synced, {done.chunks_encoded} chunks encoded, {done.rows_failed} rows failed.")
