"""What a worker works on: `Assignment`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker works on.

    Attributes:
        index: The only semantic index to serve, by name, with its schema if the name isn't unique; None for all.
        rows_only: Whether to sync rows and do nothing else: build no index, count no statistics, measure no recall, and
            answer no queries.
    """

    index: str | None = None
    rows_only: bool = False


EVERYTHING = Assignment()
