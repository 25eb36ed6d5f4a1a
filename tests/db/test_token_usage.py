"""The tokens that workers send to remote encoders: no minute has more than the limit, and no day loses its count."""

import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from pg_semantic import errors
from pg_semantic.settings import Settings
from pg_semantic.worker import daily_budget, token_usage
from pg_semantic.worker.token_usage import TokenUsage
from tests.db.library import execute, rows

LIMIT = 60_000
REQUEST = 2_000


class Workers:
    """Some workers of a database, for which time also passes when they wait, although no one waits.

    The limits use the server's clock, so what they have stored is moved back in its place.
    """

    def __init__(self, engine: sa.Engine, count: int = 1, limit: int | None = LIMIT) -> None:
        self.waited = 0.0
        self.sent: list[tuple[float, int]] = []
        self._engine = engine
        self.usages = [
            TokenUsage(engine, Settings(max_tokens_per_minute=limit), wait=self.pass_time) for _ in range(count)
        ]

    def pass_time(self, seconds: float) -> None:
        self.waited += seconds
        execute(
            self._engine,
            "UPDATE semantic.token_usage SET paced_until = paced_until - make_interval(secs => :seconds)",
            seconds=seconds,
        )

    def send(self, tokens: int = REQUEST, *, worker: int = 0, is_backfill: bool = True) -> float:
        """Sends a request, and returns how long it waited."""
        began = self.waited
        with self.usages[worker].backfilling(is_backfill):
            self.usages[worker].admit(tokens)
        self.sent.append((self.waited + time.monotonic(), tokens))
        return self.waited - began

    def most_in_a_minute(self) -> int:
        """The most tokens that were sent in any 60 seconds."""
        return max(sum(tokens for at, tokens in self.sent if start <= at < start + 60) for start, _ in self.sent)


@pytest.fixture
def workers(engine: sa.Engine) -> Workers:
    return Workers(engine)


def backdate(engine: sa.Engine, days: int) -> None:
    """Makes the counts of all days those of earlier ones."""
    execute(engine, "UPDATE semantic.token_usage SET day = day - CAST(:days AS integer)", days=days)


