"""``pg-semantic demo``: loads, encodes, searches and edits real text on an embedded server.

Loads and encodes a sample first, so that the first search comes within a minute.
"""

import contextlib
import datetime as dt
import shlex
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from pg_semantic.encoders import Encoder
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.search import Searcher
from pg_semantic.worker.worker import Worker

EXAMPLES = options.examples(
    "pg-semantic demo --path /tmp/demo",
)

QUERIES = (
    "get back a file that I deleted by mistake",
    "see which process is using a port",
    "save a web page with all its images in one file",
)
_EDITED = "cowsay"
_NEW_TEXT = "Order a cup of tea from the machine in the kitchen. Two sugars, at {time}: tea --sugar 2"
_NEW_QUERY = "I would like a hot drink"
_UPDATE = sa.text("UPDATE page SET text = :text WHERE title = :title")
_COUNT_ENCODED = sa.text("SELECT count(*) FROM page JOIN page_semantic_receipt USING (id)")
_PASSAGE_WIDTH = 90
_PSQL = "SELECT title, embedded_at FROM page JOIN page_semantic_receipt USING (id) ORDER BY 2 DESC LIMIT 5"
_PORT = 8080
_INTERRUPTED = 130


def demo(
    path: Annotated[Path, typer.Option(help="Folder for the data of the embedded server.")] = Path(".demo"),
) -> None:
    """Encode and search 1,000 tldr pages on an embedded server, then all 7,425; then edit one and search again.

    You can stop it with Ctrl-C. The next run with the same folder continues.
    """
    where = output.escaped(path)
    output.say(f"[bold]Start[/] Postgres in the folder {where}. Ctrl-C stops the demo; the next run continues.")
    with _stoppable(), options.engine(f"embedded:{path}") as engine:
        migrate.upgrade(engine)
        with database.translated():
            tldr_pages.Base.metadata.create_all(engine)
        encoder = encoders.load(tldr_pages.ENCODER)
        _Demo(engine, encoder, Searcher(encoder)).run()
        _say_next(path, engine)


@dataclass(frozen=True, slots=True)
class _Demo:
    """The steps of the demo. Those that an earlier run has completed are skipped."""

    engine: sa.Engine
    encoder: Encoder
    searcher: Searcher

    def run(self) -> None:
        if self._encoded() < tldr_pages.SAMPLE:
            self._load(only_sample=True)
            self._sync()
        if (encoded := self._encoded()) < tldr_pages.PAGES:
            self._search(f"the first {encoded:,} pages")
            self._load()
            self._sync()
        self._search(f"all {self._encoded():,} pages")
        self._edit()

    def _encoded(self) -> int:
        with database.translated(), self.engine.connect() as connection:
            count: int = connection.execute(_COUNT_ENCODED).scalar_one()
        return count

    def _load(self, *, only_sample: bool = False) -> None:
        with database.translated(), orm.Session(self.engine) as session:
            count = tldr_pages.load(session, only_sample=only_sample)
        output.say(f"\n[bold]Load[/] tldr pages through the ORM: table `page` has {count:,} of {tldr_pages.PAGES:,}.")

    def _sync(self) -> None:
        output.say(f"[bold]Encode[/] the rows that are new or have changed, with {self.encoder.reference}.")
        stop = threading.Event()
        with progress.bar(self.engine, shown=True) as advance, ThreadPoolExecutor(1) as thread:
            worker = Worker(self.engine, settings.load(), load=self._loaded, on_progress=advance)
            working = thread.submit(worker.run, stop, once=True)
            try:
                done = working.result()
            except KeyboardInterrupt:
                output.say("Finishing the rows in progress.")
                raise
            finally:
                stop.set()
        output.say(f"{done.rows:,} rows synced, {done.chunks_encoded:,} chunks encoded.")

    def _loaded(
        self,
        reference: str,
        *,
        dimensions: int,
        query_prompt: str | None,
        document_prompt: str | None,
        settings: settings.Settings,
    ) -> Encoder:
        """Returns the demo's own encoder, or loads another one, for an index that you have added."""
        wanted = EncoderSpec(reference, dimensions, query_prompt, document_prompt)
        if wanted == Page.semantic.spec.encoder:
            return self.encoder
        return encoders.load(
            reference,
            dimensions=dimensions,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            settings=settings,
        )

    def _search(self, where: str) -> None:
        output.say(f"\n[bold]Search[/] {where} by meaning.")
        for query in QUERIES:
            self._show(query)

    def _show(self, query: str, *, limit: int = 3) -> None:
        with orm.Session(self.engine) as session:
            hits = self.searcher.search(session, Page.semantic, query, limit=limit)
            rows = [(hit.score, hit.entity.title, output.one_line(hit.passage, width=_PASSAGE_WIDTH)) for hit in hits]
        output.table(("score", "title", "passage"), rows, title=f"\n“{query}”")

    def _edit(self) -> None:
        time = dt.datetime.now().astimezone().strftime("%H:%M:%S")
        update = _UPDATE.bindparams(text=_NEW_TEXT.format(time=time), title=_EDITED)
        with database.translated(), self.engine.begin() as connection:
            connection.execute(update)
        output.say("\n[bold]Edit[/] one row in plain SQL:")
        output.verbatim(f"  {update.compile(self.engine, compile_kwargs={'literal_binds': True})}")
        self._sync()
        self._show(_NEW_QUERY, limit=1)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        output.say("Stopped. To continue, run the same command again: rows that are encoded stay encoded.")
        raise typer.Exit(_INTERRUPTED) from None


def _say_next(path: Path, engine: sa.Engine) -> None:
    program, dsn = _program(), shlex.quote(f"embedded:{path}")
    psql = shlex.join(
        [str(embedded.psql(path)), engine.url.set(drivername="postgresql").render_as_string(hide_password=False)]
    )
    output.say(f"\n[bold]Search in a browser[/]: run this command, then open http://127.0.0.1:{_PORT}/")
    output.verbatim(f"  {program} serve --dsn {dsn} --port {_PORT}")
    output.say("\n[bold]Or try[/]")
    for line in (
        f'{program} search page_semantic "find big files" --dsn {dsn}',
        f"{program} status --dsn {dsn}",
        f'{psql} -c "{_PSQL}"',
        f"{program} db stop {shlex.quote(str(path))}",
    ):
        output.verbatim(f"  {line}")


def _program() -> str:
    """Returns this program as you can paste it into a shell."""
    own = Path(sys.argv[0])
    return shlex.join([sys.executable, "-m", "pg_semantic.cli"] if own.suffix == ".py" else [str(own)])
