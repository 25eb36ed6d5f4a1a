"""Generations: a changed copy is built beside the live one, they change places, and back."""

import dataclasses
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import Chunking, Hnsw, Lexical, Searcher, encoders, errors, generations, search
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.generations import lifecycle
from pg_semantic.index import declare
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index, repair, verify
from tests.db import copies
from tests.db.copies import NAME, OTHER, TEXTS, all_of, begin, switched
from tests.db.library import Article, Base, encoder, execute, generation_of, jobs, rows, sync
from tests.waiting import eventually

fill = copies.fill  # for the fixture filled


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    """Five rows, with their vectors."""
    return filled


def is_clean(engine: sa.Engine) -> bool:
    reports = [verify.verify(engine, one) for one in all_of(engine).values()]
    return all(report.clean and not report.waiting for report in reports)


def found(engine: sa.Engine, text: str, searcher: Searcher | None = None) -> list[Any]:
    with Session(engine) as session:
        hits = (searcher or Searcher(encoder())).search(session, Article.semantic, text, limit=2)
        return [hit.entity.id for hit in hits]


def names_of(engine: sa.Engine) -> set[str]:
    statement = "SELECT relname FROM pg_class WHERE relname LIKE 'article\\_semantic%'"
    return {name for (name,) in rows(engine, statement)}


