"""Mines hard negatives for the 809 training claims of SciFact, and compares them with sentence-transformers.

    make bench-mine

Loads the 5,183 abstracts into an embedded Postgres and syncs them with the real all-MiniLM-L6-v2, one vector per
abstract, as ``mine_hard_negatives`` has them. ``equal`` is the share of negatives that both an exact search and
``mine_hard_negatives`` choose, of all that either of them chooses with the same settings: by default, and with the
margin of NV-Retriever. The library gets the claims that have the same number of answers together, since its default of
``range_max`` depends on the highest number of any claim. It gets the stored vectors, so this compares the mining. With
``--encode`` it encodes all texts itself, in 32 bits, which takes minutes: the comparison then includes the encoders and
the rounding of stored vectors to 16 bits.

``seconds`` is the time to mine all claims with the package's defaults, through the vector index, and ``exact_seconds``
by exact search; both encode the claims. ``documents_encoded`` counts documents that were encoded for it. ``answers``
and ``near_answers`` are negatives that were judged relevant, or that have a cosine similarity of .95 or more to a row
that was.

The library needs the package datasets. Without it, ``equal`` is missing.
"""

import argparse
import dataclasses
import json
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import scifact
from pg_semantic import SemanticIndex, database, encoders, settings, training
from pg_semantic.cli import progress
from pg_semantic.database import embedded, migrate
from pg_semantic.encoders import Encoder, Vectors
from pg_semantic.encoders.local import weights
from pg_semantic.evaluation import Judgements
from pg_semantic.index import chunk_tables
from pg_semantic.training import Mined, Mining, Pair
from pg_semantic.worker.worker import Worker

COMPARED: Mapping[str, dict[str, Any]] = {"equal": {}, "equal_margin": {"relative_margin": 0.05}}
NEAR = 0.95


class Base(orm.DeclarativeBase):
    """The tables of this benchmark."""


class MinedAbstract(Base):
    """An abstract of SciFact, indexed whole."""

    __tablename__ = "abstract"

    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    text: Mapped[str]

    semantic = SemanticIndex("title", "text", encoder=scifact.ENCODER, chunking=None)


class Counted:
    """An encoder that counts the documents that it encodes."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.documents = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the encoder has
        return getattr(self._encoder, name)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Counts the texts, and encodes them."""
        self.documents += len(texts)
        return self._encoder.encode_documents(texts)


@dataclasses.dataclass(frozen=True)
class Stored:
    """What ``mine_hard_negatives`` calls of a SentenceTransformer: looks vectors up by text."""

    vectors: Mapping[str, NDArray[np.float32]]
    device: str = "cpu"

    def encode_query(self, texts: Sequence[str], **_: object) -> NDArray[np.float32]:
        """Returns the vectors of claims."""
        return np.stack([self.vectors[text] for text in texts])

    encode_document = encode_query

    def similarity(self, one: Any, other: Any) -> Any:  # noqa: ANN401 - tensors or arrays
        """Returns the cosine similarities of all pairs."""
        from sentence_transformers.util import cos_sim

        return cos_sim(one, other)

    def similarity_pairwise(self, one: Any, other: Any) -> Any:  # noqa: ANN401 - tensors or arrays
        """Returns the cosine similarity of each pair."""
        from sentence_transformers.util import pairwise_cos_sim

        return pairwise_cos_sim(one, other)


