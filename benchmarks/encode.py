"""Compares the encoding speed of the package's encoder with `SentenceTransformer.encode`, with its defaults.

    make bench-encode

Both encode the same 2,000 real texts of mixed length, in four parts: first the library, before the package's encoder is
loaded, then the package. Before and after each part of the latter, the machine's peak for matrix products is measured.
Results are medians over the parts. ``roof_share`` counts the operations for real tokens, not for padding.
``ratio_at_roof`` is what the ratio would be if every operation ran at the peak: the most that is possible on this
machine in this precision.
"""

import functools
import gzip
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sentence_transformers
from sentence_transformers import SentenceTransformer

from benchmarks import corpus, roof, scifact
from pg_semantic import encoders, settings
from pg_semantic.encoders.base import Backend
from pg_semantic.encoders.local import weights
from pg_semantic.encoders.local.transformer import TransformerEncoder

_LINES, _PAGES, _ABSTRACTS, _SHARES = 1350, 450, 200, 4


@dataclass(frozen=True, slots=True)
class Share:
    """Measurements on one part of the texts."""

    ratio: float
    cosine: float
    texts_per_s: float
    default_texts_per_s: float
    roof_share: float
    ratio_at_roof: float


def main() -> None:
    """Prints the results, with JSON as the last line."""
    print(json.dumps(measure(texts())))


def measure(every: Sequence[str]) -> dict[str, object]:
    """Measures on the fastest device of this machine."""
    configured = settings.load()
    default = SentenceTransformer(str(weights.folder(scifact.ENCODER, configured.encoder_paths)))
    device = default.device.type
    shares = [list(every[number::_SHARES]) for number in range(_SHARES)]
    default.encode(list(every[:100]))  # warms it up
    expected = [_timed(functools.partial(default.encode, share)) for share in shares]
    ours = encoders.load(scifact.ENCODER, settings=configured)
    assert isinstance(ours, TransformerEncoder)  # noqa: S101 - the type that a folder of weights loads as
    print(f"{ours.backend}; sentence-transformers {sentence_transformers.__version__} on {device}")
    ours.encode_documents(every[:200])  # warms it up and tunes its token budget
    config = default[0].config
    measured = [_measure(ours, config, device, share=s, expected=e) for s, e in zip(shares, expected, strict=True)]
    return _summary(measured, ours.backend, device)


def texts() -> list[str]:
    """Returns 2,000 lines, pages and abstracts in random order, the same in every run."""
    shuffled = random.Random(4)  # noqa: S311 - a sample
    lines = list(dict.fromkeys(line for page in corpus.pages() for line in page.splitlines() if line.strip()))
    with gzip.open(scifact.DATA / "corpus.jsonl.gz", "rt", encoding="utf-8") as opened:
        abstracts = [json.loads(line)["text"] for line in opened]
    sources = ((lines, _LINES), (list(corpus.pages()), _PAGES), (abstracts, _ABSTRACTS))
    found = [text for source, count in sources for text in shuffled.sample(source, count)]
    shuffled.shuffle(found)
    return found


def _measure(
    ours: TransformerEncoder, config: object, device: str, *, share: Sequence[str], expected: tuple[Any, float]
) -> Share:
    before = roof.peak(device, ours.backend.precision)
    vectors, seconds = _timed(lambda: ours.encode_documents(share))
    peak = max(before, roof.peak(device, ours.backend.precision))
    counts = [min(count, ours.max_tokens) for count in ours.count_tokens(share)]
    done = roof.work(counts, config) / seconds
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected[0], axis=1)
    measured = Share(
        ratio=expected[1] / seconds,
        cosine=float(((vectors * expected[0]).sum(axis=1) / norms).min()),
        texts_per_s=len(share) / seconds,
        default_texts_per_s=len(share) / expected[1],
        roof_share=done / peak,
        ratio_at_roof=expected[1] / seconds * peak / done,
    )
    print(f"{len(share)} texts, {np.mean(counts):.0f} tokens, peak {peak / 1e12:.2f} TFLOP/s: {measured}")
    return measured


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    made = work()
    return made, time.perf_counter() - started


def _summary(shares: Sequence[Share], backend: Backend, device: str) -> dict[str, object]:
    def median(name: str) -> float:
        return float(statistics.median(getattr(share, name) for share in shares))

    figures: dict[str, object] = {
        "ratio_vs_default": round(median("ratio"), 2),
        "min_cosine": round(min(share.cosine for share in shares), 5),
        "roof_share": round(median("roof_share"), 3),
        "ratio_at_roof": round(median("ratio_at_roof"), 2),
        "texts_per_s": round(median("texts_per_s"), 1),
        "default_texts_per_s": round(median("default_texts_per_s"), 1),
        "backend": str(backend),
    }
    if device == "cpu" and backend.precision != "bfloat16":
        figures["reason"] = "this CPU has no bfloat16 instructions; the goals are for a CPU that has them"
    return figures


if __name__ == "__main__":
    main()
