"""``pg-semantic evaluate``: measures how well searches find the rows that people judged relevant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from sqlalchemy import orm

from pg_semantic import errors, evaluation
from pg_semantic import search as searching
from pg_semantic.cli import named_index, options, output, progress
from pg_semantic.database import own_transaction
from pg_semantic.evaluation import (
    Evaluation,
    EvaluationOptions,
    Judgements,
    history,
    measures,
    pool_file,
    private_csv,
    private_files,
)
from pg_semantic.evaluation.evaluate import MEASURES
from pg_semantic.evaluation.report import PairedDifference, VariantFigures
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import Options

EXAMPLES = options.examples(
    "pg-semantic evaluate article_semantic --judgements judged.jsonl",
    "pg-semantic evaluate article_semantic --judgements judged.csv --variant now --variant both:mode=hybrid",
    "pg-semantic evaluate article_semantic --judgements judged.jsonl --min nDCG@10=0.70 --not-worse-than last",
)

_FAILED = 1
_NO_QRELS = {".jsonl", ".csv", ".tsv"}  # suffixes
_COMPARED = ("difference", "from", "to", "p", "better", "worse")
_PER_QUERY = ("variant", "query", "base_value", "variant_value", "difference", "unjudged")


_Select = Annotated[
    str | None, typer.Option(metavar="SELECT", help="A SELECT of query, key and grade, in place of a file.")
]
_Variants = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME:OPTION=VALUE,...",
        help="A way to search; repeat it to compare. The first is the base. Default: now, a search by meaning.",
    ),
]
_Measures = Annotated[
    list[str] | None, typer.Option(help="nDCG@10, RR@10, R@100, AP@10, ...; the first decides. Repeat it for more.")
]
_Training = Annotated[
    Path | None,
    typer.Option(help="Judgements that something was trained on, reported apart; of a BEIR folder, the split train."),
]
_Pool = Annotated[Path | None, typer.Option(help="Write unjudged results to this CSV file, to be judged.")]
_PerQueryFile = Annotated[Path | None, typer.Option(help="Write the figures of each query to this CSV file.")]
_Least = Annotated[
    list[str] | None, typer.Option("--min", metavar="MEASURE=VALUE", help="Exit with 1 if the base is below this.")
]
_NotWorse = Annotated[
    str | None, typer.Option(metavar="last", help="Exit with 1 if the base has become worse since its last evaluation.")
]


def evaluate(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    judgements: options.MaybeJudgementsPath = None,
    judgements_sql: _Select = None,
    topics: options.Topics = None,
    split: options.TestSplit = None,
    variant: _Variants = None,
    measure: _Measures = None,
    limit: Annotated[int | None, typer.Option(help="How many rows each search returns.", min=1, max=1000)] = None,
    training: _Training = None,
    pool: _Pool = None,
    per_query: _PerQueryFile = None,
    least: _Least = None,
    not_worse_than: _NotWorse = None,
    save: Annotated[bool, typer.Option(help="Keep the figures in the database, without the queries.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the tests of significance.")] = 0,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Measure how well searches find the rows that were judged relevant, and compare ways to search.

    difference: from the base, in the first measure, with its 95% interval; p: the probability of one as large by
    chance, corrected for the number of variants. better, worse: how many queries have a higher or lower value. judged:
    the share of the first results with a judgement; the others count as not relevant. condensed: the first measure on
    the judged results alone. p50, p95: the time of a search, with encoding. Options of a variant: generation, mode,
    exact, match, depth, ef_search, fusion (rrf, convex, or tuned: what `tune --save` has kept), k, dense, lexical,
    reranker, rerank_depth, diverse.
    """
    floors, since_last = [_floor(text) for text in least or ()], _is_last(not_worse_than)
    measured = EvaluationOptions(_measures(measure, floors), limit, _trained(training, topics), seed)
    outputs = _Outputs.of(pool, per_query, read=(judgements, topics, training))
    source = _Source.of(judgements, judgements_sql, split, topics, trained=training is not None)
    with options.installed(dsn) as engine:
        report = _evaluate(engine, index, source, variant or ["now"], measured, since_last=since_last, shown=not json)
        before = _change(engine, report) if since_last else None
        if save and not (before and before.is_worse):  # or the next run would be compared with this one
            _save(engine, report)
    _print(report, before, json=json)
    outputs.write(report, quiet=json)
    _check(report, floors, before)


