"""``pg-semantic status``: how true the vectors are right now."""

from pg_semantic import database
from pg_semantic.cli import options, output
from pg_semantic.sync import status as sync


def status(json: options.Json = False, dsn: options.Dsn = None) -> None:
    """Show each semantic index: rows synced and waiting, failures, the vector index, workers.

    Cut are rows with text that the encoder could not read whole; age is that of the oldest change that waits.

    Example: `pg-semantic status --json`
    """
    with options.engine(dsn) as engine, engine.connect() as connection, database.translated():
        database.require_installed(connection)
        indexes = sync.indexes(connection)
        workers = sync.workers_alive(connection)
    if json:
        output.as_json({"workers": workers, "indexes": indexes})
        return
    columns = ("index", "rows", "synced", "waiting", "failed", "cut", "chunks", "age s", "hnsw")
    rows = [
        (
            i.name,
            i.rows,
            i.synced,
            i.pending + i.processing,
            i.failed,
            i.truncated,
            i.chunks,
            None if i.oldest_seconds is None else round(i.oldest_seconds),
            i.vector_index,
        )
        for i in indexes
    ]
    output.table(columns, rows, title=f"{workers} workers alive")
    for index in indexes:
        for parked in index.failures:
            what = f"{index.name}, row {parked.key}: failed {parked.attempts} times: {parked.error}"
            output.say(output.escaped(what))
