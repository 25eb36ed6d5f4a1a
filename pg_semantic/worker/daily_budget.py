"""The budget of a day (UTC) for remote encoders, in tokens or in dollars."""

from dataclasses import dataclass

from pg_semantic import errors, settings
from pg_semantic.settings import Settings


@dataclass(frozen=True, slots=True)
class DailyBudget:
    """How many tokens may be sent to remote encoders on one day before backfill pauses.

    Attributes:
        tokens: Their number.
        setting: The setting that it comes from: the one that allows less.
        limit: Its value, for messages.
    """

    tokens: int
    setting: str
    limit: str

    def overspent(self, tokens: int) -> str | None:
        """Returns why backfill is paused if this many tokens have been sent today; None if it isn't.

        The reason is the same for all workers, and doesn't change while it holds.
        """
        if tokens < self.tokens:
            return None
        return f"the budget of the day for remote encoders is spent ({self.setting} = {self.limit}) until 00:00 UTC"


def of(given: Settings) -> DailyBudget | None:
    """Returns the budget in the settings; None if they have none.

    Raises:
        errors.ConfigurationError: There is a budget in dollars, but no price.
    """
    price, dollars = given.dollars_per_million_tokens, given.max_dollars_per_day
    budgets = []
    if given.max_tokens_per_day is not None:
        budgets.append(DailyBudget(given.max_tokens_per_day, "max_tokens_per_day", f"{given.max_tokens_per_day:,}"))
    if dollars is not None:
        if price is None:
            raise errors.ConfigurationError(
                f"{settings.variable('max_dollars_per_day')} needs a price: set "
                f"{settings.variable('dollars_per_million_tokens')} too."
            )
        budgets.append(DailyBudget(max(1, round(dollars / price * 1e6)), "max_dollars_per_day", f"${dollars:,.2f}"))
    return min(budgets, key=lambda one: one.tokens, default=None)
