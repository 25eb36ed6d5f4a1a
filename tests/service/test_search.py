"""Searches over HTTP: the rows that a searcher finds, and nothing that a request could do beyond that."""

import asyncio
import dataclasses
import types
from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import httpx2
import pytest
import sqlalchemy as sa
from prometheus_client import generate_latest
from sqlalchemy import orm

from pg_semantic import SemanticIndex, database, encoders, generations, rerankers
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index
from pg_semantic.search import Searcher
from pg_semantic.service.loaded_models import LoadedModels
from pg_semantic.service.metrics import Metrics
from pg_semantic.service.searchers import IndexSearchers
from pg_semantic.settings import Settings
from tests import cross_encoders
from tests.db.library import ENCODER, Article, Base, encoder, execute, generation_of, rows, sync
from tests.service import serving
from tests.waiting import eventually

TITLES = ["harbour candle", "harbour meadow", "engine violin", "glacier pepper", "lantern anchor"]


@pytest.fixture
def client(engine: sa.Engine) -> Iterator[httpx2.Client]:
    Base.metadata.create_all(engine)
    for number, title in enumerate(TITLES, start=1):
        execute(engine, "INSERT INTO article VALUES (:id, :title, NULL, 'en')", id=number, title=title)
    sync(engine)
    with serving.running(encoder(), engine=engine) as made:
        yield made


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(cross_encoders.save(tmp_path_factory.mktemp("reranker")))


def ask(client: httpx2.Client, **body: Any) -> httpx2.Response:
    return client.post("/search", json={"index": "article_semantic", "text": "harbour"} | body)


def found(client: httpx2.Client, **body: Any) -> list[dict[str, Any]]:
    response = ask(client, **body)
    assert response.status_code == 200, response.text
    hits: list[dict[str, Any]] = response.json()["hits"]
    return hits


def keys(client: httpx2.Client, **body: Any) -> list[int]:
    return [hit["key"]["id"] for hit in found(client, **body)]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_the_hits_are_those_of_a_searcher(client: httpx2.Client, engine: sa.Engine, mode: Any) -> None:
    with orm.Session(engine) as session:
        expected = Searcher(encoder()).search(session, Article.semantic, "harbour candle", limit=3, mode=mode)
    hits = found(client, text="harbour candle", limit=3, mode=mode)
    assert [(hit["key"], hit["score"], hit["passage"]) for hit in hits] == [
        ({"id": hit.entity.id}, pytest.approx(hit.score), hit.passage) for hit in expected
    ]
    assert [hit["headline"] for hit in hits] == [hit.entity.title for hit in expected]


def test_an_index_has_a_name_with_a_schema_too(client: httpx2.Client) -> None:
    assert keys(client, index="public.article_semantic", limit=2) == [1, 2]


def test_pages_follow_one_another(client: httpx2.Client) -> None:
    assert keys(client, limit=2, offset=2) == keys(client, limit=4)[2:]


@pytest.mark.parametrize("asked", [[2, 3], ["2", 3], [[2], ["3"]], [2, 3, 99]])
def test_only_rows_with_one_of_the_keys_are_found(client: httpx2.Client, asked: list[Any]) -> None:
    assert sorted(keys(client, keys=asked)) == [2, 3]


KEYS = {
    "uuid": ("uuid", "6F9619FF-8B86-D011-B42D-00C04FC964FF"),
    "bytea": ("bytea", r"\x00ff27"),
    "infinity": ("timestamptz", "-infinity"),
    "before_christ": ("date", "0044-03-15 BC"),
    "boolean": ("boolean", "false"),
    "enum": ("mood", "so-so"),
    "domain": ("tenant", "9007199254740993"),
    "decimal": ("numeric", "1.50"),
    "interval": ("interval", "-1 mon +2 days"),
    "address": ("inet", "fe80::1/64"),
    "list": ("text[]", '{a,"b, c"}'),
    "document": ("jsonb", '{"a": 1}'),
}


