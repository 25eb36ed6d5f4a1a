"""Connected components of judged queries, and the side of each: held out, or for tuning and training.

Queries are connected by the rows that are relevant to them. If one of two connected queries is trained on and the other
is held out, the encoder has learned the answer to the held-out query by heart, and the measure says little about new
queries. In SciFact, this holds for 196 of 300 test queries. So a component is never divided.

Nothing here uses the database.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Literal, TypeAlias

from pg_semantic.evaluation.judgements import Judgements

Side: TypeAlias = Literal["train", "held_out", "left_out"]
Component: TypeAlias = frozenset[bytes]


def connected(judgements: Judgements, hashes: Mapping[str, bytes]) -> list[Component]:
    """Returns the components of queries that are connected by relevant rows, directly or over other queries.

    Args:
        judgements: The judgements. Those with grade 0 connect nothing.
        hashes: The `query_hash` of each query. Queries with the same hash are the same query.
    """
    return connected_by((hashes[query], judgements.relevant(query)) for query in judgements.queries)


def connected_by(named: Iterable[tuple[bytes, Iterable[str]]]) -> list[Component]:
    """Returns the components of queries that name the same things, such as rows, directly or over other queries.

    Args:
        named: The `query_hash` of queries, with what each one names. The same query may come several times.
    """
    parents: dict[bytes | str, bytes | str] = {}

    def root(node: bytes | str) -> bytes | str:
        parents.setdefault(node, node)
        while (parent := parents[node]) != node:
            parents[node] = node = parents[parent]
        return node

    queries: dict[bytes, None] = {}
    for query, names in named:
        queries[query] = None
        for name in names:
            parents[root(name)] = root(query)
    found: dict[bytes | str, set[bytes]] = {}
    for query in queries:
        found.setdefault(root(query), set()).add(query)
    return [frozenset(members) for members in found.values()]


def assign(
    components: Sequence[Component], known: Mapping[bytes, bool], *, share: float, seed: int
) -> dict[bytes, Side]:
    """Returns the side of each query.

    A query keeps its known side, and new queries of its component join it. If queries of both sides have become
    connected, the held-out ones stay held out and those for training are left out. The other components are held out in
    random order, as long as this brings the number of held-out queries closer to their share.

    Args:
        components: The components, which together have all queries.
        known: For queries that have a side already, whether they are held out.
        share: How many of all queries to hold out, 0 to 1.
        seed: Decides the order together with the queries, and with nothing else.
    """
    sides: dict[bytes, Side] = {}
    undecided = []
    for component in components:
        recorded = {known[query] for query in component & known.keys()}
        if recorded:
            sides |= {query: _joined(known.get(query), among=recorded) for query in component}
        else:
            undecided.append(component)
    wanted = share * sum(map(len, components))
    held_out = sum(side == "held_out" for side in sides.values())
    for component in sorted(undecided, key=lambda one: _order(one, seed)):
        is_closer = abs(held_out + len(component) - wanted) < abs(held_out - wanted)
        held_out += len(component) if is_closer else 0
        sides |= dict.fromkeys(component, "held_out" if is_closer else "train")
    return sides


def _joined(known: bool | None, *, among: Set[bool]) -> Side:  # noqa: FBT001 - a value of the registry
    """Returns the side of a query in a component where some sides are known."""
    if True not in among:
        return "train"
    return "left_out" if known is False else "held_out"


def _order(component: Component, seed: int) -> bytes:
    return hashlib.sha256(b"%d " % seed + min(component)).digest()
