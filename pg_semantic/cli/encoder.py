"""``pg-semantic encoder``: inspects an encoder, or converts one to int8."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pg_semantic import encoders, settings
from pg_semantic.cli import options, output
from pg_semantic.demo import tldr_pages
from pg_semantic.encoders import describe

app = typer.Typer(help="Inspect encoders, and convert them to int8.", no_args_is_help=True)

_SAMPLE = 64

Reference = Annotated[str, typer.Argument(help="A hub name, a folder, or hashed:N.")]


@app.command(
    short_help="Show the back end, speed and fingerprint of an encoder.",
    epilog=options.examples("pg-semantic encoder show sentence-transformers/all-MiniLM-L6-v2"),
)
def show(reference: Reference, json: options.Json = False) -> None:
    """Load an encoder, and show its back end on this machine, its speed and its fingerprint."""
    found = describe.of(encoders.load(reference), list(itertools.islice(_pages(), _SAMPLE)))
    if json:
        output.as_json(found)
        return
    rows = [(name.replace("_", " "), value) for name, value in dataclasses.asdict(found).items()]
    output.table(("property", "value"), [(name, _shown(value)) for name, value in rows])


@app.command(
    short_help="Convert an encoder to int8.",
    epilog=options.examples(
        "pg-semantic encoder quantize sentence-transformers/all-MiniLM-L6-v2 ./minilm-int8 --texts sample.txt"
    ),
)
def quantize(
    reference: Annotated[str, typer.Argument(help="The encoder to start from: a hub name or a folder.")],
    folder: Annotated[Path, typer.Argument(help="Where to write the new encoder: an empty or new folder.")],
    texts: Annotated[
        Path | None,
        typer.Option(help="A file of texts like yours to calibrate on, one per line. Default: tldr pages."),
    ] = None,
    samples: Annotated[int, typer.Option(help="How many of the texts to use.", min=1)] = 300,
) -> None:
    """Convert an encoder to int8. The result is a different encoder: an index must be built again to use it."""
    from pg_semantic.encoders.local import quantize as quantizing  # loads torch

    given = _lines(texts) if texts else list(_pages())
    made = quantizing.quantize(reference, folder, texts=given, samples=samples, settings=settings.load())
    output.say(
        f"Wrote {output.escaped(folder)}, calibrated on {output.counted(made.texts, 'text')}. On "
        f"{output.counted(made.compared_texts, 'other text')}, the cosine to the 32-bit vectors is "
        f"{made.mean_cosine:.4f} on average, and at least {made.least_cosine:.4f}."
    )


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}", param_hint="--texts") from error


def _pages() -> Iterator[str]:
    return (f"{page.title}\n\n{page.text}" for page in tldr_pages.pages())


def _shown(value: object) -> object:
    return f"{value:.5f}" if isinstance(value, float) and value <= 1 else value
