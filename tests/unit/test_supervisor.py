"""How processes are watched: what reaches them, in what order, and what is made of how they end."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pg_semantic.worker import supervisor

PATIENCE_SECONDS = 30

SUPERVISOR = """
import logging, sys
from pg_semantic.worker.supervisor import Supervisor

logging.basicConfig(stream=sys.stdout, format="%(message)s")
restart, *devices = sys.argv[2:]
command = lambda device: [sys.executable, "-c", sys.argv[1], device]
sys.exit(Supervisor(devices, command, restart=restart == "restart", environment={"GIVEN": "yes"}).run())
"""

UNTIL = """
import logging, sys
from pg_semantic.worker.supervisor import Supervisor

logging.basicConfig(stream=sys.stdout, format="%(message)s")
looks = iter([False, True])
second = lambda: next(looks)
all_died = lambda: watched.last_death is not None and not any(child.is_running for child in watched._children)
watched = Supervisor(["a", "b"], lambda _: [sys.executable, "-c", sys.argv[2]], restart=True, environment={})
code = watched.run({"second": second, "all died": all_died}[sys.argv[1]])
print("ended", code, watched.was_interrupted, watched.last_death)
"""

SAYS_WHAT_IT_IS_TOLD = """
import os, signal, sys

def say(*words):
    os.write(1, " ".join(map(str, words)).encode() + b"\\n")

signal.signal(signal.SIGTERM, lambda *_: say("told"))
signal.signal(signal.SIGINT, lambda *_: say("interrupted"))
say("ready", os.environ["GIVEN"], os.getpgrp() == os.getpid())
while os.read(0, 1):
    pass
say("closed")
"""

IS_ENDED_BY_A_SIGNAL = """
import os
os.write(1, b"ready\\n")
os.read(0, 1)
"""

ENDS_WITH_ITS_DEVICE = "import sys; sys.exit(int(sys.argv[1]))"

KILLS_ITSELF = "import os; os.kill(os.getpid(), 9)"


class Supervised:
    """A supervisor process, and what its children say."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def hears(self) -> str:
        """Waits for a line of a child's."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def ends(self) -> int:
        """Waits for the end of all, which say no more; the exit code."""
        output, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
        assert output == ""
        return self.process.returncode


@pytest.fixture
def processes() -> Iterator[list["subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        with process:
            process.kill()


def supervise(started: list["subprocess.Popen[str]"], child: str, *devices: str, restart: bool = True) -> Supervised:
    command = [sys.executable, "-c", SUPERVISOR, child, "restart" if restart else "once", *devices]
    started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return Supervised(started[-1])


Processes = list["subprocess.Popen[str]"]


def test_a_child_has_the_environment_and_a_process_group_of_its_own(processes: Processes) -> None:
    assert supervise(processes, SAYS_WHAT_IT_IS_TOLD, "a").hears() == "ready yes True"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_signals_are_passed_on_as_sigterm_and_a_third_kills(processes: Processes, number: signal.Signals) -> None:
    watched = supervise(processes, SAYS_WHAT_IT_IS_TOLD, "a")
    watched.hears()
    for _ in range(2):
        watched.process.send_signal(number)
        assert watched.hears() == "told"
    watched.process.send_signal(number)
    assert watched.ends() == 128 + signal.SIGKILL


def test_the_pipe_of_every_child_closes_when_the_supervisor_is_killed(processes: Processes) -> None:
    watched = supervise(processes, SAYS_WHAT_IT_IS_TOLD, "a", "b")
    assert [watched.hears(), watched.hears()] == ["ready yes True"] * 2
    watched.process.kill()
    assert [watched.hears(), watched.hears()] == ["closed"] * 2


def test_a_child_that_is_still_starting_when_told_to_stop_has_ended_well(processes: Processes) -> None:
    watched = supervise(processes, IS_ENDED_BY_A_SIGNAL, "a", "b")
    assert [watched.hears(), watched.hears()] == ["ready", "ready"]
    watched.process.send_signal(signal.SIGTERM)
    assert watched.ends() == 0


def test_a_child_that_ends_is_started_again_and_the_wait_for_that_ends_at_a_signal(processes: Processes) -> None:
    watched = supervise(processes, "import os; os.write(1, b'here\\n')", "a")
    for wait in ("0.5", "1.0"):
        assert watched.hears() == "here"
        assert watched.hears() == f"worker on a exited with 0, restarting in {wait} s"
    watched.process.send_signal(signal.SIGTERM)
    assert watched.ends() == 0


@pytest.mark.parametrize(("devices", "code"), [(["0", "0"], 0), (["3", "1"], 3), (["0", "1"], 1)])
def test_children_that_are_not_started_again_end_it_with_the_worst_exit_code(
    processes: Processes, devices: list[str], code: int
) -> None:
    assert supervise(processes, ENDS_WITH_ITS_DEVICE, *devices, restart=False).ends() == code


def test_a_child_that_was_killed_counts_as_a_shell_counts_it(processes: Processes) -> None:
    assert supervise(processes, KILLS_ITSELF, "a", restart=False).ends() == 128 + signal.SIGKILL


def test_the_wait_before_a_start_doubles_up_to_half_a_minute() -> None:
    waits, wait = [], 0.0
    for _ in range(8):
        wait = supervisor.wait_seconds(wait, ran_seconds=1)
        waits.append(wait)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_the_wait_before_a_start_is_short_again_after_a_good_run() -> None:
    assert supervisor.wait_seconds(30, ran_seconds=60) == 0.5
    assert supervisor.wait_seconds(0, ran_seconds=1) == 0.5


@pytest.mark.parametrize(
    ("until", "child", "death"),
    [
        ("second", "import os; os.read(0, 1)", "None"),
        ("all died", "raise SystemExit(3)", "the worker on b exited with 3. Its log says why."),
    ],
)
def test_children_end_when_there_is_nothing_left_to_do_and_none_is_started_again(
    until: str, child: str, death: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNTIL, until, child],
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    last = done.stdout.splitlines()[-1]
    assert last in {f"ended 0 False {death}", f"ended 0 False {death.replace('on b', 'on a')}"}
