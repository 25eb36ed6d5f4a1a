"""The command ``pg-semantic``. Each module defines one command, or a group of commands: parse, one call, print.

Exit codes: 0 success; 1 the command failed, and one line on standard error says what to do; 2 wrong usage;
3 the database cannot be reached or is not set up; 4 judged queries refused a switch; 130 interrupted before the work
was done.
"""

import typer

from pg_semantic.cli import (
    backfill,
    clusters,
    database,
    demo,
    doctor,
    duplicates,
    encoder,
    error_exit,
    evaluate,
    explain,
    generation,
    index,
    mine,
    pairs,
    privileges,
    recall,
    reindex,
    retry,
    search,
    serve,
    show_settings,
    split,
    status,
    train,
    tune,
    verify,
    worker,
)

app = typer.Typer(
    name="pg-semantic",
    help="Keep the vectors of Postgres rows in sync with their text, and search rows by meaning.",
    epilog="Exit codes: 0 success; 1 failure; 2 wrong usage; 3 the database cannot be reached or is not set up; "
    "4 judged queries refused a switch; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich breaks words to fit its frames
)
app.add_typer(database.app, name="db")
app.add_typer(index.app, name="index")
app.add_typer(generation.app, name="generation", short_help="Change a semantic index without downtime.")
app.add_typer(encoder.app, name="encoder")
app.add_typer(train.app, name="train")
for command, function, examples, summary in (
    ("worker", worker.worker, worker.EXAMPLES, "Encode rows whose text changed, until stopped."),
    ("backfill", backfill.backfill, backfill.EXAMPLES, "Sync all rows of an index with several workers, and exit."),
    ("search", search.search, search.EXAMPLES, "Find the rows closest in meaning to a text."),
    ("explain", explain.explain, explain.EXAMPLES, "Show the plan of a search, and which indexes it uses."),
    ("duplicates", duplicates.duplicates, duplicates.EXAMPLES, "Find rows that are alike, as pairs or as groups."),
    ("clusters", clusters.clusters, clusters.EXAMPLES, "Show what is in a table, as clusters of its rows."),
    ("recall", recall.recall, recall.EXAMPLES, "Compare searches through the vector index with exact ones."),
    ("evaluate", evaluate.evaluate, evaluate.EXAMPLES, "Measure how well searches find what was judged relevant."),
    ("split", split.split, split.EXAMPLES, "Hold some judged queries out, to measure with."),
    ("tune", tune.tune, tune.EXAMPLES, "Find the best settings of searches, or reach a recall."),
    ("mine", mine.mine, mine.EXAMPLES, "Find hard negatives to train on, without encoding a row."),
    ("pairs", pairs.pairs, pairs.EXAMPLES, "Make pairs to train on from the rows, without judgements."),
    ("status", status.status, status.EXAMPLES, "Show each semantic index: rows, failures, indexes, workers."),
    ("doctor", doctor.doctor, doctor.EXAMPLES, "Find problems in a database, and how to fix them."),
    ("verify", verify.verify, verify.VERIFY_EXAMPLES, "Check that every vector matches the text of its row."),
    ("repair", verify.repair, verify.REPAIR_EXAMPLES, "Fix what `verify` finds."),
    ("reindex", reindex.reindex, reindex.EXAMPLES, "Rebuild a vector index while searches continue."),
    ("retry", retry.retry, retry.EXAMPLES, "Put failed rows back into the queue."),
    ("privileges", privileges.privileges, privileges.EXAMPLES, "Let the roles that can read a table search its index."),
    ("serve", serve.serve, serve.EXAMPLES, "Serve embeddings, reranking and searches over HTTP."),
    (
        "settings",
        show_settings.settings,
        show_settings.EXAMPLES,
        "Show every setting: variable, value, default, meaning.",
    ),
    ("demo", demo.demo, demo.EXAMPLES, "Load, encode and search 7,425 tldr pages."),
):
    app.command(command, epilog=examples, short_help=summary)(function)


def run() -> None:
    """Runs the command line. An exception of the package ends it with one line on standard error."""
    error_exit.run(app)