@pytest.fixture
def keyed(engine: sa.Engine) -> Iterator[httpx2.Client]:
    """A table for each kind of key, and one whose key has two columns."""
    execute(engine, "CREATE TYPE mood AS ENUM ('so-so', 'fine')")
    execute(engine, "CREATE DOMAIN tenant AS bigint")
    for name, (kind, value) in {**KEYS, "composite": ("bytea", r"\x0a")}.items():
        part = ", n bigint DEFAULT 7, PRIMARY KEY (n, id)" if name == "composite" else ", PRIMARY KEY (id)"
        execute(engine, f"CREATE TABLE {name} (id {kind}, words text{part})")
        execute(engine, f"INSERT INTO {name} (id, words) VALUES (CAST(:value AS {kind}), 'harbour')", value=value)
        with engine.connect() as connection:
            spec = create_index.describe(connection, name, columns=("words",), encoder=EncoderSpec(ENCODER, 32))
        create_index.create(engine, spec)
    sync(engine)
    with serving.running(encoder(), engine=engine) as made:
        yield made


def test_a_key_that_a_search_gives_is_one_that_a_search_takes(keyed: httpx2.Client) -> None:
    for name in [*KEYS, "composite"]:
        [hit] = found(keyed, index=f"{name}_semantic")
        key = hit["key"]
        again = [found(keyed, index=f"{name}_semantic", keys=[asked]) for asked in (key, list(key.values()))]
        assert [[one["key"] for one in hits] for hits in again] == [[key], [key]], name
        if len(key) == 1:
            assert found(keyed, index=f"{name}_semantic", keys=[key["id"]]) == [hit]
    assert found(keyed, index="composite_semantic")[0]["key"] == {"n": 7, "id": r"\x0a"}
    assert found(keyed, index="infinity_semantic")[0]["key"] == {"id": "-infinity"}


def test_a_key_with_other_columns_is_refused_with_those_that_there_are(keyed: httpx2.Client) -> None:
    for key in ({"id": r"\x0a"}, {"n": 7, "other": 1}, {}):
        refused = ask(keyed, index="composite_semantic", keys=[key])
        assert refused.status_code == 422
        assert "A key of this index has the columns n, id, not" in refused.text


def test_an_index_without_bm25_is_searched_by_vector_and_refuses_the_other_modes(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE note AS SELECT 1 AS id, 'harbour candle' AS words")
    execute(engine, "ALTER TABLE note ADD PRIMARY KEY (id)")
    with engine.connect() as connection:
        encoding = EncoderSpec(ENCODER, 32)
        spec = create_index.describe(connection, "note", columns=("words",), encoder=encoding, lexical=None)
    create_index.create(engine, spec)
    sync(engine)
    with serving.running(encoder(), engine=engine) as client:
        assert keys(client, index="note_semantic") == [1]
        for mode in ("lexical", "hybrid"):
            refused = ask(client, index="note_semantic", mode=mode)
            assert (refused.status_code, refused.headers.get("Retry-After")) == (422, None)
            assert "has no BM25" in refused.text
        asked = {"index": "note_semantic", "text": "harbour"}
        shown = client.get("/page/hits", params=asked, headers={"HX-Request": "true"})
        assert shown.status_code == 200, shown.text
        assert (shown.text.count("has no BM25"), shown.text.count("see Lexical")) == (1, 1)
        assert "harbour candle" in shown.text


def test_after_a_switch_to_other_columns_a_headline_comes_from_those(client: httpx2.Client, engine: sa.Engine) -> None:
    execute(engine, "UPDATE article SET lang = 'on ' || title")
    assert found(client, limit=1)[0]["headline"] == "harbour candle"
    live = generation_of(engine)
    generations.begin(engine, live, dataclasses.replace(live.spec, columns=("lang",)))
    sync(engine)
    generations.switch(engine, "article_semantic")
    assert found(client, limit=1)[0]["headline"] == "on harbour candle"


def test_no_key_means_no_row(client: httpx2.Client) -> None:
    assert keys(client, keys=[]) == []


@pytest.mark.parametrize(
    "key", ["abc", "99999999999999999999", "", "1; DROP TABLE article", "1' OR '1'='1", [1, 2], []]
)
def test_a_key_that_the_table_can_not_have_is_refused(client: httpx2.Client, engine: sa.Engine, key: Any) -> None:
    response = ask(client, keys=[key])
    assert response.status_code == 422, response.text
    assert "key" in response.json()["error"]["message"]
    assert rows(engine, "SELECT count(*) FROM article") == [(5,)]


NARROW_KEYS = {
    "date": "2020-13-45",
    "numeric": "x",
    "float8": "1e400",
    "int4range": "[5,2)",
    "interval": "99999999999999 years",
    "timestamptz": "2020-01-01 +99:99",
    "uuid": "x",
    "bytea": r"\xzz",
    "text[]": "{",
}


@pytest.mark.parametrize("kind", NARROW_KEYS)
def test_a_key_that_does_not_fit_its_type_is_the_fault_of_the_field_keys(engine: sa.Engine, kind: str) -> None:
    execute(engine, f"CREATE TABLE note (id {kind} PRIMARY KEY, words text)")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=EncoderSpec(ENCODER, 32))
    create_index.create(engine, spec)
    with serving.running(encoder(), engine=engine) as client:
        refused = ask(client, index="note_semantic", keys=[NARROW_KEYS[kind]])
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (422, "keys", "invalid_value")


