"""Distills all-MiniLM-L6-v2 into a table of words on SciFact's abstracts, and compares both: relevance and speed.

    make bench-static

Loads the 5,183 abstracts into an embedded Postgres, syncs them, and distills the encoder with the options' defaults.
Then the 300 test claims are ranked exactly with both. No claim is used to choose anything:
the student learns from sentences of the abstracts.

``share`` is the student's nDCG@10 divided by the encoder's. ``rows_per_s`` are for ``encode_documents`` of the same
abstracts with encoders as `encoders.load` returns them, on the same cores; the median of several rounds, in turns.
``cpu_s`` is the CPU time of distilling, with loading and writing. ``overlap`` is what the report says about held-out
rows.

``python -m benchmarks.static_student --curve`` also prints the figures of other dimensions and vocabularies.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import sqlalchemy as sa
from ir_measures import Qrel, ScoredDoc, nDCG
from sqlalchemy import orm

from benchmarks import scifact
from benchmarks.abstracts import Abstract, Base
from pg_semantic import database, encoders, settings, training
from pg_semantic.cli import progress
from pg_semantic.database import embedded, migrate
from pg_semantic.encoders import Encoder
from pg_semantic.encoders.base import Vectors
from pg_semantic.evaluation import Judgements
from pg_semantic.search import generation_tracker
from pg_semantic.search.generation_tracker import Target
from pg_semantic.training import StaticReport, StaticTraining
from pg_semantic.training.static_student import teacher_chunks
from pg_semantic.training.static_student.teacher_chunks import TeacherChunks
from pg_semantic.worker.worker import Worker

DEPTH = 10
ROUNDS = 5
TIMED = 200  # abstracts that the encoder encodes in a round; the student encodes all of them
CURVE = (
    StaticTraining(dimensions=256),
    StaticTraining(dimensions=128),
    StaticTraining(dimensions=64),
    StaticTraining(vocabulary="encoder"),
    StaticTraining(least_rows=2),
    StaticTraining(spans=5_000),
)


def main() -> None:
    """Prints the results, with JSON as the last line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--curve", action="store_true", help="also try other dimensions and vocabularies")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        engine = database.connect(f"embedded:{data}")
        try:
            _load(engine)
            result = _measure(engine, Path(folder) / "student")
            for number, options in enumerate(CURVE if chosen.curve else ()):
                _print_point(engine, Path(folder) / f"student-{number}", options)
        finally:
            engine.dispose()
            embedded.stop(data)
    print(json.dumps(result))


def _load(engine: sa.Engine) -> None:
    """Loads the abstracts and syncs them."""
    migrate.upgrade(engine)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        abstracts = scifact.records("corpus")
        session.add_all(Abstract(id=d["_id"], title=d["title"], text=d["text"]) for d in abstracts)
        session.commit()
    with progress.bar(engine, shown=True) as advance:
        done = Worker(engine, settings.load(), on_progress=advance).run(threading.Event(), once=True)
    print(f"{done.rows} rows synced, {done.chunks_encoded} chunks encoded")


def _measure(engine: sa.Engine, out: Path) -> dict[str, Any]:
    cpu = time.process_time()
    report = _distill(engine, out, StaticTraining())
    cpu = time.process_time() - cpu
    print(report.verdict)
    teacher, student = encoders.load(scifact.ENCODER), encoders.load(str(out))
    stored = _stored(engine)
    texts = stored.texts
    found = {
        "teacher": _ndcg(teacher, stored, stored.stored.vectors),
        "student": _ndcg(student, stored, student.encode_documents(texts)),
    }
    pace = _paces(teacher, student, texts)
    return {
        "teacher_ndcg": round(found["teacher"], 4),
        "student_ndcg": round(found["student"], 4),
        "share": round(found["student"] / found["teacher"], 4),
        "teacher_rows_per_s": round(pace[0], 1),
        "student_rows_per_s": round(pace[1], 1),
        "speedup": round(pace[1] / pace[0], 1),
        "cpu_s": round(cpu, 1),
        "distill_s": report.seconds,
        "dimensions": report.dimensions,
        "vocabulary": report.vocabulary,
        "words_of_rows": report.words,
        "overlap": round(report.overlap, 4),
        "epochs": report.epochs,
        "megabytes": round(sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6, 1),
    }


def _print_point(engine: sa.Engine, out: Path, options: StaticTraining) -> None:
    """Prints the figures of other options, on the training claims: the test claims choose nothing."""
    report = _distill(engine, out, options)
    stored, student = _stored(engine), encoders.load(str(out))
    found = _ndcg(student, stored, student.encode_documents(stored.texts), split="train")
    print(f"{options}: vocabulary {report.vocabulary}, training claims {found:.4f}, overlap {report.overlap:.4f}")


def _distill(engine: sa.Engine, out: Path, options: StaticTraining) -> StaticReport:
    with orm.Session(engine) as session, progress.training(shown=True) as advance:
        return training.distill_static(session, Abstract.semantic, out=out, options=options, on_step=advance)


def _stored(engine: sa.Engine) -> TeacherChunks:
    """Returns the abstracts, with one chunk each, and the vectors that the encoder gave them."""
    with orm.Session(engine) as session:
        live, _ = generation_tracker.read_live(session, Abstract.semantic)
        bound = Target(live, live.tables, None).bound(Abstract.semantic)
        return teacher_chunks.read(session, bound, most=StaticTraining().chunks, seed=0)


def _ndcg(encoder: Encoder, abstracts: TeacherChunks, vectors: Vectors, *, split: str = "test") -> float:
    """Returns the mean nDCG@10 of the claims, by exact search of vectors of unit length."""
    judged = Judgements.read(scifact.DATA, split=split).grades
    scores = encoder.encode_queries(list(judged)) @ vectors.T
    best = np.argsort(-scores, axis=1)[:, :DEPTH]
    run = [
        ScoredDoc(query, abstracts.stored.keys[place], float(of_query[place]))
        for query, places, of_query in zip(judged, best, scores, strict=True)
        for place in places
    ]
    relevant = [Qrel(query, key, grade) for query, grades in judged.items() for key, grade in grades.items()]
    return float(ir_measures.calc_aggregate([nDCG @ DEPTH], relevant, run)[nDCG @ DEPTH])


def _paces(teacher: Encoder, student: Encoder, texts: Sequence[str]) -> tuple[float, float]:
    """Returns how many rows per second the encoder and the student encode, after a round that warms them up."""
    found: list[tuple[float, float]] = []
    for start in range(0, (ROUNDS + 1) * TIMED, TIMED):
        found.append((_pace(teacher, texts[start : start + TIMED]), _pace(student, texts)))
        print(f"teacher {found[-1][0]:.1f}, student {found[-1][1]:.1f} rows/s")
    return statistics.median(one for one, _ in found[1:]), statistics.median(two for _, two in found[1:])


def _pace(encoder: Encoder, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    encoder.encode_documents(texts)
    return len(texts) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