def _change(engine: sa.Engine, report: Evaluation) -> evaluation.Change | None:
    found = evaluation.change(engine, report)
    if found is None:
        typer.echo("There is no earlier evaluation on these judgements, so nothing to compare with.", err=True)
    return found


def _measures(given: Sequence[str] | None, floors: Sequence[tuple[str, float]]) -> list[str]:
    return [*dict.fromkeys([*(given or MEASURES), *(name for name, _ in floors)])]


def _trained(file: Path | None, topics: Path | None) -> Judgements | None:
    """Reads the judgements that something was trained on; with topics, TREC qrels unless the name says otherwise."""
    if file is None:
        return None
    suffix = Path(file.name.removesuffix(".gz")).suffix.lower()
    known = file.is_dir() or suffix in _NO_QRELS
    return options.read_judgements(file, split="train", topics=None if known else topics)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where judgements come from: the options of the command."""

    file: Path | None
    select: str | None
    split: str
    topics: Path | None

    @classmethod
    def of(
        cls, file: Path | None, select: str | None, split: str | None, topics: Path | None, *, trained: bool
    ) -> "_Source":
        """Raises `typer.BadParameter` unless there is one source, and all other options have an effect."""
        if (file is None) == (select is None):
            raise typer.BadParameter("pass either --judgements or --judgements-sql.")
        if topics is not None and file is None and not trained:
            raise typer.BadParameter("--topics has no effect with --judgements-sql: leave it out.")
        return cls(file, select, options.split_of(file, split, usual="test"), topics)


@dataclass(frozen=True, slots=True)
class _Outputs:
    """The files to write."""

    pool: Path | None
    per_query: Path | None

    @classmethod
    def of(cls, pool: Path | None, per_query: Path | None, *, read: Sequence[Path | None]) -> "_Outputs":
        """Checks the paths, before any search.

        Args:
            read: The files that other options name.

        Raises:
            typer.BadParameter: Two options name one file.
            errors.ConfigurationError: A file has grades, or cannot be written.
        """
        paths = [path.resolve() for path in (pool, per_query, *read) if path]
        for path in (pool, per_query):
            if path and paths.count(path.resolve()) > 1:
                raise typer.BadParameter(f"{path} is named by two options: write to another path.")
        if pool is not None:
            pool_file.require_replaceable(pool)
        for path in filter(None, (pool, per_query)):
            private_files.require_writable(path)
        return cls(pool, per_query)

    def write(self, report: Evaluation, *, quiet: bool) -> None:
        """Writes what was asked for."""
        if self.pool is not None:
            count = report.write_pool(self.pool, depth=measures.cutoff(report.measure) or 10)
            if not quiet:
                path = output.escaped(self.pool)
                output.say(f"Wrote {count} results to judge to {path}: fill in the grades, 0 or higher.")
        if self.per_query is not None:
            records = [
                {"variant": one.name} | record
                for one in report.variants[1:] or report.variants
                for record in report.per_query(one.name)
            ]
            private_csv.write(self.per_query, _PER_QUERY, [[record[name] for name in _PER_QUERY] for record in records])


def _evaluate(
    engine: sa.Engine,
    name: str,
    source: _Source,
    variants: Sequence[str],
    measured: EvaluationOptions,
    *,
    since_last: bool,
    shown: bool,
) -> Evaluation:
    if since_last:
        history.require_readable(engine)  # first, or the figures of all searches would be lost
    with orm.Session(engine) as session:
        index = named_index.find(session, name)
        judged = _judgements(session, index, source)
        session.rollback()  # loading encoders and rerankers takes long
        if measured.training and len(variants) == 1:
            typer.echo("--training tells where a difference comes from: pass a second --variant.", err=True)
        ways = evaluation.parse_variants(variants, tuned=partial(_tuned, session, index))
        with progress.queries(len(judged), shown=shown) as advance:
            return evaluation.evaluate(session, index, judged, variants=ways, options=measured, on_query=advance)


def _tuned(session: orm.Session, index: BoundIndex[Any]) -> Options:
    with own_transaction.reading(session):
        found = searching.tuned_options(session, index)
    if found == Options():
        typer.echo(
            "fusion=tuned stands for the defaults here, because no options that `tune --save` kept apply.", err=True
        )
    return found


def _is_last(given: str | None) -> bool:
    if given not in {None, "last"}:
        raise typer.BadParameter("--not-worse-than takes only `last`.")
    return given == "last"


def _judgements(session: orm.Session, index: BoundIndex[Any], source: _Source) -> Judgements:
    if source.file is not None:
        return options.read_judgements(source.file, split=source.split, topics=source.topics)
    return Judgements.select(session, index, source.select or "")


def _floor(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        least = float(value)
    except ValueError:
        least = math.nan
    if not math.isfinite(least):
        raise typer.BadParameter(f"--min {text}: write a measure and a number, as in nDCG@10=0.70.")
    return name, least


def _save(engine: sa.Engine, report: Evaluation) -> None:
    """Keeps the figures, or warns that the role may not write them: they are printed all the same."""
    try:
        evaluation.save(engine, report)
    except errors.DatabaseError as error:
        typer.echo(f"Warning: the figures were not kept: {error}", err=True)


def _print(report: Evaluation, before: evaluation.Change | None, *, json: bool) -> None:
    if json:
        output.as_json(report.figures)
        return
    queries = output.counted(report.queries, "query", plural="queries")
    title = f"{report.index}, {queries}, {output.counted(report.judgements, 'judgement')}"
    measures = list(report.base.measures)
    compared = len(report.variants) > 1
    columns = ["variant", *measures, *(_COMPARED if compared else ()), "judged", "condensed", "p50 ms", "p95 ms"]
    output.table(columns, [_row(one, compared=compared) for one in report.variants], title=title)
    if any(one.seen or one.unseen for one in report.variants):
        parts = [(one.name, name, part) for one in report.variants for name, part in _parts(one) if part]
        rows = [(variant, name, part.queries, *_difference(part)) for variant, name, part in parts]
        output.table(("variant", "rows", "queries", *_COMPARED), rows, title="Rows seen in training, and others")
    for warning in report.warnings:
        output.say(output.escaped(warning))
    if before:
        name = output.escaped(report.base.name)
        output.say(f"{report.measure} of {name} since {before.since:%Y-%m-%d}: {before.mean:+.4f} (p {before.p:.3f}).")


def _row(one: VariantFigures, *, compared: bool) -> list[object]:
    cells = _difference(one.difference) if compared else ()
    return [one.name, *one.measures.values(), *cells, one.judged, one.condensed, one.p50_ms, one.p95_ms]


def _difference(found: PairedDifference | None) -> tuple[object, ...]:
    if found is None:
        return (None,) * len(_COMPARED)
    return (found.mean, found.low, found.high, found.adjusted_p, found.better, found.worse)


def _parts(one: VariantFigures) -> tuple[tuple[str, PairedDifference | None], ...]:
    return ("seen", one.seen), ("unseen", one.unseen)


def _check(report: Evaluation, floors: list[tuple[str, float]], before: evaluation.Change | None) -> None:
    """Exits with 1 if the base is below a floor or has become worse; says all reasons."""
    reasons = []
    for check in (
        *(partial(report.require, *floor) for floor in floors),
        partial(evaluation.require_not_worse, before, report),
    ):
        try:
            check()
        except AssertionError as error:
            reasons.append(str(error))
    for reason in reasons:
        typer.echo(reason, err=True)
    if reasons:
        raise typer.Exit(_FAILED)