@pytest.fixture
def under_a_broken_policy(engine: sa.Engine) -> Iterator[httpx2.Client]:
    """A service whose role lacks the setting that the policy of the table reads as a number."""
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO article VALUES (1, 'harbour', NULL, 'en')")
    role = "tenant_" + str(engine.url.database)[-8:]
    policy = "CREATE POLICY own ON article USING (id = CAST(current_setting('app.tenant') AS integer))"
    execute(engine, f"ALTER TABLE article ENABLE ROW LEVEL SECURITY; {policy}; CREATE ROLE {role} LOGIN")
    execute(engine, f"ALTER ROLE {role} SET app.tenant = 'of-nobody'; GRANT SELECT ON article TO {role}")
    sync(engine)
    dsn = engine.url.set(drivername="postgresql", username=role).render_as_string(hide_password=False)
    tenant = database.connect(dsn)
    try:
        with serving.running(encoder(), engine=tenant) as made:
            yield made
    finally:
        tenant.dispose()
        execute(engine, f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("asked", [{}, {"keys": [1]}])
def test_a_policy_that_fails_is_no_fault_of_the_request_and_its_value_is_not_logged(
    under_a_broken_policy: httpx2.Client, asked: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    response = ask(under_a_broken_policy, **asked)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (500, "database_error", None)
    assert "retry-after" not in response.headers
    [record] = [one for one in caplog.records if getattr(one, "event", None) == "rejected"]
    assert record.__dict__["sqlstate"] == "22P02"
    assert "of-nobody" not in caplog.text + response.text


def test_a_key_that_does_not_fit_is_refused_even_where_a_policy_fails(under_a_broken_policy: httpx2.Client) -> None:
    refused = ask(under_a_broken_policy, keys=["x"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "keys")


@pytest.mark.parametrize("between", ["", " ", " ( ", "|!&)"])
def test_a_word_may_not_be_negated_more_often_than_the_database_can_parse(client: httpx2.Client, between: str) -> None:
    asked = {"mode": "lexical", "match": "websearch"}
    assert ask(client, text="a or b " + ("-" + between) * 30 + "harbour", **asked).status_code == 200
    refused = ask(client, text=("-" + between) * 31 + "harbour", **asked)
    assert refused.status_code == 422
    assert "negated too often" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    "injected", ["'; DROP TABLE article; --", '"; DROP TABLE article; --', "harbour' OR true --", "%s %(a)s :b $1 \\"]
)
@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_sql_in_a_text_is_text_and_in_a_name_is_no_index(
    client: httpx2.Client, engine: sa.Engine, injected: str, mode: str
) -> None:
    assert ask(client, text=injected, mode=mode).status_code == 200
    assert ask(client, index=injected, mode=mode).status_code == 404
    assert rows(engine, "SELECT count(*) FROM article") == [(5,)]


@pytest.mark.parametrize("path", ["/v1/models/../../etc/passwd", "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/..%2f"])
def test_a_path_leads_to_no_file(client: httpx2.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert "root:" not in response.text


def test_a_session_of_a_request_can_not_write(client: httpx2.Client, engine: sa.Engine) -> None:
    async def write() -> None:
        indexes = IndexSearchers(engine, LoadedModels(Settings(), seen=lambda *_: None), statement_seconds=9)
        try:
            async with indexes.session() as session:
                await session.execute(sa.text("DELETE FROM article"))
        finally:
            await indexes.close()

    with pytest.raises(sa.exc.DBAPIError, match="read-only transaction"):
        asyncio.run(write())


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": ""},
        {"text": "a\0b"},
        {"text": "\U0010ffff" * 200_000},
        {"mode": "psychic"},
        {"limit": 0},
        {"limit": 1001},
        {"offset": -1},
        {"keys": [True]},
        {"keys": [None]},
        {"keys": list(range(1001))},
        {"rerank": True},
        {"rerank": True, "reranker": "other"},
    ],
)
def test_what_is_malformed_is_refused(client: httpx2.Client, wrong: dict[str, Any]) -> None:
    assert ask(client, **wrong).status_code == 422


def test_a_blank_query_is_called_a_query(client: httpx2.Client) -> None:
    assert ask(client, text=" ").json()["error"]["message"] == "The query is blank: fill it in."


def test_an_index_that_is_not_there_is_named_and_so_are_those_that_are(client: httpx2.Client) -> None:
    response = ask(client, index="other")
    assert response.status_code == 404
    assert "article_semantic" in response.json()["error"]["message"]


def test_an_index_that_was_dropped_is_not_found_and_is_when_it_is_made_again(
    client: httpx2.Client, engine: sa.Engine
) -> None:
    assert keys(client, limit=1) == [1]
    Base.metadata.drop_all(engine)
    assert ask(client).status_code == 404
    Base.metadata.create_all(engine)
    assert ask(client).json()["hits"] == []


class OfPapers(orm.DeclarativeBase): ...


class Paper(OfPapers):
    __tablename__ = "paper"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str]

    semantic = SemanticIndex("title", encoder=ENCODER, name="article_semantic")


