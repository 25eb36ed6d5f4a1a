"""A recall objective: measured by a worker, kept by raising ef_search, followed by searches, shown to operators."""

import dataclasses
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client import generate_latest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from pg_semantic import Searcher, cli, database, errors, generations, search, sql, tuning
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index, doctor
from pg_semantic.recall import objective, store
from pg_semantic.recall.store import KeptRecall
from pg_semantic.search import Options
from pg_semantic.service.metrics import Metrics
from pg_semantic.settings import Settings
from pg_semantic.worker import privileges, recall_watcher
from pg_semantic.worker.recall_watcher import RecallWatcher
from pg_semantic.worker.worker import Worker
from tests.db.library import Article, encoder, execute, generation_of, rows, sync
from tests.db.releases import article
from tests.waiting import eventually


@pytest.fixture
def library(many_articles: sa.Engine) -> Iterator[sa.Engine]:
    """Four thousand synced rows. What a test keeps of the recall is forgotten."""
    yield many_articles
    want(many_articles, None)
    execute(many_articles, "DELETE FROM semantic.recall; DELETE FROM semantic.recall_sample")


def want(engine: sa.Engine, wanted: float | None) -> None:
    """Sets the objective."""
    create_index.set_recall_objective(engine, generation_of(engine).spec, wanted)


def use(engine: sa.Engine, ef_search: int) -> None:
    """Makes searches use a value that no one has measured."""
    execute(
        engine,
        "INSERT INTO semantic.recall (generation_id, ef_search) SELECT id, :value FROM semantic.generation "
        "WHERE role = 'live' ON CONFLICT (generation_id) DO UPDATE SET ef_search = excluded.ef_search",
        value=ef_search,
    )


def measure(engine: sa.Engine, *, seconds: float = 60.0) -> bool:
    """Lets a worker measure what is due, which everything is."""
    execute(engine, "UPDATE semantic.recall SET measure_at = now()")
    return RecallWatcher(engine, seconds=seconds).step()


def plant(engine: sa.Engine, *, ef_search: int, queries: int, recall: float) -> None:
    """Adds what a worker would have measured."""
    execute(
        engine,
        "INSERT INTO semantic.recall_sample (generation_id, ef_search, queries, found, expected) "
        "SELECT id, :ef_search, :queries, :found, :queries * 10 FROM semantic.generation WHERE role = 'live'",
        ef_search=ef_search,
        queries=queries,
        found=round(recall * queries * 10),
    )


def kept(engine: sa.Engine) -> KeptRecall:
    """What is known of the live generation."""
    with engine.connect() as connection:
        return store.read(connection)[generation_of(engine).id]


def used(engine: sa.Engine, **given: Any) -> int:
    """The ef_search that a search by a searcher used."""
    with Session(engine) as session:
        Searcher(encoder()).search(session, Article.semantic, "harbour candle", **given)
        return int(session.scalar(sa.text("SHOW hnsw.ef_search")) or 0)


def test_an_index_without_an_objective_is_not_measured(library: sa.Engine) -> None:
    assert not measure(library)
    assert rows(library, "SELECT * FROM semantic.recall") == []


def test_a_worker_measures_stored_vectors_once_per_interval(library: sa.Engine) -> None:
    want(library, 0.95)
    assert measure(library)
    known = kept(library)
    assert (known.queries, known.objective, known.ef_search, known.problem) == (20, 0.95, 100, None)
    assert known.recall is not None
    assert known.recall > 0.9
    assert rows(library, "SELECT DISTINCT expected FROM semantic.recall_sample") == [(200,)]
    assert not RecallWatcher(library, seconds=60).step()
    measure(library)
    assert kept(library).queries == 40


def test_each_measurement_has_other_queries(library: sa.Engine) -> None:
    """At a low ef_search, the number that is found depends on the queries."""
    want(library, 0.01)
    use(library, 8)
    for _ in range(8):
        measure(library)
    assert len(rows(library, "SELECT DISTINCT found FROM semantic.recall_sample")) > 1


def test_a_miss_raises_ef_search_by_one_step_per_measurement(library: sa.Engine) -> None:
    """A scan with ef_search = 5 finds the vector itself and four others of ten, or a few more if rows are equal."""
    want(library, 0.95)
    use(library, 5)
    measure(library)
    [(ef_search, queries, found)] = rows(library, "SELECT ef_search, queries, found FROM semantic.recall_sample")
    assert (ef_search, queries) == (5, 20)
    assert 80 <= found < 100
    assert kept(library).ef_search == 16
    assert kept(library).recall is None  # not measured with this value
    use(library, 6)
    measure(library)
    assert kept(library).ef_search == 16


