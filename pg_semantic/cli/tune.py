"""``pg-semantic tune``: finds the best fusion of a hybrid search on judged queries, or what a recall needs."""

import dataclasses
from typing import Annotated

import sqlalchemy as sa
import typer
from sqlalchemy import orm

from pg_semantic import errors, tuning
from pg_semantic import search as searching
from pg_semantic.cli import named_index, options, output, progress, tune_recall
from pg_semantic.database import own_transaction
from pg_semantic.evaluation import Judgements
from pg_semantic.tuning import Setting, Tuning, TuningOptions

EXAMPLES = options.examples(
    "pg-semantic tune article_semantic --judgements judged.csv",
    "pg-semantic tune article_semantic --judgements judged.csv --measure RR@10 --save",
    "pg-semantic tune article_semantic --recall 0.95 --save",
)

_SHOWN = 5  # the best settings


def tune(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    judgements: options.MaybeJudgementsPath = None,
    recall: Annotated[float | None, typer.Option(help="Find the ef_search for this recall, such as 0.95.")] = None,
    topics: options.Topics = None,
    split: options.Split = "train",
    measure: Annotated[str, typer.Option(help="What to raise: nDCG@10, RR@10, R@100, ...")] = "nDCG@10",
    folds: Annotated[int, typer.Option(help="Parts for the cross-validation.", min=2)] = 5,
    exact: Annotated[bool, typer.Option("--exact", help="Compute every distance, without the vector index.")] = False,
    sample: Annotated[int | None, typer.Option(help="With --recall: the number of queries.", min=1)] = None,
    save: Annotated[bool, typer.Option("--save", help="Keep what is recommended in the database.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the folds and of the tests of significance.")] = 0,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Find the fusion of a hybrid search that ranks best on judged queries, or the ef_search that reaches a recall.

    --judgements: Each leg is searched once per query; every setting is computed from what they found. What is in use
    (the defaults, or what --save has kept) stays unless the cross-validated gain is above 0 with 95% confidence: each
    part of the queries is searched with the setting that is best for the others. Queries that are held out for
    evaluation are left out.

    --recall: The vectors of random chunks are the queries. The vector index is compared with exact searches at growing
    values of ef_search, until the whole 95% interval of the recall reaches this share.
    """
    if (judgements is None) == (recall is None):
        raise errors.ConfigurationError("Pass either --judgements FILE or --recall SHARE.")
    with options.installed(dsn) as engine:
        if recall is not None:
            tune_recall.run(engine, index, wanted=recall, sample=sample, save=save, json=json)
        elif judgements is not None:
            judged = options.read_judgements(judgements, split=split, topics=topics)
            how = TuningOptions(measure, folds=folds, exact=exact, seed=seed)
            _tune_fusion(engine, index, judged, how=how, save=save, json=json)


def _tune_fusion(
    engine: sa.Engine, index: str, judged: Judgements, *, how: TuningOptions, save: bool, json: bool
) -> None:
    """Tunes the fusion, starting from the options in use, and prints what was found."""
    with orm.Session(engine) as session:
        bound = named_index.find(session, index)
        with own_transaction.reading(session):
            how = dataclasses.replace(how, base=searching.tuned_options(session, bound))
        with progress.queries(len(judged), shown=not json) as advance:
            found = tuning.tune(session, bound, judged, options=how, on_query=advance)
        session.commit()
    if save:
        tuning.save(engine, found)
    if json:
        output.as_json(found.figures)
    else:
        _print(found, saved=save)


def _print(found: Tuning, *, saved: bool) -> None:
    ordered = sorted(found.means.items(), key=lambda one: -one[1])
    shown = [one for rank, one in enumerate(ordered) if rank < _SHOWN or _role(found, one[0])]
    rows = [(setting.code, mean, mean - found.base_mean, _role(found, setting)) for setting, mean in shown]
    title = f"{found.index}, {found.queries} queries, {found.measure}"
    output.table(("setting", found.measure, "difference", ""), rows, title=title)
    if len(shown) < len(ordered):
        output.say(f"These are {len(shown)} of {len(ordered)} settings; --json has all.")
    if found.held_out:
        output.say(f"{found.held_out} queries were left out, because they are held out for evaluation.")
    output.say(
        f"Cross-validated: {found.fold_mean:.4f}, which is {found.fold_mean - found.base_mean:+.4f} "
        f"(90% interval {found.low:+.4f} to {found.high:+.4f}, p {found.p:.4f})."
    )
    if found.recommended == found.base:
        output.say("Keep the settings in use: no other is shown to be better on queries that it wasn't chosen by.")
    else:
        output.say("Recommended:")
        output.verbatim(found.recommended.code)
    if saved:
        output.say("Kept in the database: `search.tuned_options(session, ...)` returns it.")


def _role(found: Tuning, setting: Setting) -> str:
    return " ".join(name for name in ("base", "best") if getattr(found, name) == setting)
