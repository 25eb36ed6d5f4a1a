"""What the requests of a service share."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias, cast

from fastapi import Depends, Request

from pg_semantic.service.loaded_encoders import LoadedEncoders
from pg_semantic.service.metrics import Metrics
from pg_semantic.service.searchers import IndexSearchers
from pg_semantic.settings import Settings


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """A service's settings, encoders, figures, and its database, if it has one."""

    settings: Settings
    fleet: LoadedEncoders
    metrics: Metrics
    indexes: IndexSearchers | None


async def _of(request: Request) -> ServiceContext:  # on the event loop: what is not async goes to a thread
    return cast("ServiceContext", request.app.state.context)


ServiceDep: TypeAlias = Annotated[ServiceContext, Depends(_of)]
