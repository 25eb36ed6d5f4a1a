"""The unit for systemd: valid, in step with the package, and with no more rights than a worker needs."""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import typer

from pg_semantic import cli, settings

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "pg-semantic-worker@.service"
GIVE_BACK_SECONDS = 5  # of a worker whose drain took too long
EXPOSURE = 20  # of 100; systemd calls this "OK"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def parsed() -> dict[str, list[str]]:
    """All values of each setting, in order."""
    found = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


SETTINGS = parsed()


def only(name: str) -> str:
    [value] = SETTINGS[name]
    return value


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that this machine has."""
    program = only("ExecStart").split()[0]
    made = tmp_path / UNIT.name
    made.write_text(UNIT.read_text().replace(program, sys.executable))
    return made


@needs_systemd
def test_systemd_accepts_the_unit_without_a_warning(installed: Path) -> None:
    instance = installed.with_name(installed.name.replace("@", "@shop"))
    done = subprocess.run(["systemd-analyze", "verify", str(instance)], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if UNIT.name.partition("@")[0] in line]
    assert (done.returncode, ours) == (0, [])


@needs_systemd
def test_a_worker_is_exposed_to_little(installed: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", str(installed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:]


def test_the_unit_runs_a_command_of_ours_with_settings_of_ours() -> None:
    program, *arguments = only("ExecStart").split()
    assert program == "/opt/pg-semantic/bin/pg-semantic"
    assert f"{Path(program).parent}/pip install" in (ROOT / "docs/how-to/deploy.md").read_text()
    command: Any = typer.main.get_command(cli.app)
    with command.make_context("pg-semantic", list(arguments)) as context:
        _, found, rest = command.resolve_command(context, list(arguments))
        with found.make_context("worker", rest, parent=context):
            pass
    given = {one.partition("=")[0] for one in only("Environment").split()}
    assert given <= {"HF_HOME", *map(settings.variable, settings.Settings.model_fields)}
    folder = f"/var/lib/{only('StateDirectory')}"
    assert all(one.partition("=")[2].startswith(f"{folder}/") for one in only("Environment").split())


def test_a_worker_is_asked_once_to_stop_and_has_the_time_to_do_it() -> None:
    assert (only("KillMode"), only("KillSignal")) == ("mixed", "SIGTERM")
    drain = settings.Settings.model_fields["drain_seconds"].default
    assert int(only("TimeoutStopSec")) >= drain + 2 * GIVE_BACK_SECONDS


def test_a_worker_is_started_again_however_often_it_ends() -> None:
    assert (only("Restart"), only("StartLimitIntervalSec")) == ("always", "0")
    assert int(only("RestartSec")) > 0


def test_an_instance_reads_its_own_settings_and_no_secret_is_in_the_unit() -> None:
    assert only("EnvironmentFile") == "/etc/pg-semantic/%i.env"
    assert not re.search("DSN|PASSWORD|KEY", only("Environment"))
