"""The transitions of a job, each by the statement that makes it."""

import functools
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from pg_semantic import jobqueue, sql
from pg_semantic.jobqueue import Claimable
from tests.db.library import execute, generation_of, read_of, rows

GENERATION = 7


def enqueue(engine: sa.Engine, count: int, *, prefix: str = "") -> None:
    with engine.begin() as connection:
        jobqueue.enqueue(connection, GENERATION, [f"{prefix}{number}" for number in range(count)])


def claim(connection: sa.Connection, rows: int = 100, *, priority: int = jobqueue.BACKFILL) -> jobqueue.Claim:
    return jobqueue.claim(connection, GENERATION, rows=rows, lease_seconds=60, priority=priority)


def test_two_claims_at_the_same_time_share_no_job(engine: sa.Engine) -> None:
    enqueue(engine, 100)
    with engine.connect() as one, engine.connect() as two:
        first, second = claim(one, 60), claim(two, 60)
        one.commit()
        two.commit()
    keys = [job.key for job in (*first.jobs, *second.jobs)]
    assert (len(first.jobs), len(second.jobs)) == (60, 40)
    assert len(set(keys)) == 100


def test_a_claim_is_of_edits_or_of_backfill(engine: sa.Engine) -> None:
    enqueue(engine, 10)
    execute(engine, "INSERT INTO semantic.job (generation_id, key) VALUES (7, 'edit')")
    with engine.begin() as connection:
        assert [job.key for job in claim(connection, priority=jobqueue.EDIT).jobs] == ["edit"]
        assert len(claim(connection, priority=jobqueue.BACKFILL).jobs) == 10


def test_what_is_ready_is_known_by_generation_and_priority(engine: sa.Engine) -> None:
    enqueue(engine, 10)
    execute(engine, "INSERT INTO semantic.job (generation_id, key) VALUES (8, 'edit')")
    execute(engine, "INSERT INTO semantic.job (generation_id, key, available_at) VALUES (9, 'x', now() + '1 hour')")
    with engine.begin() as connection:
        ready = jobqueue.ready(connection, [GENERATION, 8, 9, 10])
        assert set(ready) == {Claimable(GENERATION, jobqueue.BACKFILL), Claimable(8, jobqueue.EDIT)}
        claim(connection)
        assert jobqueue.ready(connection, [GENERATION]) == []


def test_a_parked_job_that_is_retried_is_as_new(engine: sa.Engine) -> None:
    enqueue(engine, 3)
    execute(engine, "UPDATE semantic.job SET state = 'failed', attempts = 5, error = 'x' WHERE key <> '2'")
    with engine.begin() as connection:
        assert jobqueue.retry(connection, GENERATION, ["1", "2"]) == ["1"]
    assert rows(engine, "SELECT key, state, attempts, error FROM semantic.job ORDER BY key") == [
        ("0", "failed", 5, "x"),
        ("1", "pending", 0, None),
        ("2", "pending", 0, None),
    ]
    with engine.begin() as connection:
        assert jobqueue.retry(connection, GENERATION) == ["0"]


def test_a_claim_leaves_the_jobs_of_other_generations(engine: sa.Engine) -> None:
    enqueue(engine, 1)
    with engine.begin() as connection:
        assert (
            jobqueue.claim(connection, GENERATION + 1, rows=10, lease_seconds=60, priority=jobqueue.BACKFILL).jobs == ()
        )


def test_enqueueing_again_changes_nothing(engine: sa.Engine) -> None:
    enqueue(engine, 3)
    before = rows(engine, "SELECT key, version, dirty_at FROM semantic.job")
    enqueue(engine, 3)
    assert rows(engine, "SELECT key, version, dirty_at FROM semantic.job") == before


