"""``pg-semantic tune``: finds the best fusion of a hybrid search on judged queries."""

from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import orm

from pg_semantic import registry, tuning
from pg_semantic import search as searching
from pg_semantic.cli import options, output, progress
from pg_semantic.evaluation import Judgements
from pg_semantic.index import declare
from pg_semantic.tuning import Setting, Tuning, TuningOptions

EXAMPLES = options.examples(
    "pg-semantic tune article_semantic --judgements judged.csv",
    "pg-semantic tune article_semantic --judgements judged.csv --measure RR@10 --save",
)

_SHOWN = 5  # the best settings


def tune(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    judgements: Annotated[Path, typer.Option(help="A file of judgements: JSONL, CSV, TREC qrels, or a BEIR folder.")],
    topics: Annotated[Path | None, typer.Option(help="The queries of TREC qrels.")] = None,
    split: Annotated[str, typer.Option(help="Which qrels of a BEIR folder.")] = "train",
    measure: Annotated[str, typer.Option(help="What to raise: nDCG@10, RR@10, R@100, ...")] = "nDCG@10",
    folds: Annotated[int, typer.Option(help="Parts for the cross-validation.", min=2)] = 5,
    exact: Annotated[bool, typer.Option("--exact", help="Compute every distance, without the vector index.")] = False,
    save: Annotated[bool, typer.Option("--save", help="Keep what is recommended in the database.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the folds and of the tests of significance.")] = 0,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Find the fusion of a hybrid search that ranks best on judged queries.

    Each leg is searched once per query; every setting is computed from what they found. What is in use (the
    defaults, or what --save has kept) stays unless the cross-validated gain is above 0 with 95% confidence: each
    part of the queries is searched with the setting that is best for the others. Queries that are held out for
    evaluation are left out.
    """
    with options.installed(dsn) as engine:
        with orm.Session(engine) as session:
            bound = declare.bind(registry.find(session.connection(), index).spec)
            judged = Judgements.read(judgements, split=split, topics=topics)
            base = searching.tuned_options(session, bound)
            how = TuningOptions(measure, base, folds=folds, exact=exact, seed=seed)
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
