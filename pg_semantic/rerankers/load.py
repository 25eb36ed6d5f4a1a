"""Loads a reranker by its reference."""

from typing import TYPE_CHECKING

from pg_semantic import errors
from pg_semantic.encoders.local import weights
from pg_semantic.rerankers.base import Reranker

if TYPE_CHECKING:
    from pg_semantic.settings import Settings


def load(reference: str, *, settings: "Settings | None" = None) -> Reranker:
    """Loads a cross-encoder.

    Args:
        reference: A hub name (``org/name`` or ``org/name@revision``) or a folder. The setting ``encoder_paths`` can map
            a name to a folder.
        settings: By default, the settings of the environment.

    Raises:
        errors.EncoderError: The reranker cannot be found or loaded, or does not return one score per pair.
        errors.MissingExtra: The ``encode`` extra is not installed.
    """
    try:
        return _load(reference, settings=settings or _environment())
    except errors.PgSemanticError:
        raise
    except Exception as error:
        raise errors.EncoderError(
            f"Reranker {reference!r} cannot be loaded ({type(error).__name__}: {error}). Check "
            "PG_SEMANTIC_DEVICE, and that its files are complete."
        ) from error


def _load(reference: str, *, settings: "Settings") -> Reranker:
    from pg_semantic.rerankers import cross_encoder  # imports torch, so only when there are weights to load

    folder = weights.folder(reference, settings.encoder_paths, of="Reranker")
    return cross_encoder.CrossEncoderReranker.load(folder, reference=reference, settings=settings)


def _environment() -> "Settings":
    from pg_semantic import settings  # imports pydantic, which a searcher does not need

    return settings.load()
