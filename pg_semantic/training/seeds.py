"""What a seed can be, for numpy, torch and Postgres alike: `require`."""

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
