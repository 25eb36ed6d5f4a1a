"""Tunes the hybrid search of SciFact on its 809 training claims, and measures the result on its 300 test claims.

    make bench-tune

Loads the 5,183 abstracts into an embedded Postgres, syncs them with the real all-MiniLM-L6-v2, asks both legs once for
each of the 1,109 claims, and tunes against ``Rrf(60)``, whatever the default is. Nothing is chosen on test claims.

``base`` and ``tuned`` are nDCG@10 on the test claims; ``difference``, ``low``, ``high`` and ``p`` compare them.
``fold_low`` is the lower end of the 90% interval over the folds of the training claims: if it is above 0, and so with
95% confidence, the change is recommended. ``unseen_difference`` is over the test claims whose relevant abstracts no
training claim has.

The draws tune on some of the training claims only: ``draws_N_mean`` is the mean gain of what is recommended on the test
claims, ``draws_N_worse`` in how many draws it is more than .002 below the base, and ``draws_N_changed`` the share of
draws in which a change is recommended. ``best_fixed_gain`` is the gain of the best setting for all training claims.
"""

import csv
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import orm

from benchmarks import scifact
from benchmarks.abstracts import Abstract, Base
from pg_semantic import database, encoders, settings
from pg_semantic.database import embedded, migrate
from pg_semantic.evaluation import Judgements, significance
from pg_semantic.search import Options, Rrf
from pg_semantic.tuning import TuningOptions, candidates, cross_validation
from pg_semantic.tuning.candidates import Candidates, LegOptions
from pg_semantic.tuning.cross_validation import Validation
from pg_semantic.tuning.grid import smoothing
from pg_semantic.tuning.tune import legs_of, matrix
from pg_semantic.worker.worker import Worker

DRAWS = 100
SIZES = (20, 50, 100, 200, 400)
MUCH_WORSE = 0.002


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = TuningOptions(base=Options(fusion=Rrf(60)), exact=True)
    judged = {name: _judgements(name) for name in ("train", "test")}
    found = _found(judged, options)
    values = {name: matrix(found[name], judged[name], options) for name in judged}
    tried = [setting.code for setting in options.tried]
    for code, train, test in zip(tried, *(values[name].mean(axis=1) for name in judged), strict=True):
        print(f"train {train:.4f}  test {test:.4f}  {code}")
    result = _tuned(values["train"], values["test"], seen=_seen(judged), options=options)
    for size in SIZES:
        result |= _draws(values["train"], values["test"], size=size, options=options)
    print(json.dumps({name: round(value, 4) for name, value in result.items()}))


def _judgements(split: str) -> Judgements:
    texts = {query["_id"]: query["text"] for query in scifact.records("queries")}
    grades: dict[str, dict[str, int]] = {}
    with (scifact.DATA / "qrels" / f"{split}.tsv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            grades.setdefault(texts[row["query-id"]], {})[row["corpus-id"]] = int(row["score"])
    return Judgements(grades)


def _found(judged: Mapping[str, Judgements], options: TuningOptions) -> dict[str, list[Candidates]]:
    how = legs_of(options)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        engine = database.connect(f"embedded:{data}")
        try:
            migrate.upgrade(engine)
            Base.metadata.create_all(engine)
            with orm.Session(engine) as session:
                session.add_all(
                    Abstract(id=one["_id"], title=one["title"], text=one["text"]) for one in scifact.records("corpus")
                )
                session.commit()
            Worker(engine, settings.load()).run(threading.Event(), once=True)
            encoder = encoders.load(scifact.ENCODER)
            with orm.Session(engine) as session:
                return {
                    name: list(_candidates(session, encoder, queries=ones.queries, how=how))
                    for name, ones in judged.items()
                }
        finally:
            engine.dispose()
            embedded.stop(data)


def _candidates(
    session: orm.Session, encoder: encoders.Encoder, *, queries: tuple[str, ...], how: LegOptions
) -> Iterator[Candidates]:
    vectors = encoder.encode_queries(queries)
    for query, vector in zip(queries, vectors, strict=True):
        yield candidates.find(session, Abstract.semantic, query, vector=vector, how=how)


def _seen(judged: Mapping[str, Judgements]) -> NDArray[np.bool_]:
    rows = {key for query in judged["train"].queries for key in judged["train"].relevant(query)}
    return np.array([not rows.isdisjoint(judged["test"].relevant(query)) for query in judged["test"].queries])


def _tuned(
    train: NDArray[np.float64], test: NDArray[np.float64], *, seen: NDArray[np.bool_], options: TuningOptions
) -> dict[str, float]:
    recommended, fold_low = _recommended(train, options)
    gains = test[recommended] - test[0]
    low, high = significance.bootstrap_interval(gains)
    best = cross_validation.best(train, smoothing(options.tried))
    print(f"recommended: {options.tried[recommended].code}")
    return {
        "base": test[0].mean(),
        "tuned": test[recommended].mean(),
        "difference": gains.mean(),
        "low": low,
        "high": high,
        "p": significance.randomization_p(gains),
        "fold_low": fold_low,
        "unseen_difference": gains[~seen].mean(),
        "best_fixed_gain": (test[best] - test[0]).mean(),
    }


def _recommended(values: NDArray[np.float64], options: TuningOptions) -> tuple[int, float]:
    """Returns the recommended setting, and the lower end of the interval over the folds."""
    near = smoothing(options.tried)
    validation = Validation(options.folds, options.repeats, options.seed)
    gain = cross_validation.expected_gain(values, lambda seen: cross_validation.best(seen, near), validation)
    return (cross_validation.best(values, near) if gain.is_shown else 0), gain.low


def _draws(
    train: NDArray[np.float64], test: NDArray[np.float64], *, size: int, options: TuningOptions
) -> dict[str, float]:
    chance = np.random.default_rng(size)
    picked = [chance.choice(train.shape[1], size, replace=False) for _ in range(DRAWS)]
    settings_ = [_recommended(train[:, queries], options)[0] for queries in picked]
    gains = np.array([test[setting].mean() - test[0].mean() for setting in settings_])
    return {
        f"draws_{size}_mean": gains.mean(),
        f"draws_{size}_worse": float((gains < -MUCH_WORSE).sum()),
        f"draws_{size}_changed": float(np.mean([setting != 0 for setting in settings_])),
    }


if __name__ == "__main__":
    main()
