"""``pg-semantic mine``: finds hard negatives for training."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from sqlalchemy import orm

from pg_semantic import encoders, rerankers, training
from pg_semantic.cli import named_index, options, output, progress, row_conditions
from pg_semantic.database import own_transaction
from pg_semantic.evaluation import existing_rows, held_out_queries, private_files
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.rerankers import BatchingReranker
from pg_semantic.search.request import Mode
from pg_semantic.training import Mined, MinedPair, Mining, MiningReport, Pair
from pg_semantic.training.mining.choose_negatives import Sampling

EXAMPLES = options.examples(
    "pg-semantic mine article_semantic --pairs judged.jsonl --out mined.jsonl",
    "pg-semantic mine article_semantic --pairs judged.jsonl --out mined.jsonl --negatives 5 --relative-margin 0.05",
    "pg-semantic mine article_semantic --pairs judged.jsonl --out mined.jsonl --mode hybrid --group thread_id",
)

_SCORES = ("scores", "lowest", "25%", "median", "75%", "highest")
_QUERY_WIDTH = 60

Pairs = Annotated[
    Path, typer.Option(help="A file of pairs or of judgements (JSONL, CSV, TREC qrels), or a BEIR folder.")
]
ShowQueries = Annotated[
    bool, typer.Option("--show-queries", help="Print the queries of the examples, which are secret.")
]
Out = Annotated[Path, typer.Option(help="The file to write.")]
Negatives = Annotated[int, typer.Option(help="How many negatives per query.", min=1)]
RelativeMargin = Annotated[float | None, typer.Option(help="Drop rows within this share of the positive's score.")]
AbsoluteMargin = Annotated[float | None, typer.Option(help="Drop rows that score within this of the positive.")]
MaxScore = Annotated[float | None, typer.Option(help="Drop rows with a higher score.")]
MinScore = Annotated[float | None, typer.Option(help="Drop rows with a lower score.")]
RangeMin = Annotated[int, typer.Option(help="How many of the best remaining rows to skip.", min=0)]
RangeMax = Annotated[int | None, typer.Option(help="How many of the best remaining rows to choose from.", min=1)]
Sampled = Annotated[Sampling, typer.Option(help="Choose the top rows, or random ones.")]
Ranking = Annotated[Mode, typer.Option(help="Look for rows by meaning, by words (BM25), or by both.")]
Exact = Annotated[bool, typer.Option("--exact", help="Compute every distance, without the vector index.")]
NotNearerThan = Annotated[float, typer.Option(help="Drop rows this similar to a positive; 1 only drops equal texts.")]
Group = Annotated[str | None, typer.Option(help="Drop rows with the same value in this column as a positive.")]
Reranks = Annotated[str | None, typer.Option("--reranker", help="Score margins and bounds with this cross-encoder.")]
Seed = Annotated[int, typer.Option(help="Seed for random rows and for the examples.")]


def mine(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    pairs: Pairs,
    out: Out,
    topics: options.Topics = None,
    split: options.TrainSplit = None,
    where: row_conditions.Where = None,
    negatives: Negatives = 3,
    relative_margin: RelativeMargin = None,
    absolute_margin: AbsoluteMargin = None,
    max_score: MaxScore = None,
    min_score: MinScore = None,
    range_min: RangeMin = 0,
    range_max: RangeMax = None,
    sampling: Sampled = "top",
    mode: Ranking = "dense",
    exact: Exact = False,
    not_nearer_than: NotNearerThan = 0.95,
    group: Group = None,
    reranker: Reranks = None,
    seed: Seed = 0,
    show_queries: ShowQueries = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Find rows that look like answers to queries but aren't, to train on. Writes keys, and encodes no row.

    Costs one search per query. Only you can read the file: it has your queries and keys of rows. Settings mean what
    they do in mine_hard_negatives of sentence-transformers. If tenants share the table, mine for each: with --where, or
    as a role that sees only its rows. Prints how many candidates it found, and how many queries have negatives now.
    """
    bounds = (relative_margin, absolute_margin, max_score, min_score)
    given = _given(pairs, split, topics=topics, out=out)
    with options.installed(dsn) as engine, orm.Session(engine) as session, _loaded(reranker, bounds) as rerank:
        bound = named_index.find(session, index)
        scope = _Scope(row_conditions.conditions(session, bound, where), mode, exact)
        of = _column(session, bound, group)
        how = Mining(negatives, *bounds, range_min, range_max, sampling, not_nearer_than, of, rerank, seed=seed)
        found = _mine(session, bound, _usable(session, bound, given), how=how, scope=scope, shown=not json)
    _write(found, out, json=json, show_queries=show_queries)


