"""Trains the queries' side of all-MiniLM-L6-v2 on SciFact, rolls it out, and measures the gain.

    make bench-train

Loads the 5,183 abstracts into an embedded Postgres, syncs them, and trains on the 809 training claims. Then begins a
generation with the trained encoder, lets a worker fill it and switches to it, as an operator would. The 300 test claims
are searched exactly, before and after.

Of the test claims, 196 ask for an abstract that training claims ask for too. ``unseen`` are the others: they say what
to expect for rows that no one has judged. ``rows_encoded`` is what the worker encoded for the new generation, ``cpu_s``
the CPU time of training, with loading and writing.

``together`` compares two hybrid searches: with ``Rrf(60)`` and the encoder from before, and with the options that were
tuned on the training claims before training, and the trained encoder.

The leak test trains a map with next to no decay, which learns rows by heart. On a random split of the training claims,
that must look like a gain; on the split that training uses, where no row is on both sides, it must not.

``medquad`` trains on questions about 1,000 answers, which the encoder finds well without training: nothing must be
recommended.

``python -m benchmarks.train --kind encoder`` trains a copy of all weights instead of a map.
"""

import argparse
import csv
import dataclasses
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import sqlalchemy as sa
import torch
from ir_measures import Qrel, ScoredDoc, nDCG
from numpy.typing import NDArray
from sqlalchemy import orm

from benchmarks import answers, scifact
from benchmarks.abstracts import Abstract, Base
from pg_semantic import Searcher, database, encoders, generations, search, settings, training, tuning
from pg_semantic.cli import progress
from pg_semantic.database import embedded, migrate
from pg_semantic.evaluation import Judgements
from pg_semantic.search import Mode, Options, Rrf
from pg_semantic.search.generation_tracker import Target, read_live
from pg_semantic.training import Pair, QueryTraining, TrainingReport, report
from pg_semantic.training.query_side import fit_map, folds, stored_vectors, training_queries
from pg_semantic.training.query_side.fit import TrainingSet
from pg_semantic.training.report import Gain
from pg_semantic.training.time_limit import TimeLimit
from pg_semantic.tuning import TuningOptions
from pg_semantic.worker.worker import Worker

DEPTH = 10
LEAKING_DECAY = 0.03
FOLDS = 5
UNTUNED = Options(fusion=Rrf(60))

Grades = Mapping[str, Mapping[str, int]]
Measured = NDArray[np.float64]


