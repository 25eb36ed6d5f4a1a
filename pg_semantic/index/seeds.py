"""What a seed can be, for numpy, torch and Postgres alike (`require`), and the random order that it gives (`order`)."""

import sqlalchemy as sa

from pg_semantic import errors

MOST = 2**32 - 1
"""The highest seed: numpy's global generator takes 32 bits."""


def require(seed: int) -> int:
    """Returns the seed unchanged.

    Raises:
        errors.ConfigurationError: It is negative, or above `MOST`.
    """
    if not 0 <= seed <= MOST:
        raise errors.ConfigurationError(f"seed={seed} must be 0 to {MOST}.")
    return seed


def order(name: sa.ColumnElement[str], seed: int) -> sa.ColumnElement[int]:
    """Returns what to order rows by so that the first ones are random: a hash, the same for the same rows and seed.

    Different names can have the same hash, so order by the name too.

    Args:
        name: A text that tells rows apart, such as `keys.as_text`.
        seed: Decides the order.
    """
    return sa.func.hashtextextended(name, sa.cast(seed, sa.BigInteger), type_=sa.BigInteger)
