"""What the requests of a service share."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias, cast

from fastapi import Depends, Request

from pg_semantic.service.fleet import Fleet
from pg_semantic.service.indexes import Indexes
from pg_semantic.service.metrics import Metrics
from pg_semantic.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """A service's settings, encoders, figures, and its database, if it has one."""

    settings: Settings
    fleet: Fleet
    metrics: Metrics
    indexes: Indexes | None


async def _of(request: Request) -> Context:  # on the event loop: what is not async goes to a thread
    return cast("Context", request.app.state.context)


Shared: TypeAlias = Annotated[Context, Depends(_of)]
