"""``pg-semantic worker``: runs the process that keeps vectors in sync with the text."""

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
from pg_semantic.worker import garbage_collection, metrics_endpoint, unix_signals
from pg_semantic.worker.assignment import Assignment
from pg_semantic.worker.batch_log import Progress
from pg_semantic.worker.worker import Worker

EXAMPLES = options.examples(
    "pg-semantic worker --dsn postgresql://app@localhost/shop",
    "pg-semantic worker --once --json",
    "pg-semantic worker --devices all",
    "pg-semantic worker --index article_semantic",
    "pg-semantic worker --max-wal-mb-s 20",
    "pg-semantic worker --max-tokens-per-minute 1000000",
    "pg-semantic worker --metrics-port 9464",
)

OnlyIndex = Annotated[
    str | None, typer.Option(help="Serve only this semantic index, with all its generations. Default: all.")
]
Device = Annotated[str | None, typer.Option(help="Torch device: cpu, cuda:1, mps. Default: the fastest available.")]
Devices = Annotated[str | None, typer.Option(help="Run one worker process per device: cuda:0,cuda:1, or all.")]
BatchRows = Annotated[int | None, typer.Option(help="How many rows to claim at once, at most.", show_default="2000")]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        help="Serve metrics for Prometheus on this port; with --devices, one port per process, from this one on.",
        min=1,
        max=65535,
    ),
]
MetricsHost = Annotated[
    str, typer.Option(help="The address for --metrics-port. Anyone who can reach it can read the metrics.")
]
MaxWal = Annotated[
    float | None, typer.Option(help="Pause backfill while the server writes more WAL than this, in MB per second.")
]
MaxTokens = Annotated[
    int | None,
    typer.Option(help="Tokens that all workers of the database together send to remote encoders in a minute.", min=1),
]

_INTERRUPTED = 130
_GIVE_BACK_SECONDS = 5.0
_STDIN = 0

log = logging.getLogger("pg_semantic.worker")


def worker(
    once: Annotated[bool, typer.Option("--once", help="Exit once no job is waiting.")] = False,
    index: OnlyIndex = None,
    device: Device = None,
    devices: Devices = None,
    batch_rows: BatchRows = None,
    max_wal_mb_s: MaxWal = None,
    max_tokens_per_minute: MaxTokens = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    log_format: Annotated[str | None, typer.Option(help="text or json.", show_default="text")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log progress with --once too.")] = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
    rows_only: Annotated[bool, typer.Option("--rows-only", hidden=True)] = False,
) -> None:
    """Encode rows whose text changed, for every semantic index in the database or one of them, until stopped.

    On SIGTERM or Ctrl-C, finishes the rows in progress and exits. After PG_SEMANTIC_DRAIN_SECONDS, or at a second
    signal, returns unfinished rows to the queue. If the database is unreachable, waits for it, except with --once. You
    can run any number of workers. --devices starts several, and restarts those that die.
    """
    if device and devices:
        raise typer.BadParameter("pass --device or --devices, not both", param_hint="--devices")
    limits = {"max_wal_mb_s": max_wal_mb_s, "max_tokens_per_minute": max_tokens_per_minute}
    given = {"batch_rows": batch_rows, "log_format": log_format, **limits}
    configured = settings.load(device=device, **given)
    is_quiet = (once or rows_only) and not verbose
    logs.configure(style=configured.log_format, level=logging.WARNING if is_quiet else logging.INFO)
    if devices is not None:
        words = {f"--{name.replace('_', '-')}": value for name, value in given.items()}
        words |= {"--verbose": verbose, "--json": json, "--once": once, "--metrics-host": metrics_host}
        words["--index"] = index
        raise typer.Exit(
            several.run(several.listed(devices), words, once=once, dsn=dsn, first_metrics_port=metrics_port)
        )
    metrics = None if metrics_port is None else (metrics_host, metrics_port)
    assigned = Assignment(index, rows_only=rows_only)
    _work(configured, assigned, once=once, json=json, dsn=dsn, supervised=supervised, metrics=metrics)


def _work(
    configured: settings.Settings,
    assigned: Assignment,
    *,
    once: bool,
    json: bool,
    dsn: str | None,
    supervised: bool,
    metrics: tuple[str, int] | None,
) -> None:
    stop = threading.Event()
    garbage_collection.collect_rarely()
    with options.engine(dsn) as engine, progress.bar(engine, shown=once and not (json or supervised)) as advance:
        working = Worker(engine, configured, load=_loaded, on_progress=advance, assigned=assigned)
        if metrics is not None:
            metrics_endpoint.serve(lambda: working.activity, host=metrics[0], port=metrics[1])
        _obey_signals(working, stop, configured.drain_seconds)
        if supervised:
            threading.Thread(target=_stop_with_supervisor, daemon=True).start()
        done = working.run(stop, once=once)
    if once and stop.is_set():
        raise typer.Exit(_INTERRUPTED)
    if not assigned.rows_only:  # the command that started this worker prints the result
        _print(done, json=json)


def _loaded(
    reference: str,
    *,
    dimensions: int,
    query_prompt: str | None,
    document_prompt: str | None,
    settings: settings.Settings,
) -> Encoder:
    with garbage_collection.hiding_what_is_loaded():
        return encoders.load(
            reference,
            dimensions=dimensions,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            settings=settings,
        )


def _obey_signals(working: Worker, stop: threading.Event, drain_seconds: float) -> None:
    """Handles signals on a separate thread: a handler would interrupt the main thread, whatever locks it holds."""
    heard = unix_signals.listen(signal.SIGTERM, signal.SIGINT)
    threading.Thread(target=_obey, args=(heard, working, stop, drain_seconds), daemon=True).start()


def _stop_with_supervisor() -> None:
    """Stops this worker when its supervisor ends. Only the supervisor holds the other end of standard input, a pipe."""
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
    """Ends the process with work in progress, because an encoder cannot be interrupted."""
    log.warning("stopped with rows in progress: returning them to the queue", extra={"event": "abandoned"})
    giving_back = threading.Thread(target=_give_back, args=(working,), daemon=True)
    giving_back.start()
    giving_back.join(_GIVE_BACK_SECONDS)
    os._exit(_INTERRUPTED)


def _give_back(working: Worker) -> None:
    try:
        working.abandon()
    except errors.DatabaseError:
        log.warning(
            "the database does not answer: other workers take over the rows when their leases end",
            extra={"event": "not_given_back"},
        )


def _print(done: Progress, *, json: bool) -> None:
    if json:
        output.as_json(done)
    else:
        synced, failed = (output.counted(number, "row") for number in (done.rows, done.rows_failed))
        output.say(f"{synced} synced, {output.counted(done.chunks_encoded, 'chunk')} encoded, {failed} failed.")
