"""What people would write by hand, as a process of its own: encode all texts, COPY, CREATE INDEX.

    python -m benchmarks.script DSN

Reads the texts from the worker's chunks in that database. Prints how many seconds it took, without loading the encoder.
"""

import itertools
import sys
import time

import psycopg
from sentence_transformers import SentenceTransformer

from benchmarks import scifact
from pg_semantic import settings
from pg_semantic.encoders.local import weights


def main() -> None:
    """Runs the script."""
    transformer = SentenceTransformer(str(weights.folder(scifact.ENCODER, settings.load().encoder_paths)))
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        texts = [text for (text,) in connection.execute("SELECT content FROM article_semantic ORDER BY id, ordinal")]
        connection.execute("CREATE TABLE script (id int PRIMARY KEY, content text, vector halfvec(384))")
        started = time.perf_counter()
        vectors = transformer.encode(texts).tolist()
        with connection.cursor().copy("COPY script FROM STDIN") as copy:
            for record in zip(itertools.count(), texts, map(str, vectors), strict=False):
                copy.write_row(record)
        connection.execute("CREATE INDEX ON script USING hnsw (vector halfvec_cosine_ops)")
        print(time.perf_counter() - started)


if __name__ == "__main__":
    main()
