"""Divides examples into batches in which no text is a false negative: `SeparateBatches`.

An in-batch loss takes each text of a batch, answer or negative, for wrong for all queries of the batch but its own. So
two examples must not be in one batch if a text of one answers the query of the other, or probably does: because their
queries are connected by rows or texts that answer them. Batches that are made by dropping one of such examples would
lose most pairs of a query with many answers. Here, each example is in one batch of an epoch.

Nothing here uses torch.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from pg_semantic.training import passages
from pg_semantic.training.encoder.examples import Example
from pg_semantic.training.passages import Passage
from pg_semantic.training.query_side import folds

_ORDERS = 4  # that are tried, if negatives keep examples from filling as few batches as possible


@dataclass(frozen=True, slots=True)
class BatchNeeds:
    """What an example must not share a batch with.

    Attributes:
        component: The number of its component: no other example of that component.
        answers: What answers its query, as rows and texts: no example that has one of these as a negative.
        negatives: Its negatives, as rows and texts: no example whose query one of these answers.
    """

    component: int
    answers: frozenset[str] = frozenset()
    negatives: frozenset[str] = frozenset()


def needs(examples: Sequence[Example], texts: Mapping[Passage, str]) -> list[BatchNeeds]:
    """Returns what each example must not share a batch with.

    Args:
        examples: The examples.
        texts: The texts of all passages. Rows with the same text count as one.
    """
    names = passages.names_of(texts)
    answers: dict[str, set[str]] = defaultdict(set)
    for one in examples:
        answers[one.query] |= {*names(one.positive), *(() if one.row is None else (f"row {one.row}",))}
    components = dict(zip(answers, folds.numbers_of(answers).tolist(), strict=True))
    return [
        BatchNeeds(
            components[one.query],
            frozenset(answers[one.query]),
            frozenset(name for passage in one.negatives for name in names(passage)),
        )
        for one in examples
    ]


class SeparateBatches:
    """The batches of each epoch, the same number in all of them.

    There are as few as possible: usually each has ``size`` examples, or one less. If a component has more examples than
    that makes batches, there are as many batches as it has examples, and all are smaller.

    Args:
        examples: What each example must not share a batch with.
        size: The most examples of a batch.
        seed: The same seed gives the same batches.
    """

    def __init__(self, examples: Sequence[BatchNeeds], *, size: int, seed: int) -> None:
        self.size = size
        self._examples = examples
        self._seed = seed
        largest = max(Counter(one.component for one in examples).values(), default=0)
        self._fewest = max(-(-len(examples) // size), largest)
        self._first = self._divided(0)

    def __len__(self) -> int:
        return len(self._first)

    def epoch(self, number: int) -> list[list[int]]:
        """Returns the batches of an epoch, as numbers of examples. Each example is in one of them."""
        made = self._divided(number)
        if len(made) > len(self):
            made = [list(batch) for batch in self._first]
            random.Random(f"{self._seed} {number}").shuffle(made)  # noqa: S311 - not a secret
        while len(made) < len(self):  # the number of steps is planned before the first epoch
            largest = max(made, key=len)
            made.append([largest.pop() for _ in range(len(largest) // 2)])
        return made

    def _divided(self, epoch: int) -> list[list[int]]:
        """Returns the fewest batches among those of some random orders of the examples."""
        best: list[list[int]] = []
        for order in range(_ORDERS):
            choose = random.Random(f"{self._seed} {epoch} {order}")  # noqa: S311 - not a secret
            made = _Filling(self._examples, count=self._fewest, size=self.size).filled(choose)
            if not best or len(made) < len(best):
                best = made
            if len(best) <= self._fewest:
                break
        return best


class _Filling:
    """Deals examples to batches in turn, and leaves out the batches that an example must not be in."""

    def __init__(self, examples: Sequence[BatchNeeds], *, count: int, size: int) -> None:
        self._examples, self._size = examples, size
        self._batches: list[list[int]] = [[] for _ in range(count)]
        self._with: defaultdict[tuple[str, str | int], set[int]] = defaultdict(set)
        self._negatives = Counter(name for one in examples for name in one.negatives)
        self._next = 0

    def filled(self, choose: random.Random) -> list[list[int]]:
        """Returns the batches in random order."""
        components: dict[int, list[int]] = defaultdict(list)
        for number, one in enumerate(self._examples):
            components[one.component].append(number)
        dealt = list(components.values())
        choose.shuffle(dealt)
        dealt.sort(key=self._avoided, reverse=True)
        for members in dealt:
            choose.shuffle(members)
            for number in members:  # one after the other, so that each is in another batch
                self._add(number)
        batches = [batch for batch in self._batches if batch]
        choose.shuffle(batches)
        return batches

    def _avoided(self, members: Sequence[int]) -> int:
        """Returns about how many examples can't be with these, as a power of 2: the fewer places, the earlier."""
        answers = {name for number in members for name in self._examples[number].answers}
        return sum(self._negatives[name] for name in answers).bit_length()

    def _add(self, number: int) -> None:
        one = self._examples[number]
        taken = [found for name in self._conflicts(one) if (found := self._with.get(name))]
        place = self._place(taken)
        self._batches[place].append(number)
        self._next = (place + 1) % len(self._batches)
        for name in self._own(one):
            self._with[name].add(place)

    def _place(self, taken: Sequence[set[int]]) -> int:
        """Returns the next batch that isn't full or taken; a new one if there is none."""
        count = len(self._batches)
        for place in chain(range(self._next, count), range(self._next)):
            if len(self._batches[place]) < self._size and not any(place in one for one in taken):
                return place
        self._batches.append([])
        return count

    def _own(self, one: BatchNeeds) -> Iterator[tuple[str, str | int]]:
        yield "component", one.component
        yield from (("answer", name) for name in one.answers)
        yield from (("negative", name) for name in one.negatives)

    def _conflicts(self, one: BatchNeeds) -> Iterator[tuple[str, str | int]]:
        yield "component", one.component
        yield from (("negative", name) for name in one.answers)
        yield from (("answer", name) for name in one.negatives)