def test_a_released_job_is_as_it_was_before_the_claim(engine: sa.Engine) -> None:
    enqueue(engine, 2)
    before = rows(engine, "SELECT key, state, attempts, claim, lease_until, error FROM semantic.job ORDER BY key")
    with engine.begin() as connection:
        claimed = claim(connection)
        jobqueue.release(connection, claimed, ["0", "1"], delay_seconds=0)
    after = rows(engine, "SELECT key, state, attempts, claim, lease_until, error FROM semantic.job ORDER BY key")
    assert after == before


def test_a_failed_job_waits_longer_each_time_and_is_parked_with_its_error(engine: sa.Engine) -> None:
    enqueue(engine, 1)
    waits = []
    for _ in range(4):
        with engine.begin() as connection:
            claimed = claim(connection)
            jobqueue.fail(connection, claimed, claimed.jobs[0], error="no", max_attempts=4, retry_seconds=10)
        [(state, wait)] = rows(
            engine, "SELECT state, extract(epoch FROM available_at - now())::float FROM semantic.job"
        )
        waits.append((state, wait))
        execute(engine, "UPDATE semantic.job SET available_at = now()")
    assert [state for state, _ in waits] == ["pending", "pending", "pending", "failed"]
    for number, (_, wait) in enumerate(waits):
        assert 0.49 * 10 * 2**number <= wait <= 1.5 * 10 * 2**number
    with engine.connect() as connection:
        assert jobqueue.failures(connection, GENERATION, limit=10) == [jobqueue.Failure("0", 4, "no")]
        assert claim(connection).jobs == ()


def test_a_failure_of_an_older_version_does_not_count(engine: sa.Engine) -> None:
    enqueue(engine, 1)
    with engine.begin() as connection:
        claimed = claim(connection)
        connection.execute(
            sa.text(
                "UPDATE semantic.job SET version = 2, state = 'pending', claim = NULL, lease_until = NULL, attempts = 0"
            )
        )
        jobqueue.fail(connection, claimed, claimed.jobs[0], error="no", max_attempts=1, retry_seconds=1)
    assert rows(engine, "SELECT state, attempts, error FROM semantic.job") == [("pending", 0, None)]


def test_a_heartbeat_keeps_a_claim_from_the_reaper(engine: sa.Engine) -> None:
    enqueue(engine, 2)
    with engine.begin() as connection:
        kept, lost = claim(connection, 1), claim(connection, 1)
    execute(engine, "UPDATE semantic.job SET lease_until = now() - interval '1 second'")
    with engine.begin() as connection:
        jobqueue.heartbeat(connection, [kept.token], lease_seconds=60)
        jobqueue.reap(connection, max_attempts=5, retry_seconds=0)
    assert rows(engine, "SELECT key, state FROM semantic.job ORDER BY key") == [
        (kept.jobs[0].key, "processing"),
        (lost.jobs[0].key, "pending"),
    ]


def lose(engine: sa.Engine, *, max_attempts: int = 5) -> None:
    """The workers that hold claims are gone, and others notice."""
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE semantic.job SET lease_until = now() - interval '1 s' WHERE claim IS NOT NULL")
        )
        jobqueue.reap(connection, max_attempts=max_attempts, retry_seconds=1e-9)


def test_a_job_whose_workers_keep_dying_is_parked(engine: sa.Engine) -> None:
    enqueue(engine, 1)
    states = []
    for _ in range(3):
        with engine.begin() as connection:
            claim(connection)
        lose(engine, max_attempts=2)
        states += rows(engine, "SELECT state, attempts FROM semantic.job")
    assert states == [("pending", 0), ("pending", 1), ("failed", 2)]  # at first it might have been in company


