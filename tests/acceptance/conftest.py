"""Encoders of many architectures, made when a test first asks for them."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance import architectures


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an encoder of `architectures.ENCODERS`; not to be written to."""
    root = tmp_path_factory.mktemp("encoders")
    return functools.cache(lambda name: architectures.make(name, root))