def test_far_above_the_objective_ef_search_is_lowered_to_the_default_and_no_further(library: sa.Engine) -> None:
    want(library, 0.3)
    use(library, 200)
    path = []
    for _ in range(6):
        measure(library)
        path.append(kept(library).ef_search)
    assert path[-1] == objective.DEFAULT_EF_SEARCH
    assert path == sorted(path, reverse=True)
    assert set(path) <= set(objective.STEPS)


def test_what_someone_chose_meanwhile_is_not_changed(library: sa.Engine) -> None:
    want(library, 0.95)
    use(library, 5)
    watcher = RecallWatcher(library, seconds=60)
    claimed = watcher._claim()
    assert claimed is not None
    found = watcher._measure(claimed)
    assert found is not None
    use(library, 400)
    with library.begin() as connection:
        watcher._decide(connection, claimed, found)
    assert kept(library).ef_search == 400


def test_workers_take_turns(library: sa.Engine) -> None:
    want(library, 0.95)
    use(library, 100)
    with ThreadPoolExecutor(4) as threads:
        steps = [threads.submit(RecallWatcher(library, seconds=60).step) for _ in range(4)]
    assert sorted(step.result() for step in steps) == [False, False, False, True]
    assert kept(library).queries == 20


def test_measuring_takes_a_hundredth_of_the_time(library: sa.Engine) -> None:
    want(library, 0.95)
    times = iter([0.0, 1000.0])  # the measurement takes a thousand seconds, by this clock
    assert RecallWatcher(library, seconds=0.001, clock=lambda: next(times)).step()
    [(rest,)] = rows(library, "SELECT extract(epoch FROM measure_at - now()) FROM semantic.recall")
    assert 98_000 < rest <= 99_000


def test_a_measurement_that_is_running_does_not_delay_that_of_a_new_objective(library: sa.Engine) -> None:
    want(library, 0.95)
    measuring = threading.Event()

    def clock() -> float:  # is read before a measurement and after it
        if not measuring.is_set():
            measuring.set()
            want(library, 0.9)
        return 0.0

    assert RecallWatcher(library, seconds=60, clock=clock).step()
    assert rows(library, "SELECT measure_at <= now() FROM semantic.recall") == [(True,)]
    assert measure(library)
    assert rows(library, "SELECT measure_at > now() FROM semantic.recall") == [(True,)]


def test_only_the_newest_measurements_count(library: sa.Engine) -> None:
    want(library, 0.95)
    for recall in (0.0, *[1.0] * 100):
        plant(library, ef_search=100, queries=20, recall=recall)
    plant(library, ef_search=64, queries=20, recall=1.0)
    execute(library, "UPDATE semantic.recall_sample SET measured_at = now() - interval '8 days' WHERE ef_search = 64")
    measure(library)
    found = rows(library, "SELECT ef_search, count(*), min(found) > 0 FROM semantic.recall_sample GROUP BY 1")
    assert found == [(100, 100, True)]


