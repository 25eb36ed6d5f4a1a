"""Whether files have texts that they must not have."""

import re
from collections.abc import Iterable
from pathlib import Path

LEAST = 12
"""The least characters of a text that is looked for: shorter ones may stand in any vocabulary."""

_PRINTABLE = re.compile(f"[ -~]{{{LEAST},}}")
_PRINTABLE_BYTES = re.compile(_PRINTABLE.pattern.encode())


def searched(texts: Iterable[str], *, least: int = LEAST) -> set[str]:
    """Returns what a file has that has one of the texts: the longest run of printable ASCII in each of their lines.

    Such a run is the same in every encoding, and in JSON. One without a blank is left out: it may be a word.
    """
    runs = (max(_PRINTABLE.findall(line), key=len, default="") for text in texts for line in text.splitlines())
    return {run for run in runs if len(run) >= least and " " in run.strip()}


def leaked(runs: Iterable[str], contents: Iterable[bytes]) -> list[str]:
    """Returns the runs that the contents of any file have; weights are passed over, as they can't be printed."""
    printable = b"\0".join(found for content in contents for found in _PRINTABLE_BYTES.findall(content))
    return [run for run in runs if run.encode() in printable]


def contents(folder: Path) -> list[bytes]:
    """Returns what the files of a folder have."""
    return [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