def main() -> None:
    """Prints the results, with JSON as the last line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--encode", action="store_true", help="let sentence-transformers encode all texts itself")
    encode = parser.parse_args().encode
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        engine = database.connect(f"embedded:{data}")
        try:
            result = _measure(engine, encode=encode)
        finally:
            engine.dispose()
            embedded.stop(data)
    print(json.dumps(result))


def _measure(engine: sa.Engine, *, encode: bool) -> dict[str, Any]:
    migrate.upgrade(engine)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        abstracts = scifact.records("corpus")
        session.add_all(MinedAbstract(id=d["_id"], title=d["title"], text=d["text"]) for d in abstracts)
        session.commit()
    with progress.bar(engine, shown=True) as advance:
        Worker(engine, settings.load(), on_progress=advance).run(threading.Event(), once=True)
    pairs = training.from_judgements(Judgements.read(scifact.DATA, split="train"))
    encoder = Counted(encoders.load(scifact.ENCODER))
    encoder.encode_queries(["warm up"])
    with orm.Session(engine) as session:
        mined, seconds = _mined(session, pairs, encoder)
        exact, exact_seconds = _mined(session, pairs, encoder, exact=True)
        result = {
            "queries": mined.report.queries,
            "negatives": mined.report.negatives,
            "seconds": seconds,
            "exact_seconds": exact_seconds,
            "walk_finds": round(_share(_negatives(mined), _negatives(exact)), 4),
            "documents_encoded": encoder.documents,
            **_faults(session, mined, pairs),
        }
        print(f"{mined.report.dropped}, {mined.report.positive_scores}, {mined.report.negative_scores}")
        return result | _equal(session, pairs, encoder, encode=encode)


def _mined(
    session: orm.Session,
    pairs: Sequence[Pair],
    encoder: Encoder,
    *,
    exact: bool = False,
    **how: Any,  # noqa: ANN401
) -> tuple[Mined, float]:
    """Returns what was mined, and the seconds that it took."""
    started = time.monotonic()
    mined = training.mine(session, MinedAbstract.semantic, pairs, encoder=encoder, exact=exact, options=Mining(**how))
    return mined, round(time.monotonic() - started, 2)


def _negatives(mined: Mined) -> dict[str, set[str]]:
    return {pair.query: {negative.key for negative in pair.negatives} for pair in mined.pairs}


def _share(found: Mapping[str, set[str]], wanted: Mapping[str, set[str]]) -> float:
    return sum(len(keys & found[query]) for query, keys in wanted.items()) / sum(map(len, wanted.values()))


def _faults(session: orm.Session, mined: Mined, pairs: Sequence[Pair]) -> dict[str, int]:
    """Counts negatives that are answers, or nearly the same as one."""
    answers = defaultdict(set)
    for pair in pairs:
        answers[pair.query].add(pair.key)
    stored = _stored(session)
    found = [(negative, answers[query]) for query, keys in _negatives(mined).items() for negative in keys]
    near = (max(float(stored[key] @ stored[answer]) for answer in known) for key, known in found)
    return {"answers": sum(key in known for key, known in found), "near_answers": sum(one >= NEAR for one in near)}


def _stored(session: orm.Session) -> dict[str, NDArray[np.float32]]:
    """Returns the stored vectors by key, normalized."""
    chunks = MinedAbstract.semantic.tables.chunks.c
    vectors = {
        key: np.asarray(vector, np.float32) for key, vector in session.execute(sa.select(chunks.id, chunks.vector))
    }
    return {key: vector / np.linalg.norm(vector) for key, vector in vectors.items()}


def _equal(session: orm.Session, pairs: Sequence[Pair], encoder: Encoder, *, encode: bool) -> dict[str, Any]:
    """Compares with the library, with each of the settings."""
    try:
        import datasets
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.util import mine_hard_negatives
    except ModuleNotFoundError:
        return {}
    tables = MinedAbstract.semantic.tables
    text = chunk_tables.text_of(tables.spec, tables.source)
    texts = {str(key): found for key, found in session.execute(sa.select(tables.source.c.id, text))}
    keys = {found: key for key, found in texts.items()}
    if encode:
        library: Any = SentenceTransformer(str(weights.folder(scifact.ENCODER, {})), device="cpu")
    else:
        claims = list(dict.fromkeys(pair.query for pair in pairs))
        known = {texts[key]: vector for key, vector in _stored(session).items()}
        library = Stored(known | dict(zip(claims, encoder.encode_queries(claims), strict=True)))
    answers = Counter(pair.query for pair in pairs)
    result = {}
    with tempfile.TemporaryDirectory() as cache:
        for name, how in COMPARED.items():
            theirs: set[tuple[str, str]] = set()
            options = {"cache_folder": cache} if encode else {}
            for count in set(answers.values()):
                same = [pair for pair in pairs if answers[pair.query] == count]
                given = datasets.Dataset.from_dict(
                    {"claim": [pair.query for pair in same], "abstract": [texts[pair.key] for pair in same]}
                )
                found = mine_hard_negatives(given, library, corpus=list(keys), verbose=False, **how, **options)
                theirs |= {(row["claim"], keys[row["negative"]]) for row in found}
            mined, _ = _mined(session, pairs, encoder, exact=True, **how, not_nearer_than=None)
            ours = {(query, key) for query, chosen in _negatives(mined).items() for key in chosen}
            result[name] = round(len(ours & theirs) / len(ours | theirs), 4)
    return result


if __name__ == "__main__":
    main()