class OfLeaflets(orm.DeclarativeBase): ...


class Leaflet(OfLeaflets):
    __tablename__ = "leaflet"

    code: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str]

    semantic = SemanticIndex("title", encoder=ENCODER, name="article_semantic")


@pytest.mark.parametrize(("other", "key"), [(Paper, "id"), (Leaflet, "code")])
def test_an_index_that_is_made_again_of_another_table_finds_rows_of_that_one(
    client: httpx2.Client, engine: sa.Engine, other: Any, key: str
) -> None:
    assert keys(client, limit=1) == [1]
    create_index.drop(engine, dataclasses.replace(Article.semantic.spec, schema="public"))
    other.metadata.create_all(engine)
    execute(engine, f"INSERT INTO {other.__tablename__} VALUES (1, 'glacier'), (77, 'harbour candle')")
    sync(engine)
    assert [hit["key"] for hit in found(client)] == [{key: 77}, {key: 1}]
    page = {"index": "article_semantic", "text": "harbour"}
    assert f"{key} 77" in client.get("/page/hits", params=page, headers={"HX-Request": "true"}).text


def test_a_deep_look_is_503_while_an_error_is_found_and_names_no_object(
    client: httpx2.Client, engine: sa.Engine
) -> None:
    well = client.get("/ready", params={"deep": 1})
    assert (well.status_code, well.json()) == (200, {"status": "ok", "findings": {}})
    execute(engine, "ALTER TABLE semantic.mark SET (autovacuum_enabled = false)")
    warned = client.get("/ready", params={"deep": 1})
    assert (warned.status_code, warned.json()) == (200, {"status": "degraded", "findings": {"autovacuum": 1}})
    execute(engine, "DROP TRIGGER article_semantic_capture_update ON article")
    ill = client.get("/ready", params={"deep": 1})
    assert (ill.status_code, ill.json()["findings"]) == (503, {"autovacuum": 1, "triggers": 1})
    assert "article" not in ill.text
    assert client.get("/ready").json() == {"status": "ok", "findings": None}


