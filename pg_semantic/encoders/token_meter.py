"""The interface between a remote encoder and what limits and counts its tokens: `TokenMeter`. Has no implementation."""

from typing import Protocol, runtime_checkable


class TokenMeter(Protocol):
    """Limits how many tokens are sent, and counts them. Thread-safe."""

    @property
    def largest_request(self) -> float:
        """The most tokens that a request of several texts should have."""
        ...

    def admit(self, tokens: int) -> None:
        """Waits until a request with about this many tokens may be sent, on the thread that asks for vectors."""
        ...

    def record(self, *, admitted: int, used: int, billed: int) -> None:
        """Records what became of a request that was admitted. Doesn't wait, and may be called on any thread.

        Args:
            admitted: The tokens that it was admitted with.
            used: The tokens that it really sent, those of repeated attempts included: what counts for a rate limit.
            billed: The tokens that the server encoded, as far as known: what costs money.
        """
        ...

    def settle(self) -> None:
        """Writes down what was recorded, on the thread that asked for vectors. Never raises."""
        ...


@runtime_checkable
class Metered(Protocol):
    """An encoder whose tokens can be limited and counted, because each of them costs money or counts for a limit."""

    meter: TokenMeter | None