def test_a_copy_that_a_view_reads_is_kept_and_the_message_names_the_view(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    execute(synced, f"CREATE VIEW mine AS SELECT id FROM {NAME}__next")
    with pytest.raises(
        errors.DatabaseError, match=r"view public\.mine depends on table .*Drop or change what"
    ) as refused:
        generations.drop(synced, NAME, "next", grace_seconds=0)
    assert "CASCADE" not in str(refused.value)
    execute(synced, "DROP VIEW mine")
    generations.drop(synced, NAME, "next", grace_seconds=0)


CHANGES: dict[str, dict[str, Any]] = {
    "another encoder": {"encoder": OTHER},
    "other columns": {"columns": ("title", "body", "lang")},
    "fewer columns": {"columns": ("title",)},
    "other chunks": {"chunking": Chunking(max_tokens=8)},
    "one chunk": {"chunking": None},
    "another storage": {"storage": "vector"},
    "another encoder and storage": {"encoder": OTHER, "storage": "vector"},
    "another graph": {"hnsw": Hnsw(m=8, ef_construction=32)},
    "another language": {"lexical": Lexical("german")},
    "no words": {"lexical": None},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_is_built_beside_and_switched_to_and_back(synced: sa.Engine, changes: dict[str, Any]) -> None:
    before, names = generation_of(synced).spec, names_of(synced)
    begin(synced, **changes)
    assert found(synced, "harbour candle")[0] == 0
    sync(synced)
    assert is_clean(synced)
    generations.switch(synced, NAME)
    assert {role: one.spec for role, one in all_of(synced).items()} == {
        "live": dataclasses.replace(before, **changes),
        "previous": before,
    }
    assert found(synced, "meadow engine")[0] == 1
    execute(synced, "UPDATE article SET title = 'walnut' WHERE id = 2")
    sync(synced)
    assert is_clean(synced)
    generations.rollback(synced, NAME)
    assert generation_of(synced).spec == before
    assert found(synced, "walnut")[0] == 2
    generations.drop(synced, NAME, "next", grace_seconds=0)
    assert is_clean(synced)
    assert names_of(synced) == names


def test_the_names_of_a_generation_are_those_that_its_role_has(synced: sa.Engine) -> None:
    names = names_of(synced)
    begin(synced, encoder=OTHER)
    sync(synced)
    both = names_of(synced)
    assert {name for name in both if "__next" not in name} == names
    assert {name.replace("__next", "") for name in both} == names
    generations.switch(synced, NAME)
    assert names_of(synced) == {name.replace("__next", "__previous") for name in both}


def test_vectors_of_an_equal_encoder_are_used_again(synced: sa.Engine) -> None:
    begin(synced, lexical=Lexical("simple"), hnsw=Hnsw(m=8))
    assert sync(synced).chunks_encoded == 0
    assert is_clean(synced)


def test_vectors_of_another_storage_are_not(synced: sa.Engine) -> None:
    begin(synced, storage="vector")
    assert sync(synced).chunks_encoded == len(TEXTS)


def test_an_edit_of_a_column_of_either_generation_is_marked(synced: sa.Engine) -> None:
    begin(synced, columns=("lang",))
    sync(synced)
    for column in ("title", "lang"):
        execute(synced, f"UPDATE article SET {column} = 'new' WHERE id = 3")
        assert jobs(synced) == {"3"}
        sync(synced)
    execute(synced, "UPDATE article SET id = id")
    assert jobs(synced) == set()
    generations.drop(synced, NAME, "next", grace_seconds=0)
    execute(synced, "UPDATE article SET lang = 'newer'")
    assert jobs(synced) == set()


def test_an_edit_that_is_not_committed_as_a_copy_is_begun_is_in_it(synced: sa.Engine) -> None:
    with ThreadPoolExecutor(1) as threads:
        with synced.begin() as writer:
            writer.execute(sa.text("UPDATE article SET title = 'walnut' WHERE id = 1"))
            begun = threads.submit(begin, synced, encoder=OTHER)
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'"
            eventually(lambda: rows(synced, waiting) == [(1,)], "begin to wait for the writer", unless=begun.done)
        begun.result()
    sync(synced)
    assert is_clean(synced)
    generations.switch(synced, NAME)
    assert found(synced, "walnut")[0] == 1


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_an_edit_in_a_transaction_that_is_older_than_a_copy_is_in_it(synced: sa.Engine, isolation: str) -> None:
    old = synced.execution_options(isolation_level=isolation)
    with old.begin() as writer:
        writer.execute(sa.text("SELECT count(*) FROM article"))  # takes the snapshot
        begin(synced, columns=("lang",))
        writer.execute(sa.text("UPDATE article SET lang = 'walnut' WHERE id = 1"))
        assert rows(synced, "SELECT count(*) FROM semantic.mark") == [(0,)]
    assert rows(synced, "SELECT generation_id, key FROM semantic.mark ORDER BY 1") == [(1, "1"), (2, "1")]


def test_capture_that_is_mended_knows_the_columns_of_every_generation(synced: sa.Engine) -> None:
    begin(synced, columns=("lang",))
    sync(synced)
    execute(synced, "DROP FUNCTION article_semantic_capture CASCADE")
    repair.repair(synced, generation_of(synced))
    sync(synced)  # what came past it is looked for
    execute(synced, "UPDATE article SET lang = 'new' WHERE id = 1")
    execute(synced, "UPDATE article SET title = 'new' WHERE id = 2")
    assert jobs(synced) == {"1", "2"}


def unready(engine: sa.Engine) -> str:
    with pytest.raises(errors.GenerationError) as refusal:
        generations.switch(engine, NAME)
    return str(refusal.value)


def test_a_switch_is_refused_until_all_rows_are_current(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    assert "the backfill is not complete" in unready(synced)
    sync(synced)
    execute(synced, "DELETE FROM semantic.chunks_2 WHERE id = 1")
    execute(synced, "DELETE FROM semantic.receipts_2 WHERE id = 1")
    assert "80.00% of 5 rows are current, not 100.00%" in unready(synced)
    generations.switch(synced, NAME, least=0.8)
    assert generation_of(synced).spec.encoder == OTHER


def test_a_switch_is_refused_while_a_row_has_failed(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    sync(synced)
    execute(synced, "UPDATE article SET title = 'new' WHERE id = 1")
    execute(synced, "DELETE FROM semantic.mark")
    execute(synced, "INSERT INTO semantic.job (generation_id, key, state) VALUES (2, '1', 'failed')")
    assert "failed rows: 1" in unready(synced)


def test_a_switch_is_refused_without_its_indexes_unless_it_is_forced(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    sync(synced)
    execute(synced, "DROP INDEX article_semantic__next_vector_idx")
    assert "not built yet: article_semantic__next_vector_idx" in unready(synced)
    generations.switch(synced, NAME, force=True)


def test_edits_of_the_last_minute_do_not_hold_a_switch_up(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    sync(synced)
    execute(synced, "UPDATE article SET title = 'new' WHERE id = 1")
    assert generations.coverage(synced, all_of(synced)["next"]).share == 1
    execute(synced, "UPDATE semantic.mark SET marked_at = now() - interval '2 minutes'")
    assert generations.coverage(synced, all_of(synced)["next"]).share == 0.8


DAMAGED = "rows with damaged, wrong or orphaned vectors: 1"
OUT_OF_DATE = "80.00% of 5 rows are current"
NEXT, LIVE = "UPDATE article_semantic__next_receipt SET", "UPDATE article_semantic_receipt SET"
FAULTS = {
    "lexemes": ([f"{NEXT} lexemes = 'wrong'"], DAMAGED),
    "lexemes of another text": ([f"{NEXT} lexemes = 'a'", f"{LIVE} lexemes = 'a', source_hash = sha256('a')"], DAMAGED),
    "chunk": (["UPDATE article_semantic__next SET content = 'wrong'"], DAMAGED),
    "no chunk": (["DELETE FROM article_semantic__next"], DAMAGED),
    "no receipt": (["DELETE FROM article_semantic__next_receipt"], OUT_OF_DATE),
    "stale": (["UPDATE article SET title = 'unseen'"], OUT_OF_DATE),
    "stale in both": ([f"{NEXT} source_hash = sha256('a')", f"{LIVE} source_hash = sha256('a')"], OUT_OF_DATE),
}


@pytest.mark.parametrize(("statements", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_switch_finds_every_fault_in_a_copy_whose_vectors_were_copied(
    synced: sa.Engine, statements: list[str], reason: str
) -> None:
    begin(synced, hnsw=Hnsw(m=8))
    sync(synced)
    for statement in statements:
        execute(synced, f"{statement} WHERE id = 1")
    execute(synced, "DELETE FROM semantic.mark")
    assert reason in unready(synced)


@pytest.mark.parametrize(
    ("changes", "computed"),
    [
        ({"hnsw": Hnsw(m=8)}, 0),
        ({"encoder": OTHER}, 0),
        ({"lexical": Lexical("simple")}, 5),
        ({"columns": ("title",)}, 5),
    ],
    ids=["vector index", "encoder", "language", "columns"],
)
def test_before_a_switch_lexemes_are_computed_only_if_the_live_copy_has_others(
    synced: sa.Engine, changes: dict[str, Any], computed: int
) -> None:
    begin(synced, **changes)
    sync(synced)
    calls = "SELECT coalesce(sum(calls), 0)::int FROM pg_stat_user_functions WHERE funcname = 'lexemes_v1'"
    database = synced.url.database
    execute(synced, f"ALTER DATABASE \"{database}\" SET track_functions = 'all'")
    synced.dispose()
    before = rows(synced, calls)[0][0]
    generations.switch(synced, NAME)
    synced.dispose()  # a server process reports its counts when it ends
    eventually(lambda: rows(synced, calls)[0][0] - before == computed, "the counts")


STEPS: dict[str, tuple[Callable[[sa.Engine], object], str]] = {
    "switch": (lambda engine: generations.switch(engine, NAME), "has no next generation; it has: live"),
    "rollback": (lambda engine: generations.rollback(engine, NAME), "has no previous generation; it has: live"),
    "drop": (lambda engine: generations.drop(engine, NAME, "next", grace_seconds=0), "has no next generation"),
    "drop live": (lambda engine: generations.drop(engine, NAME, "live"), "index drop"),
}


@pytest.mark.parametrize(("step", "reason"), STEPS.values(), ids=STEPS)
def test_a_step_without_its_generation_is_refused(
    synced: sa.Engine, step: Callable[[sa.Engine], object], reason: str
) -> None:
    with pytest.raises(errors.GenerationError, match=reason):
        step(synced)


def test_a_second_next_is_refused(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    with pytest.raises(errors.GenerationError, match=r"generation drop public\.article_semantic next"):
        begin(synced, chunking=None)


def test_a_change_to_what_is_there_is_refused(synced: sa.Engine) -> None:
    with pytest.raises(errors.DeclarationError, match="nothing to change"):
        begin(synced)


def test_a_language_that_the_server_does_not_know_leaves_nothing(synced: sa.Engine) -> None:
    names = names_of(synced)
    with pytest.raises(errors.DatabaseError, match="klingon"):
        begin(synced, lexical=Lexical("klingon"))
    assert names_of(synced) == names


def test_a_switch_waits_for_the_one_before_to_be_dropped(synced: sa.Engine) -> None:
    switched(synced, encoder=OTHER)
    begin(synced, chunking=None)
    sync(synced)
    with pytest.raises(errors.GenerationError, match=r"already has a previous generation\. Drop it first: .*previous"):
        generations.switch(synced, NAME)
    assert is_clean(synced)
    generations.drop(synced, NAME, "previous", grace_seconds=0)
    generations.switch(synced, NAME)
    assert is_clean(synced)


def test_a_dropped_index_takes_all_generations_with_it(synced: sa.Engine) -> None:
    switched(synced, encoder=OTHER)
    begin(synced, chunking=None)
    Base.metadata.drop_all(synced)
    assert names_of(synced) == set()
    for table in ("generation", "semantic_index", "encoder", "job", "mark"):
        assert rows(synced, f"SELECT count(*) FROM semantic.{table}") == [(0,)]
    assert rows(synced, "SELECT count(*) FROM pg_views WHERE viewname LIKE 'chunks%'") == [(0,)]


def test_a_statement_with_a_vector_of_another_encoder_is_refused_by_both_names(synced: sa.Engine) -> None:
    switched(synced, encoder=OTHER)
    vector = encoder().encode_queries(["harbour"])[0]
    statements = (
        search.knn(Article.semantic, vector),
        search.exact(Article.semantic, vector),
        search.hybrid(Article.semantic, vector, "harbour"),
        sa.select(Article.semantic.distance(vector)),
    )
    for statement in statements:
        with Session(synced) as session, pytest.raises(sa.exc.DBAPIError, match=r"hashed:48 \(48.*hashed:32 \(32"):
            session.execute(statement).all()


def test_a_searcher_that_may_not_follow_refuses_by_both_names(synced: sa.Engine) -> None:
    switched(synced, encoder=OTHER)
    with pytest.raises(errors.EncoderMismatch, match=r"hashed:48.*hashed:32"):
        found(synced, "harbour", Searcher(encoder(), follow=False))


def test_a_searcher_with_the_encoder_that_is_to_come_searches_with_the_live_one(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    assert found(synced, "harbour candle", Searcher(encoders.load("hashed:48")))[0] == 0


@pytest.mark.parametrize("fresh_seconds", [0.0, 60.0])
def test_a_searcher_goes_on_with_the_one_before_while_it_follows(
    synced: sa.Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fresh_seconds: float
) -> None:
    searcher = Searcher(encoder())
    searcher._algorithm.tracker.fresh_seconds = fresh_seconds
    assert found(synced, "harbour candle", searcher)[0] == 0
    switched(synced, encoder=OTHER)

    def fails(*_: object, **__: object) -> None:
        raise errors.EncoderError("nowhere to be found")

    monkeypatch.setattr(encoders, "load", fails)
    with caplog.at_level(logging.ERROR, "pg_semantic.search"):
        assert found(synced, "harbour candle", searcher)[0] == 0
    execute(synced, "UPDATE article SET title = 'walnut' WHERE id = 4")
    monkeypatch.undo()
    sync(synced)
    assert found(synced, "walnut", searcher)[0] == 4


def test_examples_that_are_rows_follow_and_vectors_do_not(synced: sa.Engine) -> None:
    searcher = Searcher(encoder())
    switched(synced, encoder=OTHER)
    with Session(synced) as session:
        rows_ = searcher.search(session, Article.semantic, Article.semantic.similar_to(positive=[0]), limit=4)
        assert len(rows_) == 4
        vector = encoder().encode_queries(["harbour"])[0]
        with pytest.raises(errors.EncoderMismatch, match=r"hashed:48.*hashed:32"):
            searcher.search(session, Article.semantic, Article.semantic.similar_to(positive=[vector]))


def test_knowledge_that_is_old_is_confirmed_before_a_generation_is_asked(synced: sa.Engine) -> None:
    searcher = Searcher(encoder())
    assert found(synced, "harbour candle", searcher)[0] == 0
    switched(synced, encoder=OTHER)
    generations.drop(synced, NAME, "previous", grace_seconds=0)
    searcher._algorithm.tracker.fresh_seconds = 0.0
    assert found(synced, "harbour candle", searcher)[0] == 0


def test_a_transaction_that_is_older_than_a_switch_finds_what_it_would_have_found(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    sync(synced)
    later = Searcher(encoders.load(OTHER.reference))
    old = synced.execution_options(isolation_level="REPEATABLE READ")
    with Session(old) as session:
        session.execute(sa.select(sa.func.count()).select_from(Article)).all()  # takes the snapshot
        execute(synced, "UPDATE article SET title = 'walnut' WHERE id < 4")
        sync(synced)
        generations.switch(synced, NAME)
        assert len(found(synced, "walnut", later)) == 2
        for searcher in (Searcher(encoder()), later):
            for text in TEXTS:
                hits = searcher.search(session, Article.semantic, text, limit=5)
                assert len(hits) == 5
                assert hits[0].entity.title == text


def test_a_rollback_may_give_up_what_is_being_built(synced: sa.Engine) -> None:
    before = generation_of(synced).spec
    switched(synced, encoder=OTHER)
    begin(synced, chunking=None)
    with pytest.raises(errors.GenerationError, match="already has a next generation"):
        generations.rollback(synced, NAME)
    generations.rollback(synced, NAME, drop_next=True)
    assert {role: one.spec.encoder for role, one in all_of(synced).items()} == {"live": before.encoder, "next": OTHER}
    assert is_clean(synced)


def test_a_bulk_edit_holds_a_switch_up_whenever_it_was(synced: sa.Engine) -> None:
    execute(synced, "INSERT INTO article SELECT i, md5(i::text), NULL, 'en' FROM generate_series(100, 399) AS i")
    begin(synced, encoder=OTHER)
    sync(synced)
    execute(synced, "UPDATE article SET title = title || ' new'")
    assert generations.coverage(synced, all_of(synced)["next"]).current == 100


def test_who_may_use_the_live_copy_may_use_the_other(synced: sa.Engine) -> None:
    execute(synced, "CREATE ROLE semantic_reader")
    try:
        for table in ("article", "article_semantic", "article_semantic_receipt"):
            execute(synced, f"GRANT SELECT ON {table} TO semantic_reader")
        switched(synced, encoder=OTHER)
        with Session(synced) as session:
            session.execute(sa.text("SET LOCAL ROLE semantic_reader"))
            for mode in ("dense", "lexical", "hybrid"):
                assert Searcher(encoder()).search(session, Article.semantic, "harbour", mode=mode)
    finally:
        execute(synced, "DROP OWNED BY semantic_reader")
        execute(synced, "DROP ROLE semantic_reader")


def test_a_step_whose_generation_somebody_else_was_at_is_refused(
    synced: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(synced, encoder=OTHER)
    sync(synced)
    chosen = all_of(synced)["next"]
    generations.drop(synced, NAME, "next", grace_seconds=0)
    begin(synced, chunking=None)
    monkeypatch.setattr(lifecycle, "find", lambda *_: chosen)
    with pytest.raises(errors.GenerationError, match="is no longer next"):
        generations.switch(synced, NAME, force=True)
    with pytest.raises(errors.GenerationError):
        generations.drop(synced, NAME, "next", grace_seconds=0)
    assert [one.id for one in all_of(synced).values()] == [1, 3]


def test_a_searcher_that_asked_before_there_were_vectors_follows_what_they_are_of(articles: sa.Engine) -> None:
    class Alike(HashedEncoder):
        """Its vectors are as long, and not the same."""

        reference = "alike"
        fingerprint = "of another"

    searcher = Searcher(Alike(32))
    assert found(articles, "harbour", searcher) == []
    execute(articles, "INSERT INTO article (id, title, lang) VALUES (1, 'harbour', 'en'), (2, 'meadow', 'en')")
    sync(articles)
    assert found(articles, "harbour", searcher)[0] == 1


@pytest.mark.parametrize("how", ["search_path", "schema_translate_map"])
def test_tenants_in_schemas_of_their_own_never_see_each_others_vectors(engine: sa.Engine, how: str) -> None:
    searcher = Searcher(encoder())
    tenants = {"one": ("harbour one", "meadow one"), "two": ("meadow two", "harbour two")}
    for tenant, texts in tenants.items():
        execute(engine, f"CREATE SCHEMA {tenant}")
        with engine.connect().execution_options(schema_translate_map={None: tenant}) as connection:
            connection.execute(sa.text(f"SET search_path = {tenant}, public"))
            Base.metadata.create_all(connection)
            connection.execute(sa.insert(Article), [{"id": i, "title": text} for i, text in enumerate(texts)])
            connection.commit()
    sync(engine)
    live = generation_of(engine, "two.article_semantic")
    generations.begin(engine, live, dataclasses.replace(live.spec, encoder=OTHER))
    sync(engine)
    generations.switch(engine, "two.article_semantic")
    for tenant in ("one", "two", "one", "two"):
        options = {"schema_translate_map": {None: tenant}} if how == "schema_translate_map" else {}
        with Session(engine.execution_options(**options)) as session:
            if how == "search_path":
                session.execute(sa.text(f"SET LOCAL search_path = {tenant}, public"))
            hits = searcher.search(session, Article.semantic, "harbour", limit=1)
            assert [(hit.entity.title, hit.passage) for hit in hits] == [(f"harbour {tenant}", f"harbour {tenant}")]
            if tenant == "one":
                by_hand = session.execute(search.knn(Article.semantic, encoder().encode_queries(["harbour"])[0])).all()
                assert by_hand[0][0].title == "harbour one"


def test_names_that_need_quotes_change_places_too(engine: sa.Engine) -> None:
    name = 'It\'s "100%s" %I'
    execute(engine, """CREATE TABLE "A %d 'b'" ("no %" text PRIMARY KEY, "text" text)""")
    with engine.connect() as connection:
        spec = create_index.describe(
            connection, "A %d 'b'", columns=("text",), encoder=EncoderSpec("hashed:32", 32), name=name
        )
    create_index.create(engine, spec)
    execute(engine, """INSERT INTO "A %d 'b'" VALUES ('a%', 'harbour'), ('b', 'meadow')""")
    sync(engine)
    live = generation_of(engine, name)
    generations.begin(engine, live, dataclasses.replace(live.spec, encoder=OTHER))
    sync(engine)
    generations.switch(engine, name)
    execute(engine, """UPDATE "A %d 'b'" SET "text" = 'walnut' WHERE "no %" = 'b'""")
    sync(engine)
    assert is_clean(engine)
    with Session(engine) as session:
        index = declare.bind(generation_of(engine, name).spec)
        assert Searcher(encoder()).search(session, index, "walnut", limit=1)[0].passage == "walnut"
    generations.rollback(engine, name)
    assert is_clean(engine)


def test_disk_use_is_estimated_before_it_is_spent(synced: sa.Engine) -> None:
    live = generation_of(synced)
    wide = dataclasses.replace(live.spec, encoder=EncoderSpec("hashed:96", 96), storage="vector")
    spent = generations.disk(synced, live, wide)
    [(built,)] = rows(synced, f"SELECT pg_relation_size('{NAME}_vector_idx')")
    copied = spent.build.index_bytes - built
    assert spent.other - spent.live == len(TEXTS) * (96 * 4 - 32 * 2) + copied
    generations.begin(synced, live, wide)
    sync(synced)
    sizes = "SELECT pg_relation_size(:name)"
    assert rows(synced, sizes, name=f"{NAME}__next_vector_idx") == [(spent.build.index_bytes,)]
