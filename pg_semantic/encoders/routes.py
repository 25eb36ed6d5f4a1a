"""Which modules of an encoder a text passes through: a router can send queries and documents different ways."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pg_semantic import errors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def modules(transformer: "SentenceTransformer", task: str) -> list[Any]:
    """Returns the modules that a text passes through, in order, without routers.

    Args:
        transformer: The encoder.
        task: ``document`` or ``query``.

    Raises:
        errors.EncoderError: A router has no route for the task.
    """
    return [module for child in transformer.children() for module in _of(child, task)]


def has_router(transformer: "SentenceTransformer") -> bool:
    """Returns whether queries and documents can pass through different modules."""
    return any(_is_router(module) for module in transformer.children())


def _of(module: Any, task: str) -> Iterator[Any]:
    if not _is_router(module):
        yield module
        return
    for inner in module.sub_modules[_route(module, task)]:
        yield from _of(inner, task)


def _is_router(module: Any) -> bool:
    return hasattr(module, "sub_modules")


def _route(router: Any, task: str) -> str:
    """Returns the name of the route that sentence-transformers takes for a text.

    Raises:
        errors.EncoderError: It would raise an error.
    """
    named: dict[Any, str] = {(task, None): task, (None, "text"): "text"}
    mapped = router.route_mappings
    for known in (mapped, {key: name for key, name in named.items() if name in router.sub_modules}):
        for key in ((task, "text"), (task, None), (None, "text"), (None, None)):
            if key in known:
                return str(known[key])
    raise errors.EncoderError(
        f"The encoder's router has no route for a {task}, only for {', '.join(map(repr, router.sub_modules))}: save it "
        "with Router.for_query_document(...)."
    )
