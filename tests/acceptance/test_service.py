"""The examples of the service's page, run against the service with the real encoder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from pg_semantic import encoders
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index
from tests import documents
from tests.db.library import execute, sync
from tests.service import serving

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
ADDRESS = "http://127.0.0.1:8080"


@pytest.mark.weights
def test_the_examples_of_the_page_run(engine: sa.Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(engine, "CREATE TABLE article (id integer PRIMARY KEY, title text)")
    execute(engine, "INSERT INTO article VALUES (7, 'Password help: ask for a reset link'), (8, 'Cooking rice')")
    with engine.connect() as connection:
        encoder = EncoderSpec(ENCODER, 384)
        spec = create_index.describe(connection, "article", columns=("title",), encoder=encoder)
    create_index.create(engine, spec)
    sync(engine)
    dsn = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    namespace: dict[str, Any] = {"__name__": "example"}
    with serving.process("--dsn", dsn, folder=tmp_path) as process:
        for block in documents.blocks(documents.ROOT / "docs" / "reference" / "http-api.md", "python"):
            exec(compile(block.replace(ADDRESS, process.url), "docs/reference/http-api.md", "exec"), namespace)  # noqa: S102
        namespace["client"].close()
    [expected] = encoders.load(ENCODER).encode_queries(["how do I get back into my account"])
    assert float(np.dot(namespace["vector"], expected)) > 0.9999
    assert capsys.readouterr().out.startswith("{'id': 7}")
