"""The state that all requests of a service share."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias, cast

from fastapi import Depends, Request

from pg_semantic.service.loaded_models import LoadedModels
from pg_semantic.service.metrics import Metrics
from pg_semantic.service.searchers import IndexSearchers
from pg_semantic.settings import Settings


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """A service's settings, encoders, metrics and database; ``indexes`` is None without a database."""

    settings: Settings
    models: LoadedModels
    metrics: Metrics
    indexes: IndexSearchers | None


async def _of(request: Request) -> ServiceContext:  # async, because FastAPI runs sync dependencies in threads
    return cast("ServiceContext", request.app.state.context)


ServiceDep: TypeAlias = Annotated[ServiceContext, Depends(_of)]