def today(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return token_usage.today(connection)


def record(usage: TokenUsage, tokens: int, *, admitted: int = 0, used: int = 0) -> None:
    usage.record(admitted=admitted, used=used, billed=tokens)
    usage.write()


@pytest.mark.parametrize("seed", range(3))
def test_no_minute_has_more_tokens_than_the_limit_and_one_request(engine: sa.Engine, seed: int) -> None:
    """Also after idle times, across the full minutes of the clock, with edits in between, and of several workers."""
    workers, chance = Workers(engine, 3), random.Random(seed)  # noqa: S311
    for _ in range(120):
        if chance.random() < 0.03:
            workers.pass_time(chance.uniform(1, 200))
        size = chance.randint(1, REQUEST)
        workers.send(size, worker=chance.randrange(3), is_backfill=chance.random() < 0.6)
    assert workers.most_in_a_minute() <= LIMIT + REQUEST


def test_backfill_gets_most_of_the_limit(workers: Workers) -> None:
    while workers.waited < 120:
        workers.send()
    assert workers.most_in_a_minute() >= 0.9 * LIMIT


def test_the_limit_is_that_of_all_workers_together(engine: sa.Engine) -> None:
    workers = Workers(engine, 2)
    for number in itertools.count():
        workers.send(worker=number % 2)
        if workers.waited > 60:
            break
    assert workers.most_in_a_minute() <= LIMIT + REQUEST


def test_an_edit_waits_for_no_backfill(workers: Workers) -> None:
    for _ in range(20):
        workers.send(int(workers.usages[0].largest_request))
        assert workers.send(10, is_backfill=False) < 0.1


def test_edits_wait_if_they_alone_are_too_many(workers: Workers) -> None:
    waited = [workers.send(is_backfill=False) for _ in range(40)]
    assert waited[0] == 0
    assert sum(waited) > 10
    assert workers.most_in_a_minute() <= LIMIT + REQUEST


def test_backfill_makes_up_for_the_tokens_of_edits(workers: Workers) -> None:
    workers.send(LIMIT // 2, is_backfill=False)
    assert workers.send() == pytest.approx(32.5, abs=1)


def test_a_request_larger_than_the_limit_is_sent_and_the_next_one_waits(workers: Workers) -> None:
    assert workers.send(3 * LIMIT) == 0
    assert workers.send() > 180


def test_without_a_limit_no_request_asks_the_database(engine: sa.Engine) -> None:
    Workers(engine, limit=None).send(10**9)
    assert rows(engine, "SELECT count(*) FROM semantic.token_usage") == [(0,)]


def test_the_pace_is_that_of_what_was_sent_and_not_of_what_was_expected(workers: Workers) -> None:
    usage = workers.usages[0]
    workers.send(30_000)
    record(usage, 3_000, admitted=30_000, used=3_000)
    assert workers.send() < 5
    workers.pass_time(60)
    workers.send(3_000)
    record(usage, 3_000, admitted=3_000, used=30_000)  # nine attempts were refused
    assert workers.send() > 25


def test_tokens_that_were_not_sent_are_no_credit_for_later(workers: Workers) -> None:
    workers.send(30_000)
    workers.pass_time(600)
    record(workers.usages[0], 0, admitted=30_000, used=0)
    workers.send()
    assert workers.send() > 0


def test_midnight_is_no_fresh_start_for_the_pace(engine: sa.Engine, workers: Workers) -> None:
    workers.send(30_000)
    backdate(engine, 1)
    workers.send()  # the first one of a day
    assert workers.send() > 25


@pytest.mark.parametrize("seconds", [-86_400, -200, 200, 86_400])
def test_a_clock_that_was_set_stops_no_one_for_long(engine: sa.Engine, workers: Workers, seconds: int) -> None:
    for _ in range(3):
        workers.send()
    workers.pass_time(seconds)
    workers.waited, workers.sent = 0.0, []
    workers.send()
    assert workers.waited <= 301
    for _ in range(60):
        workers.send()
    assert workers.most_in_a_minute() <= LIMIT + REQUEST


def test_a_day_counts_the_tokens_of_all_workers_and_keeps_them_over_a_restart(engine: sa.Engine) -> None:
    for _ in range(2):
        for usage in Workers(engine, 3).usages:
            record(usage, 7)
    assert today(engine) == 42


def test_concurrent_counts_are_all_added(engine: sa.Engine) -> None:
    usages = Workers(engine, 4).usages
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(record, usage, 1) for usage in usages * 25]:
            done.result()
    assert today(engine) == 100


def test_a_day_starts_at_zero_and_the_one_before_stays_as_it_was(engine: sa.Engine) -> None:
    [usage] = Workers(engine).usages
    record(usage, 40)
    backdate(engine, 1)
    assert today(engine) == 0
    record(usage, 2)
    assert today(engine) == 2
    assert rows(engine, "SELECT tokens FROM semantic.token_usage ORDER BY day") == [(40,), (2,)]


def test_a_clock_that_was_a_day_ahead_for_a_while_spends_no_budget(engine: sa.Engine) -> None:
    [usage] = Workers(engine).usages
    record(usage, 40)
    backdate(engine, -1)
    assert today(engine) == 0


def test_the_day_is_that_of_utc_in_a_session_of_any_time_zone(engine: sa.Engine) -> None:
    record(Workers(engine).usages[0], 40)
    expected = rows(engine, "SELECT CAST(now() AT TIME ZONE 'UTC' AS date)")
    assert rows(engine, "SELECT day FROM semantic.token_usage") == expected
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT set_config('timezone', :zone, false)"), {"zone": zone})
            assert token_usage.today(connection) == 40


def test_counts_that_could_not_be_written_are_written_later(engine: sa.Engine) -> None:
    [usage] = Workers(engine).usages
    execute(engine, "ALTER TABLE semantic.token_usage RENAME TO hidden")
    usage.record(admitted=0, used=0, billed=5)
    usage.settle()
    with pytest.raises(sa.exc.DBAPIError):
        usage.write()
    execute(engine, "ALTER TABLE semantic.hidden RENAME TO token_usage")
    usage.settle()
    usage.settle()
    assert (today(engine), usage.billed) == (5, 5)


def test_a_request_waits_while_another_session_holds_the_counts(engine: sa.Engine) -> None:
    workers, waited = Workers(engine), threading.Event()
    workers.send(1)
    [usage] = workers.usages
    with engine.connect() as holder, holder.begin() as held:
        holder.execute(sa.text("SELECT FROM semantic.token_usage FOR UPDATE"))

        def let_go(_: float) -> None:
            if held.is_active:
                held.rollback()
            waited.set()

        usage._wait = let_go
        usage.admit(1)
    assert waited.is_set()


@pytest.mark.parametrize(
    ("given", "tokens", "setting"),
    [
        ({"max_tokens_per_day": 500}, 500, "max_tokens_per_day"),
        ({"max_dollars_per_day": 2.0, "dollars_per_million_tokens": 0.5}, 4_000_000, "max_dollars_per_day"),
        (
            {"max_tokens_per_day": 500, "max_dollars_per_day": 2.0, "dollars_per_million_tokens": 0.5},
            500,
            "max_tokens_per_day",
        ),
    ],
)
def test_the_budget_is_the_setting_that_allows_less(given: dict[str, Any], tokens: int, setting: str) -> None:
    budget = daily_budget.of(Settings(**given))
    assert budget is not None
    assert (budget.tokens, budget.setting) == (tokens, setting)
    assert budget.overspent(tokens - 1) is None
    said = budget.overspent(tokens)
    assert said is not None
    assert setting in said
    assert ("$2.00" in said) == (setting == "max_dollars_per_day")


def test_dollars_need_a_price() -> None:
    assert daily_budget.of(Settings(dollars_per_million_tokens=0.5)) is None
    with pytest.raises(errors.ConfigurationError, match="PG_SEMANTIC_DOLLARS_PER_MILLION_TOKENS"):
        daily_budget.of(Settings(max_dollars_per_day=2.0))
