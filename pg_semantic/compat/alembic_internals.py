"""What Alembic's comparison can do but offers only to ``env.py``."""

from collections.abc import Callable
from typing import Any

from alembic.autogenerate.api import AutogenContext


def add_filters(context: AutogenContext, *, by_name: Callable[..., Any], by_object: Callable[..., Any]) -> None:
    """Adds filters like ``include_name`` and ``include_object`` to those of the environment.

    Alembic has no public way to do so, and users should not have to add one in every environment.
    """
    context._name_filters.append(by_name)  # noqa: SLF001
    context._object_filters.append(by_object)  # noqa: SLF001
