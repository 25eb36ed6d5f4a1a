"""The part of ``pg-semantic tune`` that finds the chunk size, on a sample of rows."""

import shlex
from functools import partial

from pg_semantic import errors, tuning
from pg_semantic.cli import output, progress, tune_request
from pg_semantic.cli.tune_request import TuneRequest
from pg_semantic.tuning import ChunkSize, ChunkTuning, ChunkTuningOptions

_COLUMNS = ("to", "chunks", "times", "")


def run(request: TuneRequest, how: ChunkTuningOptions) -> None:
    """Encodes the sample with each size, and prints the result.

    Raises what `tuning.tune_chunk_size` raises, and `errors.ConfigurationError` if it should be kept.
    """
    if request.save:
        raise errors.ConfigurationError(
            "--save keeps options of searches, and a chunk size is none: leave it out, and build another copy of the "
            "index with the size that is recommended."
        )
    with request.session() as (session, bound), progress.training(shown=not request.json, what="encoding") as advance:
        found = tuning.tune_chunk_size(session, bound, request.judged, options=how, on_encoded=advance)
    tune_request.conclude(request, found, partial(_print, found, index=request.index))


def _print(found: ChunkTuning, *, index: str) -> None:
    today = found.today
    rows = [
        (one.code, one.mean, one.mean - today.mean, one.low, one.high, one.chunks, one.times, _role(found, one))
        for one in found.sizes
    ]
    title = f"{found.index}, {found.queries} queries, a sample of {found.rows} rows"
    output.table(("setting", found.measure, "difference", "from", *_COLUMNS), rows, title=title)
    tune_request.say_gain(found, base_mean=today.mean)
    chosen = found.recommended
    if chosen == today or chosen.chunking is None:
        output.say(
            "Keep the chunk size in use: no other size is shown to be better on queries that it wasn't chosen by."
        )
        return
    output.say(
        f"Recommended, at the cost of encoding all rows again and of {chosen.times:.1f} times as many chunks to store "
        "and search:"
    )
    output.verbatim(chosen.code)
    output.say("Build another copy of the index with it, and switch:")
    output.verbatim(f"pg-semantic generation begin {shlex.quote(index)} --max-tokens {chosen.chunking.max_tokens}")


def _role(found: ChunkTuning, size: ChunkSize) -> str:
    named = {"in use": found.today, "best": found.best}
    return ", ".join(name for name, chosen in named.items() if chosen == size)
