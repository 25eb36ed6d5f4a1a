"""Texts for benchmarks: the tldr pages in the package (see ``pg_semantic/demo/data/SOURCE.md``)."""

import functools
import itertools
from collections.abc import Iterator

from pg_semantic.demo import tldr_pages

_SHORT = 300  # characters; three pages in ten are shorter


@functools.cache
def pages() -> tuple[str, ...]:
    """Returns every page, starting with its title."""
    return tuple(f"{page.title}\n{page.text}" for page in tldr_pages.pages())


@functools.cache
def short_pages() -> tuple[str, ...]:
    """Returns the distinct pages of at most 300 characters."""
    return tuple(dict.fromkeys(page for page in pages() if len(page) <= _SHORT))


def lines() -> Iterator[str]:
    """Yields lines of pages as short texts, in an endless cycle."""
    return itertools.cycle(line for page in pages() for line in page.splitlines())


@functools.cache
def wishes() -> tuple[str, ...]:
    """Returns the distinct descriptions of the pages' examples: a few words each, as people would search for them."""
    pieces = (line.partition(": ") for page in pages() for line in page.splitlines())
    return tuple(dict.fromkeys(wish for wish, of_command, _ in pieces if of_command))
