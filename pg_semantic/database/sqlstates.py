"""Classifies SQLSTATEs: what caused an error, and whether to try again."""

from typing import Literal

Fault = Literal["row", "key", "taken", "busy", "lost", "later"]
"""What caused an error.

``row``: the data of one row, which will fail again until it changes. ``key``: the row was deleted, or its key changed.
``taken``: another row has the same unique key, temporarily or permanently. ``busy``: another transaction is
temporarily in the way. ``lost``: the connection or the server failed. ``later``: something unrelated to a single row,
so the whole batch waits.
"""

# Data exceptions and exceeded program limits; NOT NULL and CHECK violations; corrupted stored data.
_ROW_CLASSES = ("22", "54")
_ROW = {"23502", "23514", "XX001"}

_KEY = {"23503"}  # foreign key violation

_TAKEN = {"23505"}  # unique violation

# Serialization failure, deadlock, lock not available.
_BUSY = {"40001", "40P01", "55P03"}

# Connection exceptions and shutdowns; a server that is no longer the primary, or that ended a transaction that was idle
# or took too long.
_LOST_CLASSES = ("08", "57P")
_LOST = {"25006", "25P03", "25P04"}


def fault(state: str) -> Fault:
    """Returns what caused the error with this SQLSTATE.

    Args:
        state: Five characters, as sent by the server.

    Returns:
        ``later`` for every code without another classification, so that an unknown error never parks a row.
    """
    if state in _ROW or state.startswith(_ROW_CLASSES):
        return "row"
    if state in _KEY:
        return "key"
    if state in _TAKEN:
        return "taken"
    if state in _BUSY:
        return "busy"
    if state in _LOST or state.startswith(_LOST_CLASSES):
        return "lost"
    return "later"