def test_jobs_of_a_lost_worker_are_claimed_in_groups_that_shrink_eightfold(engine: sa.Engine) -> None:
    enqueue(engine, 2000)
    sizes = []
    for number in range(6):
        with engine.begin() as connection:
            lost = claim(connection, 2000).jobs
        lose(engine)
        sizes.append(len(lost))
        oldest = "UPDATE semantic.job SET available_at = now() - make_interval(days => :days) WHERE key = ANY (:keys)"
        execute(engine, oldest, days=number, keys=[job.key for job in lost])
    assert sizes == [2000, 250, 31, 3, 1, 1]
    limits = "SELECT claim_limit, count(*), sum(attempts) FROM semantic.job GROUP BY 1 ORDER BY 1"
    assert rows(engine, limits) == [(1, 3, 2), (3, 28, 0), (31, 219, 0), (250, 1750, 0)]


def test_jobs_that_no_lost_worker_had_are_not_claimed_with_those_that_one_had(engine: sa.Engine) -> None:
    enqueue(engine, 20)
    with engine.begin() as connection:
        claim(connection)
    lose(engine)
    enqueue(engine, 20, prefix="new")
    groups = []
    with engine.begin() as connection:
        while jobs := claim(connection).jobs:
            groups.append({job.key.startswith("new") for job in jobs})
    assert [len(group) for group in groups] == [1] * 11  # ten pairs of the old ones, and one group of all new ones
    assert sum(group == {True} for group in groups) == 1


@pytest.mark.parametrize("change", ["fold", "requeue", "retry"])
def test_a_job_that_is_as_new_may_be_claimed_with_any_number_of_others(engine: sa.Engine, change: str) -> None:
    enqueue(engine, 3)
    execute(
        engine,
        "UPDATE semantic.job SET claim_limit = 1, state = CASE WHEN :retry THEN 'failed' ELSE 'pending' END",
        retry=change == "retry",
    )
    execute(engine, "INSERT INTO semantic.mark SELECT 7, key FROM semantic.job")
    with engine.begin() as connection:
        if change == "fold":
            jobqueue.fold(connection, GENERATION)
        elif change == "requeue":
            connection.execute(jobqueue.requeueing(GENERATION, ["0", "1", "2"]))
        else:
            jobqueue.retry(connection, GENERATION)
    assert rows(engine, "SELECT DISTINCT state, claim_limit FROM semantic.job") == [("pending", None)]


def test_counting_waiting_jobs_stops_at_the_limit(engine: sa.Engine) -> None:
    enqueue(engine, 20)
    with engine.begin() as connection:
        claim(connection, 5)
        assert jobqueue.waiting(connection, GENERATION, limit=7) == 7
        assert jobqueue.waiting(connection, GENERATION, limit=100) == 20


def test_a_claim_reads_the_pending_index_however_many_jobs_there_are(engine: sa.Engine) -> None:
    enqueue(engine, 20_000)
    execute(engine, "ANALYZE semantic.job")
    binds = {
        "generation": GENERATION,
        "priority": 1,
        "rows": 100,
        "claim": "0" * 32,
        "lease": 60,
        "holds_others": False,
    }
    with engine.connect() as connection:
        plan = "\n".join(connection.scalars(sa.text(f"EXPLAIN {sql.statement('jobqueue', 'claim').text}"), binds))
    assert "job_pending_idx" in plan
    assert "Sort Key: job" not in plan
    assert "Seq Scan on job" not in plan


def test_marks_of_one_generation_do_not_wait_for_those_of_another(articles: sa.Engine) -> None:
    live = generation_of(articles).id
    execute(articles, "INSERT INTO semantic.mark SELECT 999, i::text FROM generate_series(1, 20000) i")
    execute(articles, "INSERT INTO semantic.mark VALUES (:live, 'edit')", live=live)
    with articles.begin() as connection:
        jobqueue.fold(connection, live)
        assert [job.key for job in jobqueue.claim(connection, live, rows=10, lease_seconds=60).jobs] == ["edit"]


