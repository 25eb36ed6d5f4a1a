"""What ends the wait for a stage."""

from concurrent.futures import Future
from typing import Any

import pytest

from pg_semantic.worker.fast_lane import FastLane


def test_a_thread_that_fails_ends_the_wait_for_a_stage_that_is_still_busy() -> None:
    nothing: Any = None

    def check() -> None:
        raise ConnectionError("a heartbeat failed")

    lane = FastLane(nothing, check, scheduler=nothing, held=nothing, connection=nothing, ahead=nothing)
    with pytest.raises(ConnectionError):
        lane.wait_for(Future[None]())