def _given(path: Path, split: str | None, *, topics: Path | None, out: Path) -> list[Pair]:
    """Returns the pairs of a file, once it is sure that the result can be written."""
    private_files.require_writable(out)
    return options.read_pairs(path, split=options.split_of(path, split, usual="train"), topics=topics)


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where to look for candidates."""

    where: Sequence[sa.ColumnElement[bool]]
    mode: Mode
    exact: bool


def _usable(session: orm.Session, index: BoundIndex[Any], given: Sequence[Pair]) -> Sequence[Pair]:
    """Returns the pairs without held-out queries and their rows, and says how many these are.

    Other queries about the same rows would teach the answers, and what is written doesn't name the rows that are held
    out. Returns all pairs if none is left, to be refused.
    """
    with own_transaction.reading(session):
        held_out = held_out_queries.held_out_among(session, index, {pair.query for pair in given})
        rows = existing_rows.canonical(session, index, {pair.key for pair in given} if held_out else ())
    answers = {rows.get(pair.key, pair.key) for pair in given if pair.query in held_out and pair.score != 0}
    others = [pair for pair in given if pair.query not in held_out]
    usable = [pair for pair in others if rows.get(pair.key, pair.key) not in answers]
    if held_out and usable:
        typer.echo(f"Queries left out because they are held out to measure with: {len(held_out)}.", err=True)
    if usable and (shared := len(others) - len(usable)):
        typer.echo(f"Pairs of other queries left out because their row answers a held-out query: {shared}.", err=True)
    return usable or given


def _mine(
    session: orm.Session,
    index: BoundIndex[Any],
    pairs: Sequence[Pair],
    *,
    how: Mining,
    scope: _Scope,
    shown: bool,
) -> Mined:
    known = index.spec.encoder
    encoder = encoders.load(
        known.reference,
        dimensions=known.dimensions,
        query_prompt=known.query_prompt,
        document_prompt=known.document_prompt,
    )
    with progress.queries(len({pair.query for pair in pairs}), shown=shown) as advance:
        return training.mine(
            session, index, pairs, encoder=encoder, where=scope.where, mode=scope.mode, exact=scope.exact, options=how,
            on_query=advance,
        )  # fmt: skip


@contextlib.contextmanager
def _loaded(reference: str | None, bounds: Sequence[float | None]) -> Iterator[BatchingReranker | None]:
    """Yields the reranker with this reference, if there is one. Without a bound, its scores would decide nothing."""
    if reference is None:
        yield None
        return
    if all(bound is None for bound in bounds):
        raise typer.BadParameter(
            "--reranker scores margins and bounds, and there is none: pass --absolute-margin, --relative-margin, "
            "--max-score or --min-score, or leave --reranker out."
        )
    with BatchingReranker(rerankers.load(reference)) as reranker:
        yield reranker


def _column(session: orm.Session, index: BoundIndex[Any], name: str | None) -> sa.ColumnElement[Any] | None:
    return None if name is None else row_conditions.column(session, index, name)


def _as_object(report: MiningReport, *, show_queries: bool) -> dict[str, Any]:
    found = dataclasses.asdict(report)
    for example in () if show_queries else found["examples"]:
        del example["query"]
    return found


def _write(found: Mined, out: Path, *, json: bool, show_queries: bool) -> None:
    """Writes the file, and prints the report."""
    training.write_mined(out, found.pairs)
    report = found.report
    if json:
        output.as_json(_as_object(report, show_queries=show_queries))
        return
    counts = ("queries", "pairs", "gone", "quoted", "candidates", "mined", "short", "negatives")
    title = f"{report.index}, scored by the {'reranker' if report.reranked else 'encoder'}"
    output.table(counts, [[getattr(report, name) for name in counts]], title=title)
    if report.dropped:
        output.table(("filter", "dropped"), list(report.dropped.items()))
    scores = {"positives": report.positive_scores, "negatives": report.negative_scores}
    output.table(_SCORES, [(name, *dataclasses.astuple(one)) for name, one in scores.items() if one])
    columns = (*(["query"] if show_queries else ()), "positive", "negatives")
    rows = [_example(pair)[-len(columns) :] for pair in report.examples]
    output.table(columns, rows, title="Random examples, as keys")
    for line in (*_advice(report), f"Wrote {out}. Only you can read it: it has your queries."):
        output.say(output.escaped(line))


def _example(pair: MinedPair) -> tuple[str, ...]:
    negatives = " ".join(negative.key for negative in pair.negatives)
    return output.one_line(pair.query, width=_QUERY_WIDTH), pair.positive.key, negatives


def _advice(report: MiningReport) -> Iterator[str]:
    if report.gone:
        yield f"{output.counted(report.gone, 'pair')} left out: the row does not exist, or has no vectors yet."
    if report.quoted:
        yield (
            f"{output.counted(report.quoted, 'pair')} with a query that is quoted from its answer, so any search finds "
            "it: leave the text that queries come from out of the index, or use other queries."
        )
    if report.zero:
        yield f"Queries left out, because the encoder finds nothing in them (their vectors are zero): {report.zero}."
    if not report.mined:
        yield "No row is left that could be a negative: the filters above took all, or the table has no others."
    elif report.short:
        yield f"Queries with fewer negatives than wanted: {report.short}. Raise --range-max, or lower the margins."