def test_folding_looks_up_the_jobs_of_its_marks_alone(engine: sa.Engine) -> None:
    enqueue(engine, 20_000)
    execute(engine, "INSERT INTO semantic.mark SELECT 7, i::text FROM generate_series(1, 5000) i")
    execute(engine, "ANALYZE semantic.job, semantic.mark")
    binds = {"generation": GENERATION, "priority": 0, "marks": 5000}
    with engine.connect() as connection:
        plan = "\n".join(connection.scalars(sa.text(f"EXPLAIN {sql.statement('jobqueue', 'fold').text}"), binds))
    assert "job_pkey" in plan
    assert "Seq Scan on job" not in plan


def test_holding_reads_the_jobs_that_are_held_alone_also_before_the_first_analyze(engine: sa.Engine) -> None:
    enqueue(engine, 20_000)
    with engine.begin() as connection:
        taken = claim(connection, 1000)
    with engine.connect() as connection:
        some, before = taken.jobs[500:550], read_of(connection, "job")
        assert jobqueue.hold(connection, taken, some) == {job.key for job in some}
        assert read_of(connection, "job") - before <= 2 * len(some)


@pytest.mark.parametrize("end", [jobqueue.complete, functools.partial(jobqueue.release, delay_seconds=0)])
def test_ending_jobs_reads_those_alone_also_of_a_generation_that_came_after_the_last_analyze(
    engine: sa.Engine, end: Callable[..., object]
) -> None:
    execute(
        engine,
        "INSERT INTO semantic.job (generation_id, key, priority) SELECT 1, i, 1 FROM generate_series(1, 20000) i",
    )
    execute(engine, "ANALYZE semantic.job")
    enqueue(engine, 20_000)
    with engine.begin() as connection:
        taken = claim(connection, 1000)
    with engine.connect() as connection:
        some, before = [job.key for job in taken.jobs[500:550]], read_of(connection, "job")
        assert not end(connection, taken, some)
        assert read_of(connection, "job") - before <= 4 * len(some)
        left = connection.scalar(sa.text("SELECT count(*) FROM semantic.job WHERE state = 'processing'"))
        assert left == len(taken.jobs) - len(some)


@pytest.mark.parametrize("order", ["i", "-i", "i * 7919 % 16"])
def test_jobs_are_claimed_oldest_first_wherever_they_are_stored(engine: sa.Engine, order: str) -> None:
    execute(
        engine,
        "INSERT INTO semantic.job (generation_id, key, priority, available_at) "
        f"SELECT 7, i, 1, now() - make_interval(secs => i) FROM generate_series(1, 16) i ORDER BY {order}",
    )
    with engine.begin() as connection:
        assert [job.key for job in claim(connection).jobs] == [str(number) for number in range(16, 0, -1)]


def mark(engine: sa.Engine, count: int, *, priority: int, prefix: str = "") -> None:
    execute(
        engine,
        "INSERT INTO semantic.mark (generation_id, key, priority) "
        "SELECT :generation, :prefix || i, :priority FROM generate_series(1, :count) i",
        generation=GENERATION,
        prefix=prefix,
        priority=priority,
        count=count,
    )


def test_marks_are_folded_into_jobs_of_their_priority(engine: sa.Engine) -> None:
    mark(engine, 3, priority=jobqueue.BACKFILL, prefix="bulk ")
    mark(engine, 2, priority=jobqueue.EDIT, prefix="edit ")
    with engine.begin() as connection:
        assert set(jobqueue.ready(connection, [GENERATION])) == {Claimable(GENERATION, 0), Claimable(GENERATION, 1)}
        jobqueue.fold(connection, GENERATION)
        assert {job.key for job in claim(connection, priority=jobqueue.EDIT).jobs} == {"edit 1", "edit 2"}
        assert jobqueue.ready(connection, [GENERATION]) == [Claimable(GENERATION, jobqueue.BACKFILL)]
        jobqueue.fold(connection, GENERATION, priority=jobqueue.BACKFILL)
        assert len(claim(connection, priority=jobqueue.BACKFILL).jobs) == 3
        assert jobqueue.ready(connection, [GENERATION]) == []


