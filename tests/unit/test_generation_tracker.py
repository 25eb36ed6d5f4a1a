"""What a searcher loads as indexes are switched to other encoders: each for itself."""

import dataclasses
import threading
from collections.abc import Callable

import pytest

from pg_semantic import encoders, errors
from pg_semantic.encoders import BatchingEncoder
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.registry import Generation
from pg_semantic.search import generation_tracker
from pg_semantic.search.generation_tracker import GenerationTracker
from tests.db.library import Article


class AtOnce:
    """A thread that is done by the time that it was started."""

    def __init__(self, *, target: Callable[..., object], args: tuple[object, ...], **_: object) -> None:
        self.start = lambda: target(*args)


def live(number: int) -> Generation:
    spec = dataclasses.replace(Article.semantic.spec, schema="public", encoder=EncoderSpec(f"hashed:{number}", number))
    return Generation(number, f"index_{number}", "live", spec, backfilled=True, fingerprint=None)


def following(load: Callable[[EncoderSpec], BatchingEncoder], monkeypatch: pytest.MonkeyPatch) -> GenerationTracker:
    monkeypatch.setattr(threading, "Thread", AtOnce)
    return GenerationTracker(None, follow=True, load=load)


def loaded(spec: EncoderSpec) -> BatchingEncoder:
    return BatchingEncoder(encoders.load(spec.reference))


def test_an_encoder_that_can_not_be_loaded_keeps_no_other_from_being_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(spec: EncoderSpec) -> BatchingEncoder:
        asked.append(spec.reference)
        if spec.reference == "hashed:8":
            raise errors.EncoderError("nowhere to be found")
        return loaded(spec)

    known = following(load, monkeypatch)
    for number in (8, 16, 8):
        known._load_in_background(live(number))
    assert asked == ["hashed:8", "hashed:16"]
    assert [known._has(live(number)) for number in (8, 16)] == [False, True]


def test_an_encoder_that_is_long_in_loading_holds_no_other_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(spec: EncoderSpec) -> BatchingEncoder:
        if spec.reference == "hashed:8":
            for number in (8, 16):
                known._load_in_background(live(number))
            assert known._has(live(16))
        return loaded(spec)

    known = following(load, monkeypatch)
    known._load_in_background(live(8))
    assert known._has(live(8))


def test_an_encoder_of_the_same_name_with_other_weights_is_said_to_be_pinned_by_its_revision() -> None:
    other = BatchingEncoder(encoders.load("hashed:8"))
    built = dataclasses.replace(live(8), fingerprint="f" * 64, revision="revision 0a1b2c")
    said = str(generation_tracker.mismatch(built, other))
    assert "built with revision 0a1b2c" in said
    assert "hashed:8@REVISION" in said
    assert "Search with the same encoder" not in said
    assert "Search with the same encoder" in str(generation_tracker.mismatch(live(16), other))
