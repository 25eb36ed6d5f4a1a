"""Compares a vector index on prefixes of rotated vectors, and one on their signs, with one on the vectors themselves.

    make bench-compressed CORPUS=corpus.jsonl.gz

The texts are 120,000 definitions and examples of Open English WordNet, with the vectors of the real all-MiniLM-L6-v2,
and the queries are 1,000 of its entries, such as "able" or "abaxial, dorsal". The corpus isn't part of the package. It
is a file in BEIR's format, one JSON object per line: ``title`` has the lemmas of a synset, and ``text`` its definition,
a full stop, and its examples, separated by `` / ``. Make it from https://github.com/globalwordnet/english-wordnet; its
licenses are CC BY 4.0 and that of WordNet. Vectors are kept in a folder, so that a second run doesn't encode again.

Three semantic indexes of one table are built by a worker, and searched by `Searcher` with the same ``ef_search``.
``recall`` compares the ten best rows with those that have the highest cosine of all, computed with numpy. ``cpu_ms`` is
the CPU time of the server process for one search. ``memory`` is the memory per chunk while the graph is built, from the
notice that it no longer fits. ``brute_force`` has no index in it: the recall of the ten best among the first candidates
by the compressed form alone.

The last line is JSON. The goals are those of the prefix: recall at most .005 lower and CPU time at most 1.2 times as
much at each ``ef_search``, a recall of .97 at one of them, 62% of the index's size, and 76% of its memory.
"""

import argparse
import functools
import gzip
import itertools
import json
import re
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import scifact, server
from pg_semantic import BoundIndex, Compressed, Searcher, SemanticIndex, encoders, settings
from pg_semantic.encoders import Encoder
from pg_semantic.search import Options
from pg_semantic.worker.prefixes import Basis
from pg_semantic.worker.worker import Worker

ROWS, QUERIES, LIMIT, ROUNDS = 120_000, 1_000, 10, 2
WIDTHS = (40, 100, 200, 400)
PREFIXES = (64, 128, 192, 256)
DEPTHS = (10, 20, 40, 100, 200)
SAME_SCORE = 5e-4  # stored vectors are rounded to 16 bits
RECALL_LOSS, CPU_RATIO, RECALL, INDEX_SHARE, MEMORY_SHARE = 0.005, 1.2, 0.97, 0.62, 0.76
_MEMORY_MB, _MEMORY_ROWS = 8, 15_000
_OUTGROWN = re.compile(r"after (\d+) tuples")
_BATCH = 2_000
_FOLDER = Path("/var/tmp/pg_semantic-compressed")  # noqa: S108
Vectors = NDArray[np.float32]


class Base(orm.DeclarativeBase):
    """The table of this benchmark."""


class Text(Base):
    """A definition or an example, with three vector indexes."""

    __tablename__ = "text"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str]

    plain = SemanticIndex("text", encoder=scifact.ENCODER, chunking=None, lexical=None)
    prefix = SemanticIndex("text", encoder=scifact.ENCODER, chunking=None, lexical=None, storage=Compressed(prefix=192))
    bits = SemanticIndex("text", encoder=scifact.ENCODER, chunking=None, lexical=None, storage=Compressed(bits=True))


@dataclass(frozen=True, slots=True)
class Data:
    """The texts and queries with their vectors, of length 1."""

    texts: Sequence[str]
    queries: Sequence[str]
    documents: Vectors
    questions: Vectors


class KnownVectors:
    """An encoder whose vectors were computed before."""

    def __init__(self, encoder: Encoder, data: Data) -> None:
        self._encoder = encoder
        self._documents = dict(zip(data.texts, data.documents, strict=True))
        self._queries = dict(zip(data.queries, data.questions, strict=True))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the encoder has
        return getattr(self._encoder, name)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Looks vectors up."""
        return np.array([self._documents[text] for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Looks vectors up."""
        return np.array([self._queries[text] for text in texts])


def main() -> None:
    """Prints the results, with JSON as the last line."""
    parser = argparse.ArgumentParser(description="Compares compressed vector indexes with a plain one.")
    parser.add_argument("--corpus", type=Path, required=True, help="Open English WordNet as corpus.jsonl.gz")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--vectors", type=Path, default=_FOLDER, help="where to keep them")
    given = parser.parse_args()
    encoder = encoders.load(scifact.ENCODER)
    data = _data(given.corpus, encoder, rows=given.rows, folder=given.vectors)
    brute_force = dict(_brute_force(data))
    for name, recalls in brute_force.items():
        print(f"brute force, {name}: {recalls}")
    with server.running() as postgres:
        engine = postgres.create("compressed")
        _fill(engine, encoder, data)
        figures = _measure(engine, encoder, data)
        engine.dispose()
    figures |= {"rows": len(data.texts), "brute_force": brute_force}
    print(json.dumps(figures))
    sys.exit(0 if figures["met"] else 1)


