"""What trainings of tests share."""

from pathlib import Path

from pg_semantic.training.checkpoints import Checkpoints


def no_checkpoints() -> Checkpoints:
    """Checkpoints of a training that is neither resumed nor kept."""
    return Checkpoints(Path("unused"), seconds=float("inf"), resume=False)
