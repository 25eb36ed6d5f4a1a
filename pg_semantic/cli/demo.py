"""``pg-semantic demo``: loads, encodes, searches and edits real text on an embedded server, in a few minutes."""

import datetime as dt
import shlex
import sys
import threading
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer
from sqlalchemy import orm

from pg_semantic import database, encoders, settings
from pg_semantic.cli import options, output, progress
from pg_semantic.database import embedded, migrate
from pg_semantic.demo import tldr_pages
from pg_semantic.demo.tldr_pages import Page
from pg_semantic.search import Searcher
from pg_semantic.worker.batch_log import Progress
from pg_semantic.worker.worker import Worker

EXAMPLES = options.examples(
    "pg-semantic demo --path /tmp/demo",
)

QUERIES = (
    "see which process is using a port",
    "undo my last commit but keep the changes",
    "make a video smaller without losing much quality",
)
_EDITED = "cowsay"
_NEW_TEXT = "Order a cup of tea from the machine in the kitchen.\nTwo sugars, at {time}: tea --sugar 2"
_NEW_QUERY = "I would like a hot drink"
_UPDATE = "UPDATE page SET text = :text WHERE title = :title"
_PASSAGE_WIDTH = 90
_PSQL = "SELECT title, embedded_at FROM page JOIN page_semantic_receipt USING (id) ORDER BY 2 DESC LIMIT 5"


def demo(
    path: Annotated[Path, typer.Option(help="Folder for the data of the embedded server.")] = Path(".demo"),
) -> None:
    """Load 7,425 tldr pages, encode and search them, edit one, and search again."""
    with options.engine(f"embedded:{path}") as engine:
        _load(engine)
        output.say(f"[bold]2.[/] A worker encodes the new rows with {tldr_pages.ENCODER}.")
        done = _sync(engine)
        output.say(f"   {done.rows} rows synced, {done.chunks_encoded} chunks encoded.")
        searcher = Searcher(encoders.load(tldr_pages.ENCODER))
        output.say("[bold]3.[/] Search by meaning.")
        for query in QUERIES:
            _show(engine, searcher, query)
        _edit(engine, searcher)
        _say_next(path, engine)


def _load(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    with database.translated():
        tldr_pages.Base.metadata.create_all(engine)
        with orm.Session(engine) as session:
            count = tldr_pages.load(session)
    output.say(f"\n[bold]1.[/] {count} tldr pages are in the table [bold]page[/], loaded through the ORM.")


def _sync(engine: sa.Engine) -> Progress:
    with progress.bar(engine, shown=True) as advance:
        return Worker(engine, settings.load(), on_progress=advance).run(threading.Event(), once=True)


def _show(engine: sa.Engine, searcher: Searcher, query: str, *, limit: int = 3) -> None:
    with orm.Session(engine) as session:
        hits = searcher.search(session, Page.semantic, query, limit=limit)
        rows = [(hit.score, hit.entity.title, output.one_line(hit.passage, width=_PASSAGE_WIDTH)) for hit in hits]
    output.table(("score", "title", "passage"), rows, title=f"\n“{query}”")


def _edit(engine: sa.Engine, searcher: Searcher) -> None:
    text = _NEW_TEXT.format(time=dt.datetime.now().astimezone().strftime("%H:%M:%S"))
    with engine.begin() as connection:
        connection.execute(sa.text(_UPDATE), {"text": text, "title": _EDITED})
    output.say(f"\n[bold]4.[/] Edit one row in plain SQL: {_UPDATE}")
    done = _sync(engine)
    output.say(f"   {done.rows} row synced, [bold]{done.chunks_encoded} chunk encoded[/].")
    _show(engine, searcher, _NEW_QUERY, limit=1)


def _say_next(path: Path, engine: sa.Engine) -> None:
    program, dsn = shlex.quote(sys.argv[0]), shlex.quote(f"embedded:{path}")
    psql = shlex.join(
        [str(embedded.psql(path)), engine.url.set(drivername="postgresql").render_as_string(hide_password=False)]
    )
    output.say("\n[bold]Next, try[/]")
    for line in (
        f'{program} search page_semantic "find big files" --dsn {dsn}',
        f"{program} status --dsn {dsn}",
        f'{psql} -c "{_PSQL}"',
        f"{program} db stop {shlex.quote(str(path))}",
    ):
        output.verbatim(f"  {line}")
