"""Loads encoders in a process of its own, whose instruction set is restricted: ``python -m ... FOLDER ...``.

Reads texts on standard input, a line each; writes vectors as JSON by folder, or why an encoder was refused.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pg_semantic import errors
from pg_semantic.encoders.base import Vectors
from pg_semantic.encoders.local import backends
from pg_semantic.settings import Settings


def load(folders: Sequence[Path], texts: Sequence[str], *, isa: str) -> dict[str, Vectors | str]:
    """By the folder's name: vectors that its encoder makes on at most this instruction set, or why it was refused."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.restricted", *map(str, folders)],
        input="\n".join(texts),
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": isa},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    return {name: one if isinstance(one, str) else np.array(one, np.float32) for name, one in found.items()}


def _vectors(folder: Path, texts: Sequence[str]) -> list[list[float]] | str:
    try:
        encoder = backends.load(folder, reference="any", dimensions=None, settings=Settings(device="cpu"))
    except errors.EncoderError as error:
        return str(error)
    return encoder.encode_documents(texts).tolist()  # type: ignore[no-any-return]


if __name__ == "__main__":
    lines = sys.stdin.read().split("\n")
    json.dump({Path(one).name: _vectors(Path(one), lines) for one in sys.argv[1:]}, sys.stdout)