def _data(corpus: Path, encoder: Encoder, *, rows: int, folder: Path) -> Data:
    texts, queries = _texts(corpus, rows)
    file = folder / f"{rows}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        parts = (texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH))
        encoded = np.vstack([encoder.encode_documents(part) for part in parts])
        np.savez(file, documents=encoded)
    return Data(texts, queries, np.load(file)["documents"], encoder.encode_queries(queries))


def _texts(corpus: Path, rows: int) -> tuple[list[str], list[str]]:
    """Returns all definitions and then examples, without repetitions, in random order; and lemmas as queries."""
    with gzip.open(corpus, "rt", encoding="utf-8") as lines:
        synsets = [json.loads(line) for line in lines]
    parts = [synset["text"].partition(". ") for synset in synsets]
    examples = (example for _, _, rest in parts for example in rest.split(" / ") if example.strip())
    texts = list(dict.fromkeys([*(definition for definition, _, _ in parts), *examples]))
    drawn = np.random.default_rng(0).permutation(min(rows, len(texts)) if rows >= len(parts) else len(parts))
    titles = sorted({synset["title"] for synset in synsets})
    queries = np.random.default_rng(1).choice(len(titles), QUERIES, replace=False)
    return [texts[number] for number in drawn[:rows]], [titles[number] for number in queries]


def _fill(engine: sa.Engine, encoder: Encoder, data: Data) -> None:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": number, "text": text} for number, text in enumerate(data.texts)]
        connection.execute(sa.insert(Text), rows)
    known: Any = KnownVectors(encoder, data)
    configured = settings.load(maintenance_work_mem="512MB")
    Worker(engine, configured, load=lambda *_, **__: known).run(threading.Event(), once=True)
    server.execute(engine, "VACUUM ANALYZE")


def _measure(engine: sa.Engine, encoder: Encoder, data: Data) -> dict[str, Any]:
    indexes = {"plain": Text.plain, "prefix": Text.prefix, "bits": Text.bits}
    least = np.partition(data.questions @ data.documents.T, -LIMIT, axis=1)[:, -LIMIT]
    recall: dict[str, dict[int, float]] = {}
    cpu: dict[str, dict[int, float]] = {}
    searcher = Searcher(KnownVectors(encoder, data))
    for width in WIDTHS:
        taken: dict[str, list[float]] = {name: [] for name in indexes}
        for _, (name, index) in itertools.product(range(ROUNDS), indexes.items()):
            found, ms = _search(engine, searcher, index, data=data, width=width)
            recall.setdefault(name, {})[width] = _recall(found, least, data)
            taken[name].append(ms)
        for name, every in taken.items():
            cpu.setdefault(name, {})[width] = statistics.fmean(every)
            print(f"ef_search {width}, {name}: recall {recall[name][width]:.4f}, CPU {cpu[name][width]:.2f} ms")
    sizes = _sizes(engine)
    memory = {name: _memory(engine, name) for name in indexes}
    print(f"bytes per chunk: {sizes}; memory per chunk: {memory}")
    return _compared(recall=recall, cpu=cpu, sizes=sizes, memory=memory)


def _compared(
    *,
    recall: dict[str, dict[int, float]],
    cpu: dict[str, dict[int, float]],
    sizes: dict[str, dict[str, float]],
    memory: dict[str, float],
) -> dict[str, Any]:
    """Returns the figures, and whether they meet the goals."""
    loss = max(recall["plain"][width] - recall["prefix"][width] for width in WIDTHS)
    ratio = max(cpu["prefix"][width] / cpu["plain"][width] for width in WIDTHS)
    enough = next((width for width in WIDTHS if recall["prefix"][width] >= RECALL), None)
    shares = {name: round(sizes[name]["index"] / sizes["plain"]["index"], 3) for name in sizes}
    memories = {name: round(one / memory["plain"], 3) for name, one in memory.items()}
    met = loss <= RECALL_LOSS and ratio <= CPU_RATIO and enough is not None
    return {
        "met": met and shares["prefix"] <= INDEX_SHARE and memories["prefix"] <= MEMORY_SHARE,
        "recall_loss": round(loss, 4),
        "cpu_ratio": round(ratio, 3),
        "ef_search_for_recall": enough,
        "index_share": shares,
        "memory_share": memories,
        "recall": {name: {width: round(one, 4) for width, one in of.items()} for name, of in recall.items()},
        "cpu_ms": {name: {width: round(one, 2) for width, one in of.items()} for name, of in cpu.items()},
        "bytes_per_chunk": sizes,
        "memory_per_chunk": memory,
    }


