"""What was sent to a server for some texts: attempts, and the tokens that its responses report."""

import threading
from dataclasses import dataclass
from typing import Any


class Attempts(threading.local):
    """Counts the requests that each thread sends, also those that the client library repeats by itself."""

    number = 0

    def count(self, _: Any) -> None:
        """Counts a request that is about to be sent. The argument is the request."""
        self.number += 1


@dataclass(slots=True)
class Traffic:
    """What was sent for some texts, and what is known of its cost.

    Attributes:
        sent: How many texts were sent; each attempt counts.
        reported: How many texts were encoded in requests whose response has a number of tokens.
        tokens: Those tokens.
        unreported: How many texts were encoded in other requests, or may have been, because the request timed out.
    """

    sent: int = 0
    reported: int = 0
    tokens: int = 0
    unreported: int = 0

    def answered(self, texts: int, tokens: int | None) -> None:
        """Adds a request that was answered, with the number of tokens in its response."""
        if tokens is None:
            self.unreported += texts
        else:
            self.reported += texts
            self.tokens += tokens

    def used(self, tokens_per_text: float) -> int:
        """Returns how many tokens were sent, if each text has this many where the server reports none."""
        return self.tokens + round(max(0, self.sent - self.reported) * tokens_per_text)

    def billed(self, tokens_per_text: float) -> int:
        """Returns how many tokens the server encoded. A request that it refused costs nothing."""
        return self.tokens + round(self.unreported * tokens_per_text)
