"""The demo's corpus: tldr pages (CC BY 4.0, see ``data/SOURCE.md``), their mapped class, and judgements of them."""

import gzip
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import func, orm, select
from sqlalchemy.orm import Mapped, mapped_column

from pg_semantic.index.declare import SemanticIndex

DATA = Path(__file__).parent / "data"
JUDGED = DATA / "judged.csv"
"""420 questions with the pages of the sample that answer them, for `evaluation.Judgements.read`."""

PAGES = 7_425
SAMPLE = 1_000  # little enough to encode within a minute
_EVERY = PAGES // SAMPLE
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


class Base(orm.DeclarativeBase):
    """The declarative base of the demo's tables."""


class Page(Base):
    """A tldr page: what a command does, with examples."""

    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True)
    platform: Mapped[str]
    title: Mapped[str]
    text: Mapped[str]

    semantic = SemanticIndex("title", "text", encoder=ENCODER)


def pages(*, only_sample: bool = False) -> Iterator[Page]:
    """Yields the pages of the corpus, with their numbers as ids.

    Args:
        only_sample: Whether to yield only every seventh page, up to `SAMPLE`.
    """
    with gzip.open(DATA / "tldr.jsonl.gz", "rt", encoding="utf-8") as lines:
        wanted = (0, SAMPLE * _EVERY, _EVERY) if only_sample else (None,)
        for number, line in itertools.islice(enumerate(lines, 1), *wanted):
            record = json.loads(line)
            platform = record["_id"].partition("/")[0]
            yield Page(id=number, platform=platform, title=record["title"], text=record["text"])


def load(session: orm.Session, *, only_sample: bool = False) -> int:
    """Adds the pages that the table lacks, and commits.

    Args:
        only_sample: Whether to add only those of the sample.

    Returns:
        The number of pages in the table.
    """
    present = set(session.scalars(select(Page.id)))
    session.add_all(page for page in pages(only_sample=only_sample) if page.id not in present)
    session.flush()
    ids = func.pg_get_serial_sequence(Page.__tablename__, Page.id.key)
    session.execute(select(func.setval(ids, func.max(Page.id))))  # so that you can insert rows without an id
    session.commit()
    return session.execute(select(func.count()).select_from(Page)).scalar_one()
