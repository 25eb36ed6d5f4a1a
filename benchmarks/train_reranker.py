"""Trains a reranker on SciFact from the weights of all-MiniLM-L6-v2, and measures it on the test claims.

    make bench-rerank-train

Loads the 5,183 abstracts into an embedded Postgres, syncs them, mines hard negatives for the 809 training claims, and
trains for an epoch, in a few minutes of CPU time. Training holds out a fifth of these claims: ``held_out_difference``
is the gain of nDCG@10 on them, and ``recommended`` says whether a user would be advised to use the reranker.

The 300 test claims are searched once by words and meaning (``first_stage``), and once with the 20 best hits reranked
(``reranked``). ``low`` and ``high`` are the 95% interval of the difference. ``cpu_s`` is the CPU time of training, with
loading, measuring and writing.
"""

import argparse
import functools
import json
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from benchmarks import scifact
from benchmarks import train as encoder_training
from benchmarks.abstracts import Abstract, Base
from pg_semantic import Searcher, database, encoders, rerankers, settings, training
from pg_semantic.cli import progress
from pg_semantic.database import embedded, migrate
from pg_semantic.evaluation import measures
from pg_semantic.rerankers import BatchingReranker
from pg_semantic.search import Options, Rerank
from pg_semantic.training import MinedPair, Mining, Pair, RerankerTraining, TrainingReport, report
from pg_semantic.training.report import Measured
from pg_semantic.worker.worker import Worker

DEPTH = 20
MAX_TOKENS = 128
NEGATIVES = 2
EPOCHS = 1


def main() -> None:
    """Prints the results, with JSON as the last line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--loss", choices=["bce", "lambda"], default="bce")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--max-tokens", type=int, default=MAX_TOKENS)
    parser.add_argument("--data", type=Path, help="where to keep the synced database, so that later runs can use it")
    chosen = parser.parse_args()
    options = RerankerTraining(
        loss=chosen.loss, mode="hybrid", depth=DEPTH, max_tokens=chosen.max_tokens, epochs=chosen.epochs, keep=True
    )
    with tempfile.TemporaryDirectory() as folder:
        data = chosen.data or Path(folder) / "data"
        engine = database.connect(f"embedded:{data}")
        try:
            result = _measure(engine, Path(folder) / "trained", options)
        finally:
            engine.dispose()
            embedded.stop(data)
    print(json.dumps(result))


def _measure(engine: sa.Engine, out: Path, options: RerankerTraining) -> dict[str, Any]:
    migrate.upgrade(engine)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        if not session.scalar(sa.select(sa.func.count()).select_from(Abstract)):
            abstracts = scifact.records("corpus")
            session.add_all(Abstract(id=d["_id"], title=d["title"], text=d["text"]) for d in abstracts)
            session.commit()
    with progress.bar(engine, shown=True) as advance:
        Worker(engine, settings.load(), on_progress=advance).run(threading.Event(), once=True)
    searcher = Searcher(encoders.load(scifact.ENCODER))
    started, cpu = time.monotonic(), time.process_time()
    trained = _train(engine, _mined(engine, searcher), out, options=options)
    result = {
        "loss": options.loss,
        "epochs": trained.epochs,
        "train_s": round(time.monotonic() - started, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "held_out_difference": round(trained.held_out.difference, 4),
        "recommended": trained.recommended,
    }
    print(trained.verdict, flush=True)
    search = functools.partial(_ndcg, engine, searcher)
    with BatchingReranker(rerankers.load(str(out))) as reranker:
        gain = report.gain(
            search(Options(keys=True)), search(Options(keys=True, rerank=Rerank(reranker, DEPTH))), seed=0
        )
    figures = {
        "first_stage": gain.before,
        "reranked": gain.after,
        "difference": gain.difference,
        "low": gain.low,
        "high": gain.high,
        "p": gain.p,
    }
    return result | {name: round(value, 4) for name, value in figures.items()}


def _mined(engine: sa.Engine, searcher: Searcher) -> Sequence[MinedPair]:
    pairs = [Pair(query, key) for query, grades in encoder_training.claims("train").items() for key in grades]
    assert searcher.encoder is not None  # noqa: S101 - it was given
    with orm.Session(engine) as session:
        return training.mine(
            session,
            Abstract.semantic,
            pairs,
            encoder=searcher.encoder,
            mode="hybrid",
            options=Mining(negatives=NEGATIVES),
        ).pairs


def _train(engine: sa.Engine, mined: Sequence[MinedPair], out: Path, *, options: RerankerTraining) -> TrainingReport:
    with orm.Session(engine) as session, progress.training(shown=True) as advance:
        return training.train_reranker(session, Abstract.semantic, mined, out=out, options=options, on_step=advance)


def _ndcg(engine: sa.Engine, searcher: Searcher, options: Options) -> Measured:
    """Returns nDCG@10 of each test claim, by hybrid search."""
    judged = encoder_training.claims("test")
    with orm.Session(engine) as session:
        run = {
            query: [
                str(hit.key)
                for hit in searcher.search(session, Abstract.semantic, query, limit=10, mode="hybrid", options=options)
            ]
            for query in judged
        }
    return measures.per_query(["nDCG@10"], judged, run)["nDCG@10"]


if __name__ == "__main__":
    main()
