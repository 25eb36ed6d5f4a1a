"""Finds words that we don't use in documentation, docstrings, comments and messages: run by `make check`.

The list holds phrases that read like a translation, with what to write instead.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

WORDS = {
    r"can not": "cannot, can't",
    r"anew": "again, re-",
    r"for ever": "forever",
    r"mends?|mended|mending": "fix, repair",
    r"troubled?|troubles": "problem",
    r"rights": "privileges",
    r"<{7}|>{7}": "a merge conflict to resolve",
    r"hung": "installed, stuck",
    r"beside": "next to, in addition to, alongside",
    r"goes on|go on": "continues, continue",
    r"nobody|whoever": "no one, or say who",
    r"so many": "up to N",
    r"(?:is|are) told": "say who says what",
    r"has it made": "asks X to",
    r"what is there|that there (?:is|are)": "existing",
    r"(?:is|are) of": "belongs to, comes from",
    r"of which": "whose, or two sentences",
    r"came past|come past": "bypassed",
    r"for the last time": "say what happens next",
    r"signs? of life": "heartbeat",
    r"in our words": "as our exceptions",
    r"quantis\w+|tokenis\w+|normalis\w+|colour\w*": "American spelling",
}
_ANY = "|".join(f"(?P<w{number}>{word})" for number, word in enumerate(WORDS))
_FORBIDDEN = re.compile(rf"(?<![\w`-])(?:{_ANY})(?![\w-])", re.IGNORECASE)
_CODE = re.compile(r"^(`{3,}).*?^\1|``.+?``|`[^`\n]+`|https?://\S+", re.DOTALL | re.MULTILINE)
_IN_PYTHON = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
_SUFFIXES = {".py", ".md", ".sql", ".html"}
_SKIPPED = ("benchmarks/RESULTS.md", "docs/contributing/questions.md", "tests/", "scripts/check_words.py", "LICENSE")


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """Yields the texts of a file that people read, with the line where each begins."""
    content = file.read_text("utf-8")
    if file.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(content).readline):
            if token.type in _IN_PYTHON:
                yield token.start[0], token.string
    elif file.suffix == ".sql":
        for number, line in enumerate(content.splitlines(), 1):
            if "--" in line or "'" in line:
                yield number, line
    else:
        yield 1, content


def faults(file: Path) -> Iterator[str]:
    """Yields each forbidden word in a file, with its place and what to write instead."""
    for start, text in texts(file):
        shown = _CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
        for found in _FORBIDDEN.finditer(shown):
            line = start + shown.count("\n", 0, found.start())
            advice = list(WORDS.values())[int((found.lastgroup or "w0")[1:])]
            yield f"{file.relative_to(ROOT)}:{line}: {found[0]!r}: {advice}"


def main() -> int:
    """Prints the forbidden words in all tracked files, and returns 1 if there are any."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S607
    names = listed.stdout.splitlines()
    files = [ROOT / name for name in names if Path(name).suffix in _SUFFIXES and not name.startswith(_SKIPPED)]
    found = [fault for file in files if file.exists() for fault in faults(file)]
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
