"""Sentences that can ask for the rest of their text, in languages with and without spaces."""

import pytest

from pg_semantic.training import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rains. The violin is out of tune! Why?", ["The violin is out of tune!"]),
        ("小提琴的声音非常好听。是的。", ["小提琴的声音非常好听。"]),
        (
            "今日は雨が降っています。バイオリンは鳴りますか？はい",  # noqa: RUF001
            ["今日は雨が降っています。", "バイオリンは鳴りますか？"],  # noqa: RUF001
        ),
        ("ไวโอลินเสียงดีมาก ใช่", ["ไวโอลินเสียงดีมาก"]),
        ("internationalization. localization", []),
        ("小提琴的声音非常好听。", []),
    ],
)
def test_sentences_are_found_with_and_without_spaces(text: str, expected: list[str]) -> None:
    assert sentences.sentences(text) == expected
