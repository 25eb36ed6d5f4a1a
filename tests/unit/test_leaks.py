"""The tests that look for texts in files find them, however they were written."""

import json

import numpy as np
import pytest

from tests import leaks

TEXT = 'Grüße an alle: a line of the row\nand "another" one'
NOISE = np.random.default_rng(0).bytes(100_000)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_text_is_found_between_weights_in_every_encoding(encoding: str) -> None:
    runs = leaks.searched([TEXT])
    assert runs == {"e an alle: a line of the row", 'and "another" one'}
    assert leaks.leaked(runs, [NOISE]) == []
    assert set(leaks.leaked(runs, [b"other", NOISE + TEXT.encode(encoding) + NOISE])) == runs


def test_a_text_is_found_in_json() -> None:
    assert leaks.leaked(leaks.searched([TEXT]), [json.dumps({"text": TEXT}).encode()]) == [
        "e an alle: a line of the row"
    ]


def test_words_and_short_texts_are_not_looked_for() -> None:
    assert leaks.searched(["internationalization", "a cat", " straightforward "]) == set()
    assert leaks.searched(["a line of text"], least=20) == set()
