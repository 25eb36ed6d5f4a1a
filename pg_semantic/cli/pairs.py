"""``pg-semantic pairs``: makes pairs to train on from the rows themselves, without judgements."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from sqlalchemy import orm

from pg_semantic import errors, training
from pg_semantic.cli import named_index, options, output, progress, row_conditions
from pg_semantic.database import own_transaction
from pg_semantic.evaluation import existing_rows, private_files
from pg_semantic.index import seeds
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.training import Pair, RowPair

EXAMPLES = options.examples(
    "pg-semantic pairs article_semantic --sentences 2000 --out sentences.jsonl",
    "pg-semantic pairs article_semantic --column title --limit 5000 --out titles.jsonl",
    "pg-semantic pairs article_semantic --similar-rows 2000 --least 0.8 --most 0.95 --out rows.jsonl",
)

_BAND = (0.8, 0.95)  # of the similarity of similar rows

Sentences = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="A sentence of each of N random rows asks for its row.")
]
Column = Annotated[str | None, typer.Option(metavar="NAME", help="The text in this column asks for its row.")]
Limit = Annotated[int | None, typer.Option(metavar="N", min=1, help="With --column: only N random rows.")]
Rows = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="The text of each of N random rows asks for itself (SimCSE).")
]
SimilarRows = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="The text of a row asks for a similar row; up to N pairs.")
]
Least = Annotated[float | None, typer.Option(help="The least similarity of similar rows. Default: 0.8.")]
Most = Annotated[float | None, typer.Option(help="Their highest similarity: above are copies. Default: 0.95.")]
Seed = Annotated[int, typer.Option(help="The same seed chooses the same rows.", min=0, max=seeds.MOST)]
WithoutRowsOf = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Leave out rows that answer these judgements, such as the held-out ones."),
]


def pairs(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    sentences: Sentences = None,
    column: Column = None,
    rows: Rows = None,
    similar_rows: SimilarRows = None,
    limit: Limit = None,
    least: Least = None,
    most: Most = None,
    where: row_conditions.Where = None,
    without_rows_of: WithoutRowsOf = None,
    seed: Seed = 0,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Make pairs to train on without judgements, for `mine` and `train encoder`. Needs no encoder.

    Pass one of --sentences, --column, --rows and --similar-rows. With the first two, a query is a text of the row that
    answers it: the file has texts of rows, and `train encoder` should cut quotes out of the passages. With the others,
    two rows are a pair, the file has only keys, and you need a file with queries too, because pairs of rows only teach.
    Only you can read the file.
    """
    source = _PairSource(sentences, column, rows, similar_rows, (least, most), limit, seed)
    source.check()
    private_files.require_writable(out)
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        bound = named_index.find(session, index)
        found = source.made(session, bound, row_conditions.conditions(session, bound, where), shown=not json)
        if not found:
            raise errors.ConfigurationError(source.why_none)
        kept = _without(session, bound, found, without_rows_of)
    if source.of_rows:
        training.write_row_pairs(out, [one for one in kept if isinstance(one, RowPair)])
    else:
        training.write_pairs(out, [one for one in kept if isinstance(one, Pair)])
    _print(out, made=len(found), written=len(kept), json=json)


@dataclass(frozen=True, slots=True)
class _PairSource:
    """What pairs are made of: the options of the command."""

    sentences: int | None
    column: str | None
    rows: int | None
    similar_rows: int | None
    band: tuple[float | None, float | None]
    limit: int | None
    seed: int

    @property
    def of_rows(self) -> bool:
        """Whether both texts of a pair are those of rows."""
        return self.rows is not None or self.similar_rows is not None

    @property
    def why_none(self) -> str:
        """Why no pair was found, and what to do."""
        if self.sentences is not None:
            return (
                "None of the random rows has a sentence of 4 to 40 words and other text next to it: choose more of "
                "them, or make pairs of a --column or of --rows instead."
            )
        if self.similar_rows is not None:
            return "No two rows have a similarity between --least and --most: lower --least."
        return "No row has text to make a pair of: check --column and --where, or run a worker."

    def check(self) -> None:
        """Raises `typer.BadParameter` unless there is exactly one."""
        given = [one for one in (self.sentences, self.column, self.rows, self.similar_rows) if one is not None]
        if len(given) != 1:
            raise typer.BadParameter("Pass one of --sentences, --column, --rows and --similar-rows.")
        if self.similar_rows is None and self.band != (None, None):
            raise typer.BadParameter("--least and --most need --similar-rows.")
        if self.column is None and self.limit is not None:
            raise typer.BadParameter("--limit needs --column.")
        if self.column is not None and self.limit is None and self.seed:
            raise typer.BadParameter("With --column, --seed needs --limit: otherwise all rows are taken.")

    def made(
        self, session: orm.Session, index: BoundIndex[Any], where: Sequence[sa.ColumnElement[bool]], *, shown: bool
    ) -> Sequence[Pair | RowPair]:
        """Makes the pairs."""
        if self.sentences is not None:
            return training.from_texts(session, index, where=where, limit=self.sentences, seed=self.seed)
        if self.column is not None:
            column, seed = row_conditions.column(session, index, self.column), None if self.limit is None else self.seed
            return training.from_column(session, index, column, where=where, limit=self.limit, seed=seed)
        if self.rows is not None:
            return training.from_rows(session, index, where=where, limit=self.rows, seed=self.seed)
        assert self.similar_rows is not None  # noqa: S101 - checked
        least, most = (default if given is None else given for given, default in zip(self.band, _BAND, strict=True))
        session.rollback()
        with progress.compared(_count(session, index) if shown else 0, shown=shown) as advance:
            return training.from_similar_rows(
                session, index, least=least, most=most, where=where, limit=self.similar_rows,
                seed=self.seed, on_rows=advance,
            )  # fmt: skip


def _count(session: orm.Session, index: BoundIndex[Any]) -> int:
    with own_transaction.reading(session):
        return session.scalar(sa.select(sa.func.count()).select_from(index.entity)) or 0


def _without(
    session: orm.Session, index: BoundIndex[Any], found: Sequence[Pair | RowPair], path: Path | None
) -> Sequence[Pair | RowPair]:
    """Returns the pairs without those of rows that are relevant in a file of judgements."""
    if path is None:
        return found
    given = {pair.key for pair in options.read_pairs(path)}
    rows = given | set(existing_rows.canonical(session, index, given).values())
    return [one for one in found if rows.isdisjoint({one.key, one.row} if isinstance(one, RowPair) else {one.key})]


def _print(out: Path, *, made: int, written: int, json: bool) -> None:
    if json:
        output.as_json({"pairs": written, "left_out": made - written})
        return
    if made > written:
        output.say(f"Left out {output.counted(made - written, 'pair')} with a row that answers these judgements.")
    output.say(output.escaped(f"Wrote {output.counted(written, 'pair')} to {out}. Only you can read it."))
