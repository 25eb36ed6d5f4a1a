"""What only a CUDA device can show; skipped without one."""

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import encoders
from pg_semantic.demo import tldr_pages
from pg_semantic.encoders.local import torch as precision
from pg_semantic.encoders.local.transformer import TransformerEncoder
from pg_semantic.settings import Settings
from tests.db.library import rows, sync

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
TEXTS = [f"{page.title}: {page.text}" for page in list(tldr_pages.pages())[:2_000:4]]


def _load(**given: object) -> TransformerEncoder:
    encoder = encoders.load(tldr_pages.ENCODER, settings=Settings(**given))  # type: ignore[arg-type]
    assert isinstance(encoder, TransformerEncoder)
    return encoder


@pytest.mark.parametrize("given", ["float32", "bfloat16", "float16"])
def test_every_precision_makes_the_vectors_of_the_cpu(given: str) -> None:
    expected = _load(device="cpu", backend="torch", precision="float32").encode_documents(TEXTS)
    cosines = (_load(device="cuda", precision=given).encode_documents(TEXTS) * expected).sum(axis=1)
    assert cosines.min() > 0.999


def test_the_device_computes_in_the_fastest_precision_that_it_has() -> None:
    loaded = _load(device="cuda")
    assert loaded.backend.precision == precision.precision_of("cuda")
    assert loaded.fingerprint == _load(device="cpu").fingerprint


def test_memory_that_ends_shrinks_the_budget_and_loses_no_vector() -> None:
    encoder = _load(device="cuda", token_budget=4_000_000)
    texts = [" ".join([text] * 20) for text in TEXTS] * 8
    expected = _load(device="cuda", token_budget=4_096).encode_documents(texts)
    torch.cuda.empty_cache()
    little = torch.cuda.memory_reserved() + 500 * 2**20
    torch.cuda.set_per_process_memory_fraction(little / torch.cuda.get_device_properties(0).total_memory)
    try:
        found = encoder.encode_documents(texts)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert encoder.budget.tokens < 4_000_000
    assert (found * expected).sum(axis=1).min() > 0.999
    assert np.isfinite(found).all()


def test_a_worker_on_the_device_makes_rows_searchable(engine: sa.Engine) -> None:
    tldr_pages.Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all(list(tldr_pages.pages())[:300])
        session.commit()
    assert sync(engine).rows == 300
    assert rows(engine, "SELECT count(DISTINCT id) FROM page_semantic") == [(300,)]
