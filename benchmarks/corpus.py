"""Texts for benchmarks: the tldr pages that come with the package (see ``pg_semantic/demo/data/SOURCE.md``)."""

import functools
import itertools
from collections.abc import Iterator

from pg_semantic.demo import tldr_pages

_SHORT = 300  # characters; three pages in ten are shorter


@functools.cache
def pages() -> tuple[str, ...]:
    """Every page, its title first."""
    return tuple(f"{page.title}\n{page.text}" for page in tldr_pages.pages())


@functools.cache
def short_pages() -> tuple[str, ...]:
    """The pages of at most 300 characters, no two the same."""
    return tuple(dict.fromkeys(page for page in pages() if len(page) <= _SHORT))


def lines() -> Iterator[str]:
    """Lines of pages, as short texts; over and over."""
    return itertools.cycle(line for page in pages() for line in page.splitlines())


@functools.cache
def wishes() -> tuple[str, ...]:
    """What the pages' examples are for, in a few words each, as people ask for it; no two the same."""
    pieces = (line.partition(": ") for page in pages() for line in page.splitlines())
    return tuple(dict.fromkeys(wish for wish, of_command, _ in pieces if of_command))