def _search(
    engine: sa.Engine, searcher: Searcher, index: BoundIndex[Text], *, data: Data, width: int
) -> tuple[list[list[int]], float]:
    """Searches for each query. Returns the keys that were found, and the server's CPU time per search in ms."""
    found = []
    with orm.Session(engine) as session:
        process = psutil.Process(session.scalar(sa.text("SELECT pg_backend_pid()")))
        find = functools.partial(searcher.search, session, index, limit=LIMIT, options=Options(ef_search=width))
        for query in data.queries[:20]:  # warms up
            find(query, mode="dense")
        before = process.cpu_times()
        for query in data.queries:
            hits = find(query, mode="dense")
            found.append([hit.entity.id for hit in hits])
        after = process.cpu_times()
    return found, (after.user + after.system - before.user - before.system) * 1000 / len(data.queries)


def _recall(found: Sequence[Sequence[int]], least: Vectors, data: Data) -> float:
    """Returns the share of the ten best rows that was found. Rows that are as good as the tenth count as found."""
    scores = [question @ data.documents[keys].T for question, keys in zip(data.questions, found, strict=True)]
    good = [int((score >= last - SAME_SCORE).sum()) for score, last in zip(scores, least, strict=True)]
    return sum(good) / (LIMIT * len(good))


def _sizes(engine: sa.Engine) -> dict[str, dict[str, float]]:
    """Returns the bytes per chunk of each vector index and chunk table."""
    statement = "SELECT pg_relation_size('text_{0}_vector_idx'), pg_table_size('text_{0}'), count(*) FROM text_{0}"
    found = {}
    with engine.connect() as connection:
        for name in ("plain", "prefix", "bits"):
            index, table, count = connection.execute(sa.text(statement.format(name))).one()
            found[name] = {"index": round(index / count, 1), "table": round(table / count, 1)}
    return found


def _memory(engine: sa.Engine, name: str) -> float:
    """Returns the bytes per chunk of a graph in memory: how many fit before the server says that it outgrew them."""
    notices: list[str] = []
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        driver: Any = connection.connection.driver_connection
        driver.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        [definition] = connection.scalars(sa.text(f"SELECT pg_get_indexdef('text_{name}_vector_idx'::regclass)"))
        for statement in (
            f"CREATE TABLE part WITH (parallel_workers = 0) AS TABLE text_{name} LIMIT {_MEMORY_ROWS}",
            f"SET maintenance_work_mem = '{_MEMORY_MB}MB'; SET max_parallel_maintenance_workers = 0",
            re.sub(r"INDEX \S+ ON \S+", "INDEX part_idx ON part", definition),
            "DROP TABLE part",
        ):
            connection.exec_driver_sql(statement)
    fitted = next(int(match[1]) for notice in notices if (match := _OUTGROWN.search(notice)))
    return round(_MEMORY_MB * 2**20 / fitted, 1)


def _brute_force(data: Data) -> Iterator[tuple[str, dict[int, float]]]:
    """Yields the recall of the best candidates by a compressed form alone, by how many they are."""
    exact = data.questions @ data.documents.T
    true = np.argpartition(-exact, LIMIT, axis=1)[:, :LIMIT]
    sample = np.random.default_rng(0).choice(len(data.documents), min(10_000, len(data.documents)), replace=False)
    for prefix in PREFIXES:
        basis = Basis.of_vectors(data.documents[sample], prefix)
        documents, questions = (_unit(basis.prefixes(one)) for one in (data.documents, data.questions))
        yield f"prefix {prefix}", _shares(questions @ documents.T, true)
    for prefix in PREFIXES[1:3]:
        documents, questions = (_unit(one[:, :prefix]) for one in (data.documents, data.questions))
        yield f"prefix {prefix}, not rotated", _shares(questions @ documents.T, true)
    signs = [np.where(one > 0, 1, -1).astype(np.float32) for one in (data.documents, data.questions)]
    yield "bits", _shares(signs[1] @ signs[0].T, true)


def _unit(vectors: NDArray[Any]) -> Vectors:
    wide = vectors.astype(np.float32)
    found: Vectors = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return found


def _shares(scores: Vectors, true: NDArray[np.intp]) -> dict[int, float]:
    """Returns the share of the true rows that are among the first candidates."""
    place = np.partition(-scores, [depth - 1 for depth in DEPTHS], axis=1)
    own = -np.take_along_axis(scores, true, axis=1)
    return {depth: round(float((own <= place[:, depth - 1 : depth]).mean()), 4) for depth in DEPTHS}


if __name__ == "__main__":
    main()