def main() -> None:
    """Prints the results, with JSON as the last line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=["map", "encoder"], default="map")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        engine = database.connect(f"embedded:{data}")
        try:
            result = _measure(engine, Path(folder) / "trained", QueryTraining(kind=chosen.kind, keep=True))
        finally:
            engine.dispose()
            embedded.stop(data)
    print(json.dumps(result))


def _measure(engine: sa.Engine, out: Path, options: QueryTraining) -> dict[str, Any]:
    migrate.upgrade(engine)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        abstracts = scifact.records("corpus")
        session.add_all(Abstract(id=d["_id"], title=d["title"], text=d["text"]) for d in abstracts)
        session.commit()
    _sync(engine)
    test, known = claims("test"), claims("train")
    before, fused = _ndcg(engine, test), _ndcg(engine, test, mode="hybrid", options=UNTUNED)
    _tune(engine, known)
    pairs = [Pair(query, key) for query, grades in known.items() for key in grades]
    started, cpu = time.monotonic(), time.process_time()
    with orm.Session(engine) as session:
        trained = training.train_query_side(session, Abstract.semantic, pairs, out=out, options=options)
    result: dict[str, Any] = {
        "kind": options.kind,
        "cpu_s": round(time.process_time() - cpu, 1),
        "train_s": round(time.monotonic() - started, 1),
        "decay": trained.decay,
        "epochs": trained.epochs,
        "recommended": trained.recommended,
    }
    print(trained.verdict)
    started = time.monotonic()
    result["rows_encoded"] = _roll_out(engine, out)
    result["roll_out_s"] = round(time.monotonic() - started, 1)
    with orm.Session(engine) as session:
        tuned = search.tuned_options(session, Abstract.semantic)
    result["tuned"] = str(tuned.fusion)
    after, both = _ndcg(engine, test), _ndcg(engine, test, mode="hybrid", options=tuned)
    keys = {key for grades in known.values() for key in grades}
    unseen = np.array([not keys & grades.keys() for grades in test.values()])
    parts = {
        "all": report.gain(before, after, seed=0),
        "seen": report.gain(before[~unseen], after[~unseen], seed=0),
        "unseen": report.gain(before[unseen], after[unseen], seed=0),
        "held_out": trained.held_out,
        "together": report.gain(fused, both, seed=0),
        "together_unseen": report.gain(fused[unseen], both[unseen], seed=0),
    }
    medquad = _train_on_answers(engine, out.with_name("medquad"))
    result["medquad_recommended"] = medquad.recommended
    return result | _flat(parts | _leak(engine, pairs) | {"medquad_held_out": medquad.held_out})


def _tune(engine: sa.Engine, known: Grades) -> None:
    """Tunes on the training claims, and keeps what is recommended."""
    options = TuningOptions(base=UNTUNED, exact=True)
    with orm.Session(engine) as session:
        judged = Judgements({query: dict(grades) for query, grades in known.items()})
        found = tuning.tune(session, Abstract.semantic, judged, options=options)
        session.commit()
    tuning.save(engine, found)


def _train_on_answers(engine: sa.Engine, out: Path) -> TrainingReport:
    """Trains on questions about answers that the encoder finds well already."""
    answers.load(engine)
    _sync(engine)
    pairs = training.from_judgements(answers.judged())
    with orm.Session(engine) as session:
        trained = training.train_query_side(session, answers.Answer.semantic, pairs, out=out)
    print(f"MedQuAD: {trained.verdict}")
    return trained


def _leak(engine: sa.Engine, pairs: list[Pair]) -> dict[str, Gain]:
    """Trains maps that learn rows by heart, and measures them on a random split and on one without shared rows."""
    encoder = encoders.load(scifact.ENCODER)
    texts = list(dict.fromkeys(pair.query for pair in pairs))
    vectors = encoder.encode_queries(texts)
    with orm.Session(engine) as session:
        live, _ = read_live(session, Abstract.semantic)
        bound = Target(live, live.tables, None).bound(Abstract.semantic)
        stored = stored_vectors.read(session, bound, relevant=set(), queries=vectors, seed=0)
    queries = training_queries.of(pairs, stored)
    component = folds.component_numbers(queries)
    splits = {"leak_random": np.arange(len(component)), "leak_components": component}
    found = {}
    for name, groups in splits.items():
        fold = folds.divide(groups, count=FOLDS, seed=0)
        recipe, limit = QueryTraining().recipe, TimeLimit(None)
        data = TrainingSet(queries, vectors, fold, groups)
        fit = fit_map.fit_map(data, recipe, decays=[LEAKING_DECAY], device=torch.device("cpu"), limit=limit)
        found[name] = report.gain(*fit.held_out, seed=0)
    return found


def _flat(parts: Mapping[str, Gain]) -> dict[str, float]:
    return {
        name if of == "difference" else f"{name.removesuffix('_difference')}_{of}": round(getattr(gain, of), 4)
        for part, gain in parts.items()
        for name, of in ((f"{part}_difference", one) for one in ("before", "difference", "low", "high", "p"))
    }


def _roll_out(engine: sa.Engine, folder: Path) -> int:
    """Makes the trained encoder that of the live generation, and returns how many chunks were encoded for that."""
    live = generations.find(engine, Abstract.semantic.name, "live")
    loaded = encoders.load(str(folder))
    spec = live.spec.encoder
    target = dataclasses.replace(
        live.spec, encoder=dataclasses.replace(spec, reference=str(folder), dimensions=loaded.dimensions)
    )
    generations.begin(engine, live, target)
    encoded = _sync(engine)
    generations.switch(engine, Abstract.semantic.name)
    return encoded


def _sync(engine: sa.Engine) -> int:
    """Runs a worker until all rows are synced, and returns how many chunks it encoded."""
    with progress.bar(engine, shown=True) as advance:
        done = Worker(engine, settings.load(), on_progress=advance).run(threading.Event(), once=True)
    print(f"{done.rows} rows synced, {done.chunks_encoded} chunks encoded")
    return done.chunks_encoded


def _ndcg(
    engine: sa.Engine,
    judged: Grades,
    *,
    mode: Mode = "dense",
    options: Options = Options(),  # noqa: B008 - frozen
) -> Measured:
    """Returns nDCG@10 of each query, by exact search of the live generation with its own encoder."""
    live = generations.find(engine, Abstract.semantic.name, "live")
    searcher = Searcher(encoders.load(live.spec.encoder.reference))
    with orm.Session(engine) as session:

        def found(query: str) -> Iterator[ScoredDoc]:
            hits = searcher.search(
                session, Abstract.semantic, query, mode=mode, limit=DEPTH, exact=True, options=options
            )
            yield from (ScoredDoc(query, hit.entity.id, hit.score) for hit in hits)

        run = [one for query in judged for one in found(query)]
    run = [one._replace(score=-rank) for rank, one in enumerate(run)]  # equal scores must keep their order
    relevant = [Qrel(query, key, grade) for query, grades in judged.items() for key, grade in grades.items()]
    scores = {one.query_id: one.value for one in ir_measures.iter_calc([nDCG @ DEPTH], relevant, run)}
    return np.array([scores.get(query, 0.0) for query in judged])


def claims(split: str) -> Grades:
    """Returns the grades of a split's claims, by text."""
    texts = {record["_id"]: record["text"] for record in scifact.records("queries")}
    judged: dict[str, dict[str, int]] = {}
    with (scifact.DATA / "qrels" / f"{split}.tsv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            judged.setdefault(texts[row["query-id"]], {})[row["corpus-id"]] = int(row["score"])
    return judged


if __name__ == "__main__":
    main()