def test_an_exact_search_that_takes_too_long_is_a_problem_that_is_said(
    library: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    want(library, 0.95)
    monkeypatch.setattr(recall_watcher, "_TIMEOUT", "1ms")
    assert measure(library)
    known = kept(library)
    assert (known.queries, known.problem) == (0, "an exact search, which it is compared with, takes longer than 10s")
    monkeypatch.undo()
    measure(library)
    assert kept(library).problem is None


def test_a_measurement_that_finds_no_vector_in_its_time_measures_nothing(
    articles: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 50) i")
    sync(articles)
    want(articles, 0.9)
    execute(articles, "DELETE FROM article_semantic")
    monkeypatch.setattr(recall_watcher, "_MEASURE_SECONDS", -1.0)
    assert measure(articles)
    assert (kept(articles).queries, kept(articles).problem) == (0, None)


def test_an_index_that_is_not_built_or_nearly_empty_is_not_measured(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'violin ' || i, NULL, 'en' FROM generate_series(1, 19) AS i")
    sync(articles)
    want(articles, 0.95)
    assert measure(articles)
    execute(articles, "INSERT INTO article SELECT i, 'violin ' || i, NULL, 'en' FROM generate_series(20, 99) AS i")
    sync(articles)
    execute(articles, "DROP INDEX article_semantic_vector_idx")
    assert measure(articles)
    assert (kept(articles).queries, kept(articles).problem) == (0, None)
    sync(articles)
    measure(articles)
    assert kept(articles).queries == 20


def test_a_running_worker_keeps_the_objective(library: sa.Engine) -> None:
    want(library, 0.95)
    use(library, 5)
    stop = threading.Event()
    worker = Worker(library, Settings(recall_seconds=0.01))
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(worker.run, stop)
        try:
            eventually(lambda: kept(library).ef_search > 5, "a higher ef_search", unless=running.done)
        finally:
            stop.set()
        running.result()


def test_a_worker_that_is_stopped_gives_up_a_measurement_and_leaves_it_to_others(
    library: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    want(library, 0.95)
    monkeypatch.setattr(recall_watcher, "_TIMEOUT", "0")

    def sleep(*given: Any) -> tuple[str, object]:
        """Makes the exact search of a measurement take an hour."""
        statement, parameters = given[2:4]
        return ("SELECT 1.0 FROM pg_sleep(3600)", {}) if "<=>" in statement else (statement, parameters)

    sa.event.listen(library, "before_cursor_execute", sleep, retval=True)
    watcher = RecallWatcher(library, seconds=60)
    sleeps = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    with ThreadPoolExecutor(1) as threads:
        step = threads.submit(watcher.step)
        eventually(lambda: rows(library, sleeps) == [(1,)], "a measurement", unless=step.done)
        watcher.close()
        assert step.result() is False
    sa.event.remove(library, "before_cursor_execute", sleep)
    assert (kept(library).queries, kept(library).problem) == (0, None)
    assert not watcher.step()
    assert RecallWatcher(library, seconds=60).step()
    assert kept(library).queries == 20


def test_a_role_that_may_not_see_all_rows_measures_nothing(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'violin ' || i, NULL, 'en' FROM generate_series(1, 99) AS i")
    sync(articles)
    want(articles, 0.95)
    role = f"watcher_{str(articles.url.database)[-8:]}"
    execute(articles, f"CREATE ROLE {role} LOGIN; GRANT SELECT ON article TO {role}")
    execute(articles, "ALTER TABLE article ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON article USING (id < 50)")
    privileges.follow(articles)
    execute(articles, f"GRANT ALL ON ALL TABLES IN SCHEMA semantic TO {role}")
    restricted = database.connect(articles.url.set(username=role).render_as_string(hide_password=False))
    try:
        assert measure(restricted)
    finally:
        restricted.dispose()
    assert (kept(articles).queries, kept(articles).problem) == (0, recall_watcher._UNREADABLE)
    assert measure(articles)
    assert kept(articles).queries == 20
    execute(articles, f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_a_searcher_follows_at_once(library: sa.Engine, mode: Any) -> None:
    assert used(library, mode=mode) == (200 if mode == "hybrid" else 100)  # twice the rows of a leg, at least 100
    use(library, 300)
    assert used(library, mode=mode) == 300
    assert used(library, mode=mode, limit=400) == 800
    assert used(library, mode=mode, options=Options(ef_search=40)) == 40


def test_a_lower_value_than_the_default_is_followed_too(library: sa.Engine) -> None:
    use(library, 32)
    assert used(library) == 32
    assert used(library, limit=40) == 80


def test_a_statement_on_the_declared_table_follows(library: sa.Engine) -> None:
    use(library, 300)
    with Session(library) as session:
        session.execute(search.knn(Article.semantic, encoder().encode_queries(["harbour"])[0])).all()
        assert session.scalar(sa.text("SHOW hnsw.ef_search")) == "300"


def test_plain_sql_follows(library: sa.Engine) -> None:
    number = generation_of(library).id

    def text() -> str:
        [(found,)] = rows(library, "SELECT semantic.search_sql_v1(:id, 'dense', 10, false)", id=number)
        return str(found)

    assert "set_config('hnsw.ef_search', '100', true)" in text()
    use(library, 300)
    assert "set_config('hnsw.ef_search', '300', true)" in text()


def test_a_role_that_reads_the_table_follows_and_changes_nothing(library: sa.Engine) -> None:
    want(library, 0.95)
    measure(library)
    use(library, 300)
    role = f"reader_{str(library.url.database)[-8:]}"
    execute(library, f"CREATE ROLE {role}; GRANT SELECT ON article TO {role}")
    privileges.follow(library)
    with Session(library) as session:
        session.execute(sa.text(f"SET LOCAL ROLE {role}"))
        assert store.read(session.connection())[generation_of(library).id].objective == 0.95
        Searcher(encoder()).search(session, Article.semantic, "harbour candle")
        assert session.scalar(sa.text("SHOW hnsw.ef_search")) == "300"
        for change in ("UPDATE semantic.recall SET ef_search = 1", "DELETE FROM semantic.recall_sample"):
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), session.begin_nested():
                session.execute(sa.text(change))
    execute(library, f"DROP OWNED BY {role}; DROP ROLE {role}")


def tuned(engine: sa.Engine, wanted: float = 0.95, **options: Any) -> tuning.RecallTuning:
    with Session(engine) as session:
        return tuning.tune_ef_search(session, Article.semantic, wanted=wanted, **options)


def test_tuning_recommends_the_smallest_value_that_is_shown_to_reach_the_objective(library: sa.Engine) -> None:
    found = tuned(library)
    assert found.recommended == found.curve.points[-1]
    assert found.recommended is not None
    assert found.recommended.low >= 0.95
    assert all(point.low < 0.95 for point in found.curve.points[:-1])
    assert [point.ef_search for point in found.curve.points] == list(objective.STEPS[: len(found.curve.points)])
    assert found.curve.queries == 146  # twice as many as it takes if they find everything
    assert found == dataclasses.replace(tuned(library), curve=found.curve)


def test_what_is_kept_is_used_by_searches_of_its_copy_alone(library: sa.Engine) -> None:
    found = tuned(library)
    tuning.keep_ef_search(library, found)
    assert found.recommended is not None
    assert (kept(library).ef_search, kept(library).tuned) == (found.recommended.ef_search, True)
    assert used(library, limit=1) == found.recommended.ef_search
    [(evidence,)] = rows(library, "SELECT evidence FROM semantic.recall")
    assert evidence["objective"] == 0.95
    assert evidence["points"][-1]["ef_search"] == found.recommended.ef_search
    assert "ms" not in json.dumps(evidence)


def test_another_copy_starts_with_the_default_and_it_is_said(articles: sa.Engine, dsn: str) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'violin ' || i, NULL, 'en' FROM generate_series(1, 400) AS i")
    sync(articles)
    tuning.keep_ef_search(articles, tuned(articles, 0.5))
    chosen = kept(articles).ef_search
    live = generation_of(articles)
    generations.begin(articles, live, dataclasses.replace(live.spec, encoder=EncoderSpec("hashed:64", 64)))
    sync(articles)
    generations.switch(articles, "article_semantic")
    assert (kept(articles).ef_search, kept(articles).stale) == (objective.DEFAULT_EF_SEARCH, True)
    said = CliRunner().invoke(cli.app, ["status", "--dsn", dsn], env={"COLUMNS": "300"})
    assert "ef_search was tuned for the previous copy" in said.output
    generations.rollback(articles, "article_semantic")
    assert (kept(articles).ef_search, kept(articles).stale) == (chosen, False)


def test_tuning_leaves_the_settings_of_the_callers_transaction_as_they_were(library: sa.Engine) -> None:
    names = ("enable_seqscan", "enable_sort", "hnsw.iterative_scan", "hnsw.ef_search")
    now = sa.select(*(sa.func.current_setting(name, sa.true()) for name in names))
    with Session(library) as session:
        session.execute(sa.text("SET LOCAL enable_sort = off; SET LOCAL hnsw.ef_search = 77"))
        before = session.execute(now).one()
        tuning.tune_ef_search(session, Article.semantic, wanted=0.5)
        assert session.execute(now).one() == before


def test_a_sample_that_cannot_show_the_objective_is_refused(library: sa.Engine) -> None:
    with pytest.raises(errors.ConfigurationError, match="use 381 or more"):
        tuned(library, 0.99, sample=380)
    with pytest.raises(errors.ConfigurationError, match="out of range"):
        tuned(library, 1.0)


def test_an_index_that_is_too_small_or_not_built_is_not_tuned(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'violin ' || i, NULL, 'en' FROM generate_series(1, 30) AS i")
    with pytest.raises(errors.QueryError, match="not built yet"):
        tuned(articles)
    sync(articles)
    with pytest.raises(errors.QueryError, match=r"has 30 vectors, too few to show .* which takes 73"):
        tuned(articles)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_prints_the_curve_and_keeps_the_recommendation(library: sa.Engine) -> None:
    dsn = library.url.render_as_string(hide_password=False)
    said = run("tune", "article_semantic", "--recall", "0.9", "--dsn", dsn, "--save")
    assert "recall@10, 100 queries" in said
    assert f"Recommended: ef_search = {kept(library).ef_search}." in said
    assert kept(library).tuned
    figures = json.loads(run("tune", "article_semantic", "--recall", "0.9", "--dsn", dsn, "--json"))
    assert figures["recommended"] == kept(library).ef_search
    assert f"searches use ef_search = {kept(library).ef_search} (tuned)" in run("status", "--dsn", dsn)
    for arguments in ([], ["--recall", "0.9", "--judgements", "x.csv"]):
        refused = CliRunner().invoke(cli.app, ["tune", "article_semantic", *arguments, "--dsn", dsn])
        assert refused.exit_code != 0


@pytest.mark.parametrize(
    "option",
    [
        "--measure RR@10",
        "--match any",
        "--depths 50",
        "--reranker x",
        "--rerank-depths 10",
        "--chunk-sizes 64",
        "--folds 3",
        "--exact",
        "--seed 1",
    ],
)
def test_options_that_a_recall_does_not_depend_on_are_refused(option: str) -> None:
    arguments = ["tune", "article_semantic", "--recall", "0.9", *option.split()]
    with pytest.raises(errors.ConfigurationError, match=f"^{option.split(maxsplit=1)[0]} means nothing for --recall"):
        CliRunner().invoke(cli.app, arguments, catch_exceptions=False)


def test_the_curve_is_printed_even_if_it_cannot_be_kept(library: sa.Engine) -> None:
    execute(library, "ALTER TABLE semantic.recall ADD CONSTRAINT refused CHECK (false) NOT VALID")
    dsn = library.url.render_as_string(hide_password=False)
    done = CliRunner().invoke(cli.app, ["tune", "article_semantic", "--recall", "0.9", "--dsn", dsn, "--save"])
    execute(library, "ALTER TABLE semantic.recall DROP CONSTRAINT refused")
    assert done.exit_code != 0
    assert "Recommended: ef_search = " in done.stdout
    assert "Kept in the database" not in done.stdout


def test_the_command_sets_the_objective_and_status_shows_it(library: sa.Engine) -> None:
    dsn = library.url.render_as_string(hide_password=False)
    assert "objective" not in run("status", "--dsn", dsn)
    assert "has the recall objective 0.95" in run("index", "objective", "article_semantic", "0.95", "--dsn", dsn)
    assert "recall objective 0.95, ef_search = 100; not measured yet." in run("status", "--dsn", dsn)
    plant(library, ef_search=100, queries=500, recall=1)
    assert "recall 1.000 (0.992 to 1.000, 500 queries), objective 0.95: met; ef_search = 100." in run(
        "status", "--dsn", dsn
    )
    [shown] = json.loads(run("status", "--dsn", dsn, "--json"))["indexes"]
    assert (shown["recall"]["objective"], shown["recall"]["recall"], shown["recall"]["state"]) == (0.95, 1, "met")
    assert "no longer has a recall objective" in run("index", "objective", "article_semantic", "none", "--dsn", dsn)
    assert generation_of(library).spec.recall_objective is None
    for given in ("1.5", "much"):
        refused = CliRunner().invoke(cli.app, ["index", "objective", "article_semantic", given, "--dsn", dsn])
        assert refused.exit_code != 0


def findings(engine: sa.Engine) -> list[tuple[str, str]]:
    return [(one.what, one.repair) for one in doctor.examine(engine) if one.check == "recall_objective"]


def test_the_doctor_reports_an_objective_that_is_missed_and_what_to_do(library: sa.Engine) -> None:
    plant(library, ef_search=100, queries=500, recall=0.8)
    assert findings(library) == []  # no objective
    want(library, 0.95)
    [(what, repair)] = findings(library)
    assert what == "its recall is 0.800 with ef_search = 100, the objective 0.95"
    assert "pg-semantic worker" in repair
    use(library, 1000)
    plant(library, ef_search=1000, queries=1000, recall=0.9)
    [(what, repair)] = findings(library)
    assert "ef_construction" in repair
    dsn = library.url.render_as_string(hide_password=False)
    assert "cannot be reached, raise ef_construction" in run("status", "--dsn", dsn)
    plant(library, ef_search=1000, queries=5000, recall=0.96)
    assert findings(library) == []
    execute(library, "UPDATE semantic.recall SET problem = 'it is slow'")
    [(what, repair)] = findings(library)
    assert (what, repair) == (
        "its recall can't be measured: it is slow",
        "pg-semantic index objective public.article_semantic none",
    )


def test_the_copy_that_is_being_built_is_measured_too(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'violin ' || i, NULL, 'en' FROM generate_series(1, 99) AS i")
    sync(articles)
    want(articles, 0.95)
    live = generation_of(articles)
    target = dataclasses.replace(live.spec, encoder=EncoderSpec("hashed:64", 64))
    generations.begin(articles, live, target)
    sync(articles)
    watcher = RecallWatcher(articles, seconds=60)
    assert [watcher.step(), watcher.step(), watcher.step()] == [True, True, False]
    roles = "SELECT role, queries FROM semantic.recall_sample JOIN semantic.generation ON generation.id = generation_id"
    assert sorted(rows(articles, roles)) == [("live", 20), ("next", 20)]
    generations.switch(articles, "article_semantic")
    assert kept(articles).queries == 20
    generations.drop(articles, "article_semantic", "previous", grace_seconds=0)
    assert len(rows(articles, roles)) == 1


def declared_with(objective_of: float | None) -> sa.MetaData:
    return article("title", "body", recall_objective=objective_of)


def test_an_application_that_declares_another_objective_is_told(
    engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    declared_with(0.9).create_all(engine)
    assert generation_of(engine).spec.recall_objective == 0.9
    declared_with(0.9).create_all(engine)
    assert "recall_objective" not in caplog.text
    declared_with(None).create_all(engine)
    assert "`pg-semantic index objective article_semantic none`" in caplog.text
    assert generation_of(engine).spec.recall_objective == 0.9


def test_an_objective_that_cannot_be_reached_is_logged_once(
    library: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    want(library, 0.999)
    use(library, objective.MAX_EF_SEARCH)
    for _ in range(24):
        plant(library, ef_search=objective.MAX_EF_SEARCH, queries=20, recall=0.9)
    watcher = RecallWatcher(library, seconds=60)
    for _ in range(2):
        execute(library, "UPDATE semantic.recall SET measure_at = now()")
        watcher.step()
    assert kept(library).ef_search == objective.MAX_EF_SEARCH
    assert caplog.text.count("with the highest ef_search, the objective 0.999: raise ef_construction or m") == 1


def test_metrics_have_the_recall_and_its_objective(library: sa.Engine) -> None:
    plant(library, ef_search=100, queries=500, recall=0.8)
    want(library, 0.95)
    figures = Metrics()
    figures.watch_database(library, seconds=0)
    lines = dict(line.rsplit(" ", 1) for line in generate_latest(figures.registry).decode().splitlines())
    labels = '{generation="live",index="public.article_semantic"}'
    assert [
        lines[f"pg_semantic_{name}{labels}"] for name in ("recall_ratio", "recall_objective_ratio", "ef_search")
    ] == [
        "0.8",
        "0.95",
        "100.0",
    ]
    assert 0.7 < float(lines[f"pg_semantic_recall_low_ratio{labels}"]) < 0.8
    assert 0.8 < float(lines[f"pg_semantic_recall_high_ratio{labels}"]) < 0.9


def test_without_an_objective_only_what_was_tuned_is_still_used(library: sa.Engine) -> None:
    want(library, 0.95)
    use(library, 300)
    want(library, None)
    assert kept(library).ef_search == objective.DEFAULT_EF_SEARCH
    tuning.keep_ef_search(library, tuned(library))
    want(library, 0.95)
    want(library, None)
    assert kept(library).tuned


def test_an_objective_that_was_taken_back_meanwhile_changes_nothing(library: sa.Engine) -> None:
    want(library, 0.95)
    measure(library)
    [(generation, before)] = rows(library, "SELECT generation_id, coalesce(ef_search, 100) FROM semantic.recall")
    binds = {"generation": generation, "ef_search": 150, "before": before, "default": 100}
    for wanted, changed in ((0.9, 0), (0.95, 1)):
        with library.begin() as connection:
            found = connection.execute(sql.statement("recall", "change"), binds | {"objective": wanted})
            assert found.rowcount == changed


def test_a_session_that_commits_each_statement_is_refused_because_it_would_measure_something_else(
    library: sa.Engine,
) -> None:
    engine = library.execution_options(isolation_level="AUTOCOMMIT")
    with Session(engine) as session, pytest.raises(errors.QueryError, match="another isolation level than AUTOCOMMIT"):
        tuning.tune_ef_search(session, Article.semantic, wanted=0.5)
