"""An encoder with a router that changes only how queries are encoded has the document vectors of its base."""

import functools
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router
from sentence_transformers.sentence_transformer.modules import Normalize
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from pg_semantic import Searcher, cli, encoders, errors, generations
from pg_semantic import settings as environment
from pg_semantic.demo import tldr_pages
from pg_semantic.demo.tldr_pages import Page
from pg_semantic.encoders.local import backends, weights
from pg_semantic.encoders.local.quantize import quantize
from pg_semantic.encoders.local.transformer import TransformerEncoder
from pg_semantic.operations import verify
from pg_semantic.settings import Settings
from tests.acceptance import architectures
from tests.db.copies import all_of
from tests.db.library import sync

pytestmark = pytest.mark.weights

BASE = tldr_pages.ENCODER
TEXTS = [f"{page.title}\n\n{page.text}" for page in itertools.islice(tldr_pages.pages(), 0, 3000, 150)]
BACK_ENDS = [("torch", "float32"), ("openvino", "float32"), ("torch", "bfloat16"), ("openvino", "bfloat16")]
WIDTH = 384


def _base() -> SentenceTransformer:
    return SentenceTransformer(str(weights.folder(BASE, {})), device="cpu", local_files_only=True)


def _near_identity() -> Dense:
    """A map of query vectors, as if it had been trained."""
    made = Dense(WIDTH, WIDTH, bias=False, activation_function=torch.nn.Identity())
    noise = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))
    made.linear.weight.data = torch.eye(WIDTH) + 0.01 * noise
    return made


def _map_after_pooling() -> list[Any]:
    transformer, pooling, normalize = _base().children()
    return [transformer, pooling, Router.for_query_document([_near_identity(), Normalize()], [normalize])]


def _map_on_a_route_with_the_same_transformer() -> list[Any]:
    transformer, pooling, normalize = _base().children()
    routes = Router.for_query_document([transformer, pooling, _near_identity()], [transformer, pooling])
    return [routes, normalize]


def _transformer_of_its_own() -> list[Any]:
    transformer, pooling, normalize = _base().children()
    other, other_pooling, _ = _base().children()
    other.model.encoder.layer[5].output.dense.weight.data += 0.01
    return [Router.for_query_document([other, other_pooling], [transformer, pooling]), normalize]


def _by_route_mappings() -> list[Any]:
    transformer, pooling, normalize = _base().children()
    routes = {"of_queries": [transformer, pooling, _near_identity()], "of_documents": [transformer, pooling]}
    mapped = {("query", "text"): "of_queries", ("document", None): "of_documents"}
    return [Router(routes, route_mappings=mapped), normalize]