def test_a_database_that_is_away_is_said_to_be_with_a_hint_and_without_its_address(
    client: httpx2.Client, engine: sa.Engine
) -> None:
    assert client.get("/ready").status_code == 200
    name = engine.url.database
    administrator = sa.create_engine(engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.execute(sa.text(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false'))
        connection.execute(sa.text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
        for answer in (ask(client), client.get("/ready"), client.get("/info")):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "Try again" in answer.json()["error"]["message"]
            assert str(name) not in answer.text
        assert client.get("/health").status_code == 200
        body = {"model": "hashed:32", "input": "tea"}
        assert client.post("/v1/embeddings", json=body).status_code == 200
        assert "pg_semantic_database_up 0.0" in client.get("/metrics").text
        connection.execute(sa.text(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true'))
    administrator.dispose()
    assert keys(client, limit=1) == [1]
    assert client.get("/ready").status_code == 200


def test_what_is_served_and_what_is_stored_are_told_by_fingerprint(client: httpx2.Client) -> None:
    info = client.get("/info").json()
    [index], [served] = info["indexes"], info["encoders"]
    assert index == {
        "name": "public.article_semantic",
        "generation": "live",
        "encoder": "hashed:32",
        "dimensions": 32,
        "fingerprint": encoder().fingerprint,
    }
    assert served["fingerprint"] == encoder().fingerprint


def test_no_figure_is_there_twice_for_one_name_in_two_schemas(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    execute(engine, "CREATE SCHEMA elsewhere")
    elsewhere = sa.MetaData(schema="elsewhere")
    Article.metadata.tables["article"].to_metadata(elsewhere).create(engine)
    spec = dataclasses.replace(Article.semantic.spec, schema="elsewhere", encoder=EncoderSpec("hashed:16", 16))
    create_index.create(engine, spec)
    with serving.running(encoder(), engine=engine) as client:
        figures = [line.rpartition(" ")[0] for line in client.get("/metrics").text.splitlines()]
    assert 'pg_semantic_jobs_failed{generation="live",index="elsewhere.article_semantic"}' in figures
    series = [line for line in figures if line.startswith("pg_semantic_")]
    assert len(series) == len(set(series))


def test_texts_that_wait_are_counted_once_for_an_encoder_of_two_lengths() -> None:
    of_two_lengths: list[Any] = [types.SimpleNamespace(reference="an encoder", waiting=texts) for texts in (3, 4)]
    figures = Metrics()
    figures.watch_queues(lambda: of_two_lengths)
    lines = generate_latest(figures.registry).decode().splitlines()
    assert [line for line in lines if line.startswith("pg_semantic_queue")] == [
        'pg_semantic_queue_texts{encoder="an encoder"} 7.0'
    ]


def test_figures_say_how_true_each_index_is_and_are_kept_for_a_while(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 4) AS i")
    sync(engine)
    execute(engine, "INSERT INTO article VALUES (5, 'waits', NULL, 'en')")
    with serving.running(encoder(), engine=engine, service_status_seconds=3600) as client:
        figures = client.get("/metrics").text.splitlines()
        execute(engine, "INSERT INTO article VALUES (6, 'waits', NULL, 'en')")
        again = client.get("/metrics").text.splitlines()
    labels = '{generation="live",index="public.article_semantic"}'
    for name, value in (("jobs_pending", 1.0), ("jobs_processing", 0.0), ("jobs_failed", 0.0), ("coverage_ratio", 0.8)):
        line = f"pg_semantic_{name}{labels} {value}"
        assert line in figures
        assert line in again
    [lag] = [line for line in figures if line.startswith(f"pg_semantic_lag_seconds{labels}")]
    assert float(lag.rpartition(" ")[2]) > 0


def test_a_switch_to_another_encoder_is_followed_and_that_one_is_served_too(
    client: httpx2.Client, engine: sa.Engine
) -> None:
    assert keys(client, limit=1) == [1]
    live = generation_of(engine)
    generations.begin(engine, live, dataclasses.replace(live.spec, encoder=EncoderSpec("hashed:64", 64)))
    sync(engine)
    generations.switch(engine, "article_semantic")

    def both_are_served() -> bool:
        assert keys(client, limit=1) == [1]  # searches go on while it is loaded
        return [one["id"] for one in client.get("/v1/models").json()["data"]] == ["hashed:32", "hashed:64"]

    eventually(both_are_served, "the other encoder to be served")
    other = encoders.load("hashed:64")
    [similarity] = other.encode_queries(["glacier"]) @ other.encode_documents(["glacier pepper"])[0]
    hits = found(client, text="glacier", limit=1)
    assert hits[0]["score"] == pytest.approx(float(similarity), abs=0.001)


def test_documents_are_ranked_as_the_reranker_does_for_coheres_client_too(reranker: str) -> None:
    documents = [*TITLES, "harbour"]
    scores = rerankers.load(reranker).score("harbour candle", documents)
    expected = sorted(range(len(documents)), key=lambda number: -float(scores[number]))[:3]
    with serving.running(rerankers=(reranker,)) as client, httpx.Client() as connections:
        plain = client.post("/rerank", json={"query": "harbour candle", "documents": documents, "top_n": 3}).json()
        address = str(client.base_url).rstrip("/")
        official = cohere.ClientV2(api_key="none", base_url=address, httpx_client=connections).rerank(
            model=reranker, query="harbour candle", documents=documents, top_n=3
        )
        refused = [
            client.post("/rerank", json={"query": "tea", "documents": wrong}).status_code for wrong in ([], [""], [1])
        ]
        unknown = client.post("/rerank", json={"query": "tea", "documents": ["a"], "model": "other"}).status_code
    assert [one["index"] for one in plain["results"]] == [one.index for one in official.results] == expected
    assert [one.relevance_score for one in official.results] == pytest.approx([float(scores[n]) for n in expected])
    assert refused == [422, 422, 422]
    assert unknown == 422


def test_a_field_that_is_null_is_one_that_was_left_out(client: httpx2.Client, reranker: str) -> None:
    plain = {"index": "article_semantic", "text": "harbour"}
    nulls = dict.fromkeys(("mode", "limit", "offset", "keys", "rerank", "reranker", "depth"))
    assert client.post("/search", json=plain | nulls).json() == client.post("/search", json=plain).json()
    body = {"query": "tea", "documents": ["tea", "coffee"]}
    further = {"top_n": None, "return_documents": None, "max_tokens_per_doc": 4096, "priority": 0}
    with serving.running(rerankers=(reranker,)) as other:
        found, expected = (other.post("/rerank", json=given).json()["results"] for given in (body | further, body))
    assert found == expected


def test_a_search_is_reranked(engine: sa.Engine, reranker: str) -> None:
    Base.metadata.create_all(engine)
    for number, title in enumerate(TITLES, start=1):
        execute(engine, "INSERT INTO article VALUES (:id, :title, NULL, 'en')", id=number, title=title)
    sync(engine)
    scores = rerankers.load(reranker).score("harbour candle", TITLES)
    with serving.running(encoder(), engine=engine, rerankers=(reranker,)) as client:
        hits = found(client, text="harbour candle", rerank=True)
    assert [hit["key"]["id"] for hit in hits] == sorted(range(1, 6), key=lambda number: -float(scores[number - 1]))
    assert hits[0]["scores"]["rerank"] == pytest.approx(float(max(scores)))


def test_a_search_that_the_database_does_not_answer_is_given_up(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    sync(engine)
    with serving.running(encoder(), engine=engine, service_statement_seconds=0.2) as client, engine.begin() as busy:
        assert ask(client).status_code == 200
        busy.execute(sa.text("LOCK TABLE article"))
        refused = ask(client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "database_timeout")
    assert "PG_SEMANTIC_SERVICE_STATEMENT_SECONDS" in refused.json()["error"]["message"]
