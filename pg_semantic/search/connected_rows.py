"""Connects rows that are alike: `connect` joins them in `DisjointSets`, whose sets are then the groups.

Among m rows that are all alike there are about m² pairs, but m - 1 of them connect the rows. So each chunk is first
compared with its `similar_chunks.NEAREST` chunks only. A pair that this misses has two chunks whose results were both
cut off, since otherwise one of them would have found the other. If all such chunks are in one set, no connection is
missing.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import TypeAlias

from pg_semantic.search import similar_chunks
from pg_semantic.search.similar_chunks import AskedChunk, SimilarChunks

_CutOff: TypeAlias = list[tuple[AskedChunk, int]]  # chunks whose results were cut off, and how many to ask for next


@dataclass(slots=True)
class DisjointSets:
    """Disjoint sets of keys, with path halving and union by size (Tarjan and van Leeuwen 1984)."""

    _parents: dict[str, str] = field(default_factory=dict)
    _sizes: dict[str, int] = field(default_factory=dict)

    def join(self, one: str, other: str) -> None:
        """Merges the sets of two keys. A new key is a set of its own."""
        small, large = sorted((self.root(one), self.root(other)), key=self._sizes.__getitem__)
        if small != large:
            self._parents[small] = large
            self._sizes[large] += self._sizes.pop(small)

    def sets(self) -> list[list[str]]:
        """Returns the sets."""
        found = defaultdict(list)
        for key in self._parents:
            found[self.root(key)].append(key)
        return list(found.values())

    def root(self, key: str) -> str:
        """Returns the key that stands for the set of a key. A new key is a set of its own."""
        if key not in self._parents:
            self._parents[key], self._sizes[key] = key, 1
        while (parent := self._parents[key]) != key:
            self._parents[key] = key = self._parents[parent]
        return key


def connect(
    chunks: SimilarChunks,
    sets: DisjointSets,
    *,
    copied: Container[bytes],
    least: float,
    on_rows: Callable[[int], object],
) -> None:
    """Joins all rows with near chunks. Takes a search for each chunk, and more only between sets of many near rows.

    Args:
        chunks: The chunks to compare.
        sets: The sets, where rows with the same text are joined already.
        copied: As in `SimilarChunks.near`, like ``on_rows``.
        least: The least cosine similarity of near chunks.
    """
    cut_off: _CutOff = []
    for page in chunks.pages(copied=copied, on_rows=on_rows):
        cut_off += _joined(chunks, sets, page, count=similar_chunks.NEAREST, least=least)
    while True:
        by_set: dict[str, _CutOff] = defaultdict(list)
        for one in cut_off:
            by_set[sets.root(one[0].text.row)].append(one)
        if len(by_set) < 2:  # noqa: PLR2004 - a connection needs two
            return
        # A connection between two sets is found from either, so the largest one need not be asked.
        *others, cut_off = sorted(by_set.values(), key=len)
        for count, some in itertools.groupby(sorted(itertools.chain(*others), key=_count), key=_count):
            cut_off += _joined(chunks, sets, [one for one, _ in some], count=count, least=least)


def _joined(chunks: SimilarChunks, sets: DisjointSets, asked: list[AskedChunk], *, count: int, least: float) -> _CutOff:
    """Joins the rows of chunks with those of their nearest chunks, and returns which chunks may have more of them."""
    cut_off: _CutOff = []
    for one, near in chunks.nearest(asked, count=count, least=lambda: least):
        for found in near:
            sets.join(found.first.row, found.second.row)
        if len(near) == count:
            cut_off.append((similar_chunks.without_copies(one, near), 2 * count))
    return cut_off


def _count(one: tuple[AskedChunk, int]) -> int:
    return one[1]