def test_a_job_keeps_the_better_priority_whichever_mark_is_folded_first(engine: sa.Engine) -> None:
    for first, second in ((jobqueue.EDIT, jobqueue.BACKFILL), (jobqueue.BACKFILL, jobqueue.EDIT)):
        for priority in (first, second):
            mark(engine, 1, priority=priority, prefix=f"first {first} ")
            with engine.begin() as connection:
                jobqueue.fold(connection, GENERATION, priority=priority)
    assert rows(engine, "SELECT key, priority, version FROM semantic.job ORDER BY key") == [
        ("first 0 1", 0, 2),
        ("first 1 1", 0, 2),
    ]


def test_a_bulk_mark_of_a_job_in_hand_voids_its_claim_too(engine: sa.Engine) -> None:
    enqueue(engine, 1)
    with engine.begin() as connection:
        taken = claim(connection)
    execute(engine, "INSERT INTO semantic.mark (generation_id, key, priority) VALUES (7, '0', 1)")
    with engine.begin() as connection:
        jobqueue.fold(connection, GENERATION, priority=jobqueue.BACKFILL)
        assert jobqueue.hold(connection, taken, taken.jobs) == set()
    assert rows(engine, "SELECT key, priority, version, state FROM semantic.job") == [("0", 1, 2, "pending")]


def test_a_backfill_that_voids_a_claim_is_no_attempt(engine: sa.Engine) -> None:
    enqueue(engine, 1)
    with engine.begin() as connection:
        taken = claim(connection)
    enqueue(engine, 1)
    with engine.begin() as connection:
        assert jobqueue.hold(connection, taken, taken.jobs) == set()
    assert rows(engine, "SELECT version, state, attempts FROM semantic.job") == [(2, "pending", 0)]


def test_the_oldest_marks_are_folded_first(engine: sa.Engine) -> None:
    for age, key in ((1, "young"), (3, "oldest"), (2, "old")):
        execute(
            engine,
            "INSERT INTO semantic.mark VALUES (7, :key, now() - make_interval(mins => :age), 1)",
            key=key,
            age=age,
        )
    with engine.begin() as connection:
        jobqueue.fold(connection, GENERATION, priority=jobqueue.BACKFILL, marks=2)
    assert rows(engine, "SELECT key FROM semantic.mark") == [("young",)]


@pytest.mark.parametrize("analyzed", [False, True])
def test_looking_for_edits_reads_nothing_of_a_long_backlog(engine: sa.Engine, analyzed: bool) -> None:
    mark(engine, 20_000, priority=jobqueue.BACKFILL)
    enqueue(engine, 20_000, prefix="job ")
    if analyzed:
        execute(engine, "ANALYZE semantic.job, semantic.mark")
    with engine.connect() as connection:
        assert jobqueue.ready(connection, [GENERATION]) == [Claimable(GENERATION, jobqueue.BACKFILL)]
        assert read_of(connection, "mark") + read_of(connection, "job") <= 10


@pytest.mark.parametrize("analyzed", [False, True])
def test_an_edit_is_folded_and_claimed_by_reading_nothing_of_a_long_backlog(engine: sa.Engine, analyzed: bool) -> None:
    mark(engine, 20_000, priority=jobqueue.BACKFILL)
    enqueue(engine, 20_000, prefix="job ")
    mark(engine, 1, priority=jobqueue.EDIT, prefix="edit ")
    if analyzed:
        execute(engine, "ANALYZE semantic.job, semantic.mark")
    with engine.connect() as connection:
        jobqueue.fold(connection, GENERATION)
        assert [job.key for job in claim(connection, priority=jobqueue.EDIT).jobs] == ["edit 1"]
        assert read_of(connection, "mark") + read_of(connection, "job") <= 10


def test_jobs_are_inserted_in_the_order_in_which_others_lock_them_whatever_the_collation() -> None:
    for name in ("enqueue", "requeue"):
        assert 'ORDER BY wanted.key COLLATE "C"' in str(sql.statement("jobqueue", name))
