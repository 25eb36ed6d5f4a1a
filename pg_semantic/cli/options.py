"""Options that several commands share."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from pg_semantic import database, errors, settings, training
from pg_semantic.encoders.local import weights
from pg_semantic.evaluation import Judgements
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.training import Pair

Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="DSN",
        help="The database: postgresql://user@host/name, or embedded:PATH. Default: $PG_SEMANTIC_DSN.",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation; for scripts.")]
QueryPrompt = Annotated[
    str | None, typer.Option(help="Prompt before each query, instead of the encoder's own; '' for none.")
]
DocumentPrompt = Annotated[
    str | None, typer.Option(help="Prompt before each document, instead of the encoder's own; '' for none.")
]
StorageKind = Annotated[
    str | None,
    typer.Option(
        help="halfvec or vector: 16 or 32 bits per dimension. prefix=N or bits: a smaller vector index, whose "
        "candidates are ranked by the vectors."
    ),
]
_ONLY_JUDGEMENTS = {".csv", ".tsv"}  # suffixes, before that of gzip
_JUDGEMENTS = typer.Option("--judgements", help="A file of judgements: JSONL, CSV, TREC qrels, or a BEIR folder.")
JudgementsPath = Annotated[Path, _JUDGEMENTS]
MaybeJudgementsPath = Annotated[Path | None, _JUDGEMENTS]
Topics = Annotated[Path | None, typer.Option(help="The queries of TREC qrels: topics, or lines of ID and text.")]
Split = Annotated[str, typer.Option(help="Which qrels of a BEIR folder.")]
TestSplit = Annotated[str | None, typer.Option(help="Which qrels of a BEIR folder. Default: test.")]
TrainSplit = Annotated[str | None, typer.Option(help="Which qrels of a BEIR folder. Default: train.")]
Memory = Annotated[
    str | None,
    typer.Option(
        help="maintenance_work_mem of the build, e.g. 9GB. Default: $PG_SEMANTIC_MAINTENANCE_WORK_MEM, or the role's.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts, instead of tables.")]


def split_of(path: Path | None, given: str | None, *, usual: str, name: str = "--split") -> str:
    """Returns which qrels of a BEIR folder to read: the given ones, or the usual ones.

    Raises:
        typer.BadParameter: Some were given, but no folder that has qrels.
    """
    if given is not None and not (path and path.is_dir()):
        raise typer.BadParameter(f"{name} {given} names qrels of a BEIR folder: pass the folder, or leave it out.")
    return given or usual


def read_judgements(path: Path, *, split: str, topics: Path | None) -> Judgements:
    """Reads the judgements that options of a command name. Says on standard error how many grades were below 0.

    Raises:
        errors.ConfigurationError: A file cannot be read, or a line is not valid.
    """
    judged = Judgements.read(path, split=split, topics=topics)
    if judged.below_zero:
        typer.echo(f"{path}: {judged.below_zero} grades below 0, which mark spam, are read as 0.", err=True)
    return judged


def read_pairs(path: Path, *, split: str = "train", topics: Path | None = None) -> list[Pair]:
    """Reads pairs to train on, or judgements as pairs: a folder and some suffixes can only be judgements.

    Raises:
        errors.ConfigurationError: A file cannot be read, or a line is not valid.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if topics is not None or path.is_dir() or suffix in _ONLY_JUDGEMENTS:
        return training.from_judgements(read_judgements(path, split=split, topics=topics))
    return training.read_pairs(path)


def encoder_reference(given: str) -> str:
    """Returns the encoder reference to store in the database: the absolute path of a folder on this machine."""
    configured = settings.load()
    return given if given in configured.encoder_urls else weights.absolute(given, configured.encoder_paths)


def whole_numbers(name: str, text: str | None) -> tuple[int, ...]:
    """Reads the value of an option that takes whole numbers above 0, separated by commas; none if it isn't given.

    Args:
        name: The name of the option, for the message.
        text: Its value.

    Raises:
        errors.ConfigurationError: The value has another form.
    """
    parts = [part.strip() for part in text.split(",")] if text is not None else []
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise errors.ConfigurationError(f"{name} {text}: write whole numbers above 0, such as 50,100,200.")
    return tuple(dict.fromkeys(map(int, parts)))


def warn_of_prompts(encoder: EncoderSpec) -> None:
    """Warns on standard error if an encoder looks like one that expects prompts, and none is declared."""
    if lacking := encoder.lacking:
        typer.echo(
            f"Warning: encoder {encoder.reference!r} looks like {lacking.family}, which expects prompts. If its files "
            f"don't define them, pass {lacking.options}, or '' for no prompt.",
            err=True,
        )


def confirm(question: str, *, yes: bool) -> None:
    """Asks for confirmation before something that cannot be undone.

    Args:
        question: What to ask.
        yes: Whether ``--yes`` was given: do not ask.

    Raises:
        typer.Abort: The answer was no.
        errors.ConfigurationError: Standard input ended without an answer, as in a script.
    """
    if yes:
        return
    try:
        agreed = typer.confirm(question)
    except typer.Abort:
        if sys.stdin.isatty():  # Ctrl-C
            raise
        raise errors.ConfigurationError("Standard input ended without an answer: pass --yes to proceed.") from None
    if not agreed:
        raise typer.Abort


def examples(*commands: str) -> str:
    """Returns the end of a command's help, with each example on a line of its own, which is never wrapped."""
    heading = "Example:" if len(commands) == 1 else "Examples:"
    return "\n".join(["\b", heading, *(f"  {command}" for command in commands)])


@contextlib.contextmanager
def engine(dsn: str | None) -> Iterator[sa.Engine]:
    """Yields an engine until the command ends.

    Args:
        dsn: The value of ``--dsn``. If None, the setting ``PG_SEMANTIC_DSN``.
    """
    configured = settings.load(dsn=dsn).dsn
    made = database.connect(configured.get_secret_value() if configured else None)
    try:
        yield made
    finally:
        made.dispose()


@contextlib.contextmanager
def installed(dsn: str | None) -> Iterator[sa.Engine]:
    """Yields what `engine` yields, once it is sure that the database has the schema that this version needs.

    Raises:
        errors.NotInstalled: It does not.
    """
    with engine(dsn) as made:
        with made.connect() as connection:
            database.require_installed(connection)
        yield made