KINDS: dict[str, Callable[[], list[Any]]] = {
    "map": _map_after_pooling,
    "route": _map_on_a_route_with_the_same_transformer,
    "transformer": _transformer_of_its_own,
    "mappings": _by_route_mappings,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of an encoder of each kind."""
    root = tmp_path_factory.mktemp("trained")
    for name, modules in KINDS.items():
        SentenceTransformer(modules=modules()).save(str(root / name), create_model_card=False)
    return {name: root / name for name in KINDS}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("converted")


def _load(folder: Path, backend: str = "torch", precision: str = "float32", **given: Any) -> TransformerEncoder:
    chosen = Settings(backend=backend, precision=precision, device="cpu", token_budget=2048, **given)
    return backends.load(folder, reference=str(folder), dimensions=None, settings=chosen)


def _folder_of_base() -> Path:
    return weights.folder(BASE, {})


@pytest.fixture(scope="module")
def base_with(cache: Path) -> Callable[[str, str], TransformerEncoder]:
    """Gives the base with a back end and a precision, loaded once."""
    return functools.cache(lambda backend, precision: _load(_folder_of_base(), backend, precision, cache_folder=cache))


@pytest.fixture(scope="module")
def vectors_of_base(base_with: Callable[[str, str], TransformerEncoder]) -> Callable[[str, str], np.ndarray]:
    """Gives the document vectors of the texts, encoded once."""
    return functools.cache(lambda backend, precision: base_with(backend, precision).encode_documents(TEXTS))


@pytest.fixture(scope="module")
def loaded(trained: dict[str, Path]) -> Callable[[str], TransformerEncoder]:
    """Gives the encoder of a kind, loaded once."""
    return functools.cache(lambda kind: _load(trained[kind]))


@pytest.fixture(scope="module")
def base(base_with: Callable[[str, str], TransformerEncoder]) -> TransformerEncoder:
    return base_with("torch", "float32")


def test_the_fingerprint_of_an_encoder_without_a_router_is_that_of_earlier_releases() -> None:
    assert _load(_folder_of_base()).fingerprint == "ee3c5ca707bf224d9e9e0dadb1bdf5919680752141c5b141e835a5ff5db4a467"


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_the_document_fingerprint_of_its_base_and_a_fingerprint_of_its_own(
    base: TransformerEncoder, loaded: Callable[[str], TransformerEncoder], kind: str
) -> None:
    made = loaded(kind)
    assert made.document_fingerprint == base.document_fingerprint
    assert made.fingerprint != base.fingerprint


@pytest.mark.parametrize(("backend", "precision"), BACK_ENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_its_document_vectors_equal_those_of_its_base_to_the_last_bit(
    base_with: Callable[[str, str], TransformerEncoder],
    vectors_of_base: Callable[[str, str], np.ndarray],
    trained: dict[str, Path],
    cache: Path,
    kind: str,
    backend: str,
    precision: str,
) -> None:
    if precision == "bfloat16" and not environment.allows_bfloat16():
        pytest.skip("this CPU has no bfloat16")
    made = _load(trained[kind], backend, precision, cache_folder=cache)
    assert str(made.backend) == f"{backend} in {precision}"
    np.testing.assert_array_equal(made.encode_documents(TEXTS), vectors_of_base(backend, precision))
    of_queries = base_with(backend, precision).encode_queries(TEXTS[:4])
    assert not np.array_equal(made.encode_queries(TEXTS[:4]), of_queries)


@pytest.mark.parametrize("kind", KINDS)
def test_it_cuts_and_counts_as_its_base_does(
    base: TransformerEncoder, loaded: Callable[[str], TransformerEncoder], kind: str
) -> None:
    made = loaded(kind)
    long = "\n\n".join(TEXTS)
    assert (made.max_tokens, made.document_prompt) == (base.max_tokens, base.document_prompt)
    assert made.count_tokens(TEXTS) == base.count_tokens(TEXTS)
    cut, cut_by_base = (one.splitter(max_tokens=64, overlap_tokens=8)(long) for one in (made, base))
    assert cut == cut_by_base


def test_in_int8_too_a_map_of_queries_changes_only_the_whole_fingerprint(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    quantize(str(trained["map"]), before, texts=TEXTS[:20], samples=20, settings=Settings())
    shutil.copytree(before, after)
    [file] = after.rglob("query_0_Dense/model.safetensors")
    save_file({name: value + 1e-4 for name, value in load_file(file).items()}, file, {"format": "pt"})
    one, two = (
        backends.load(folder, reference="any", dimensions=None, settings=Settings(token_budget=2048))
        for folder in (before, after)
    )
    assert one.fingerprint != two.fingerprint
    assert one.document_fingerprint == two.document_fingerprint != _load(trained["map"]).document_fingerprint
    np.testing.assert_array_equal(one.encode_documents(TEXTS), two.encode_documents(TEXTS))


def test_a_router_without_a_route_for_queries_is_refused(tmp_path: Path) -> None:
    transformer, pooling, normalize = _base().children()
    made = SentenceTransformer(modules=[Router({"document": [transformer, pooling]}), normalize])
    made.save(str(tmp_path), create_model_card=False)
    with pytest.raises(errors.EncoderError, match="no route for a query, only for 'document'"):
        _load(tmp_path)


def test_routes_whose_vectors_have_other_dimensions_are_refused(tmp_path: Path) -> None:
    transformer, pooling, _ = _base().children()
    routes = Router.for_query_document([Dense(WIDTH, 128)], [Normalize()])
    SentenceTransformer(modules=[transformer, pooling, routes]).save(str(tmp_path), create_model_card=False)
    with pytest.raises(errors.EncoderError, match="384 dimensions for documents, but 128 for queries"):
        _load(tmp_path)


def _command(dsn: str, *arguments: str) -> str:
    done = CliRunner().invoke(cli.app, [*arguments, "--dsn", dsn])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.fixture
def pages(engine: sa.Engine) -> sa.Engine:
    """Forty pages of the corpus, synced."""
    tldr_pages.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(itertools.islice(tldr_pages.pages(), 0, 4000, 100))
        session.commit()
    sync(engine)
    return engine


def test_it_goes_live_without_a_text_encoded_again_and_back(
    pages: sa.Engine, dsn: str, trained: dict[str, Path]
) -> None:
    folder = str(trained["map"])
    said = _command(dsn, "generation", "begin", "page_semantic", "--encoder", folder, "--yes")
    assert "vectors are copied, no text is encoded" in said
    assert sync(pages).chunks_encoded == 0
    _command(dsn, "generation", "switch", "page_semantic", "--yes")
    assert all_of(pages)["live"].spec.encoder.reference == folder
    question = "show a listing of open files"
    with Session(pages) as session:
        [hit] = Searcher(encoders.load(folder)).search(session, Page.semantic, question, limit=1)
        [expected] = encoders.load(folder).encode_queries([question])
        [document] = encoders.load(BASE).encode_documents([hit.passage])
        assert hit.score == pytest.approx(float(expected @ document), abs=2e-3)
    generations.rollback(pages, "page_semantic")
    assert sync(pages).chunks_encoded == 0
    assert all(verify.verify(pages, one).clean for one in all_of(pages).values())


def test_a_transformer_of_documents_of_its_own_is_another_encoder(tmp_path: Path, made: Callable[[str], Path]) -> None:
    tiny = SentenceTransformer(str(made("router")), device="cpu", local_files_only=True)
    tiny[0].sub_modules["document"][0].model.embeddings.word_embeddings.weight.data[5] += 1
    tiny.save(str(tmp_path), create_model_card=False)
    assert _load(tmp_path).document_fingerprint != _load(made("router")).document_fingerprint


def _swapped(tiny: SentenceTransformer) -> None:
    routes = tiny[0].sub_modules
    routes["query"], routes["document"] = routes["document"], routes["query"]


def _other_query_weights(tiny: SentenceTransformer) -> None:
    tiny[0].sub_modules["query"][0].model.embeddings.word_embeddings.weight.data[5] += 1


def _other_query_prompt(tiny: SentenceTransformer) -> None:
    tiny.prompts = {**tiny.prompts, "query": "search for this: "}


def _other_query_pooling(tiny: SentenceTransformer) -> None:
    tiny[0].sub_modules["query"][1].pooling_mode = ("mean",)


def _other_document_prompt(tiny: SentenceTransformer) -> None:
    tiny.prompts = {**tiny.prompts, "document": "a page: "}


def _shorter_documents(tiny: SentenceTransformer) -> None:
    tiny[0].sub_modules["document"][0].max_seq_length = 40


@pytest.mark.parametrize(
    ("change", "of_documents"),
    [
        (_other_query_weights, False),
        (_other_query_prompt, False),
        (_other_query_pooling, False),
        (_swapped, True),
        (_other_document_prompt, True),
        (_shorter_documents, True),
    ],
)
def test_what_queries_pass_through_changes_only_the_whole_fingerprint_and_what_documents_do_both(
    made: Callable[[str], Path],
    tmp_path: Path,
    change: Callable[[SentenceTransformer], None],
    of_documents: bool,
) -> None:
    tiny = SentenceTransformer(str(made("router")), device="cpu", local_files_only=True)
    change(tiny)
    tiny.save(str(tmp_path), create_model_card=False)
    before, after = _load(made("router")), _load(tmp_path)
    assert after.fingerprint != before.fingerprint
    assert (after.document_fingerprint != before.document_fingerprint) == of_documents


def test_routes_that_share_their_weights_have_another_fingerprint_once_they_are_swapped(tmp_path: Path) -> None:
    transformer, pooling, normalize = _base().children()
    mapped, plain = [_near_identity(), Normalize()], [normalize]
    for name, routes in (
        ("one", Router({"query": mapped, "document": plain}, default_route="document")),
        ("two", Router({"document": mapped, "query": plain}, default_route="document")),
    ):
        saved = SentenceTransformer(modules=[transformer, pooling, routes])
        saved.save(str(tmp_path / name), create_model_card=False)
    one, two = (_load(tmp_path / name) for name in ("one", "two"))
    assert one.fingerprint != two.fingerprint
    assert one.document_fingerprint != two.document_fingerprint


def test_a_pooler_that_is_missing_in_the_files_and_random_after_each_load_is_left_out(
    tmp_path: Path, made: Callable[[str], Path]
) -> None:
    tiny = SentenceTransformer(str(made("bert")), device="cpu", local_files_only=True)
    tiny[0].model.pooler.dense.weight.data += 1
    tiny.save(str(tmp_path), create_model_card=False)
    assert _load(tmp_path).document_fingerprint == _load(made("bert")).document_fingerprint


@pytest.mark.parametrize("name", architectures.ENCODERS)
def test_the_document_fingerprint_is_the_same_after_each_load_and_after_saving_again(
    made: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    SentenceTransformer(str(made(name)), device="cpu", local_files_only=True).save(
        str(tmp_path), create_model_card=False
    )
    found = {_load(folder).document_fingerprint for folder in (made(name), made(name), tmp_path)}
    assert len(found) == 1
