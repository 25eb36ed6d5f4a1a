"""What an SQLSTATE means for the work in hand: whose fault it is, and whether to try again."""

from typing import Literal

Fault = Literal["row", "key", "taken", "busy", "lost", "later"]
"""Who caused an error.

``row``: the data of one row, which fails again until it changes. ``key``: the row is gone or has another key by now.
``taken``: another row has its unique key, for a moment or for good. ``busy``: another transaction is in the way for a
moment. ``lost``: the connection or the server. ``later``: something else, which has nothing to do with one row: the
whole batch waits.
"""

# Data exceptions and exceeded program limits; NOT NULL and CHECK violations; a row whose stored bytes are damaged.
_ROW_CLASSES = ("22", "54")
_ROW = {"23502", "23514", "XX001"}

_KEY = {"23503"}  # foreign key violation

_TAKEN = {"23505"}  # unique violation

# Serialization failure, deadlock, lock not available.
_BUSY = {"40001", "40P01", "55P03"}

# Connection exceptions and shutdowns; a server that is not the primary any more, or that ended an idle transaction or
# one that took too long.
_LOST_CLASSES = ("08", "57P")
_LOST = {"25006", "25P03", "25P04"}


def fault(state: str) -> Fault:
    """Who caused the error with this SQLSTATE.

    Args:
        state: Five characters, as the server sends them.

    Returns:
        ``later`` for every code that isn't known to be something else, so that an unknown error never parks a row.
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
