"""A seed that numpy, torch or Postgres would refuse is refused before any work."""

from collections.abc import Callable

import pytest

from pg_semantic import errors
from pg_semantic.training import EncoderTraining, Mining, QueryTraining, RerankerTraining, StaticTraining
from pg_semantic.tuning import ChunkTuningOptions, TuningOptions


@pytest.mark.parametrize("seed", [-1, 2**32, 2**63])
@pytest.mark.parametrize(
    "made",
    [
        lambda seed: EncoderTraining(seed=seed),
        lambda seed: QueryTraining(seed=seed),
        lambda seed: RerankerTraining(seed=seed),
        lambda seed: StaticTraining(seed=seed),
        lambda seed: Mining(seed=seed),
        lambda seed: TuningOptions(seed=seed).check(),
        lambda seed: ChunkTuningOptions(sizes=[128], seed=seed).check(),
    ],
)
def test_a_seed_out_of_range_is_refused(made: Callable[[int], object], seed: int) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"^seed={seed} must be 0 to 4294967295"):
        made(seed)
    made(2**32 - 1)
