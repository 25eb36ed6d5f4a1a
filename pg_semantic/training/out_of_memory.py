"""Says what to change if memory runs out in a training: `translated`."""

import contextlib
from collections.abc import Iterator

from pg_semantic import errors


@contextlib.contextmanager
def translated(advice: str) -> Iterator[None]:
    """Raises an error that says what to do, instead of one of torch, if memory runs out in the block.

    Args:
        advice: What to change.

    Raises:
        errors.ConfigurationError: Memory ran out.
    """
    from pg_semantic.encoders.local import transformer

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not transformer.is_out_of_memory(error):
            raise
        raise errors.ConfigurationError(f"Memory ran out while training: {advice}.") from error
