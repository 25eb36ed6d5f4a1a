"""Texts of any length with few or no sentences, which are hard on splitters, tokenizers and regular expressions."""

import random
from collections.abc import Callable

_DRAWN = random.Random(1)  # noqa: S311 - not for security
_WORDS = ["tea", "coffee", "harbour", "of", "a", "copper", "lantern"]
_DRAWN_LENGTH = 20_000
_BASE64 = "".join(_DRAWN.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=_DRAWN_LENGTH))
_DNA = "".join(_DRAWN.choices("ACGT", k=_DRAWN_LENGTH))
_SPOKEN = " ".join(_DRAWN.choices(_WORDS, k=_DRAWN_LENGTH)) + " "


def _repeated(part: str) -> Callable[[int], str]:
    return lambda size: (part * (size // len(part) + 1))[:size]


TEXTS: dict[str, Callable[[int], str]] = {
    "JSON on one line": lambda size: ('{"a":[' + ",".join(map(str, range(size // 5))))[: size - 2] + "]}",
    "base64": _repeated(_BASE64),
    "DNA": _repeated(_DNA),
    "one letter": _repeated("x"),
    "Thai": _repeated("การค้นหาความหมาย"),
    "Chinese": _repeated("按含义查找行"),
    "a transcript": _repeated(_SPOKEN),
    "blank lines": lambda size: "a" + _repeated("\n \t")(size - 2) + "b",
    "marks": _repeated("|-+"),
    "combining marks": lambda size: "e" + _repeated("\u0301")(size - 1),
    "emoji": _repeated("👩‍🚀"),
}
"""Functions by name that return a text with the given number of characters."""
