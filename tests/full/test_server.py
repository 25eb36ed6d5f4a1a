"""The script that runs the server leaves the machine as it was."""

import os
import shlex
from pathlib import Path

import sqlalchemy as sa


def test_what_it_mounts_is_seen_by_nobody_else(primary: sa.URL) -> None:
    _, folder, *_ = shlex.split(os.environ["TEST_FULL_PSQL"])
    assert folder in Path("/proc/self/mountinfo").read_text()
    assert folder not in Path("/proc/1/mountinfo").read_text()
