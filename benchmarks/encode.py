"""Encoding speed: the package's encoder against `SentenceTransformer.encode` with its defaults, on the same texts.

    make bench-encode

2,000 real texts of mixed length in four shares; each share is encoded in both ways in turn, and the machine's own
matrix-product peak is measured beside it, so that a machine whose speed changes does not favour one of them. The
figures are medians over the shares; ``roof_share`` counts the operations of real tokens, not of padding.
"""

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
from pg_semantic.encoders import weights
from pg_semantic.encoders.base import Backend
from pg_semantic.encoders.transformer import TransformerEncoder

_LINES, _PAGES, _ABSTRACTS, _SHARES = 1350, 450, 200, 4


@dataclass(frozen=True, slots=True)
class Share:
    """What was measured on one share of the texts."""

    ratio: float
    cosine: float
    texts_per_s: float
    default_texts_per_s: float
    roof_share: float


def main() -> None:
    """Prints the figures, the last line as JSON."""
    print(json.dumps(measure(texts())))


def measure(every: Sequence[str]) -> dict[str, object]:
    """The figures on these texts, on the device that is the fastest here."""
    configured = settings.load()
    ours = encoders.load(scifact.ENCODER, settings=configured)
    assert isinstance(ours, TransformerEncoder)  # noqa: S101 - what a folder of weights is loaded as
    default = SentenceTransformer(str(weights.folder(scifact.ENCODER, configured.encoder_paths)))
    print(f"{ours.backend}; sentence-transformers {sentence_transformers.__version__} on {default.device}")
    for encode in (ours.encode_documents, default.encode):
        encode(every[:100])  # so that both are warm, and the budget tuned
    shares = [_measure(ours, default, every[number::_SHARES]) for number in range(_SHARES)]
    return _summary(shares, ours.backend, default.device.type)


def texts() -> list[str]:
    """2,000 lines, pages and abstracts in random order, the same each time."""
    shuffled = random.Random(4)  # noqa: S311 - a sample
    lines = list(dict.fromkeys(line for page in corpus.pages() for line in page.splitlines() if line.strip()))
    with gzip.open(scifact.DATA / "corpus.jsonl.gz", "rt", encoding="utf-8") as opened:
        abstracts = [json.loads(line)["text"] for line in opened]
    sources = ((lines, _LINES), (list(corpus.pages()), _PAGES), (abstracts, _ABSTRACTS))
    found = [text for source, count in sources for text in shuffled.sample(source, count)]
    shuffled.shuffle(found)
    return found


def _measure(ours: TransformerEncoder, default: SentenceTransformer, share: Sequence[str]) -> Share:
    device, precision = default.device.type, ours.backend.precision
    before = roof.peak(device, precision)
    vectors, seconds = _timed(lambda: ours.encode_documents(share))
    after = roof.peak(device, precision)
    expected, default_seconds = _timed(lambda: default.encode(list(share)))
    counts = [min(count, ours.max_tokens) for count in ours.count_tokens(share)]
    done = roof.work(counts, default[0].config) / seconds
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    measured = Share(
        ratio=default_seconds / seconds,
        cosine=float(((vectors * expected).sum(axis=1) / norms).min()),
        texts_per_s=len(share) / seconds,
        default_texts_per_s=len(share) / default_seconds,
        roof_share=done / max(before, after),
    )
    print(f"{len(share)} texts, {np.mean(counts):.0f} tokens, peak {max(before, after) / 1e12:.2f} TFLOP/s: {measured}")
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
        "texts_per_s": round(median("texts_per_s"), 1),
        "default_texts_per_s": round(median("default_texts_per_s"), 1),
        "backend": str(backend),
    }
    if device == "cpu" and backend.precision != "bfloat16":
        figures["reason"] = "this CPU has no bfloat16 instructions: the goals are for one that has"
    return figures


if __name__ == "__main__":
    main()
