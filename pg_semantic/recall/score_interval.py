"""The interval of a recall that was measured on some of the possible queries."""

import math

NORMAL_QUANTILE = 1.959964  # the 97.5% quantile; leaves 5% outside an interval


def interval(mean: float, count: int, *, quantile: float = NORMAL_QUANTILE) -> tuple[float, float]:
    """Returns the score interval (Wilson 1927) of a mean of ``count`` shares, each 0 to 1.

    It is the interval of a binary variable, which varies the most with a given mean, so it is wide enough for any.

    Args:
        mean: The mean.
        count: Of how many shares.
        quantile: The quantile of the normal distribution at each end; by default, that of a 95% interval.
    """
    square = quantile**2 / count
    middle = (mean + square / 2) / (1 + square)
    reach = math.sqrt(mean * (1 - mean) * square + square**2 / 4) / (1 + square)
    return max(0.0, middle - reach), min(1.0, middle + reach)
