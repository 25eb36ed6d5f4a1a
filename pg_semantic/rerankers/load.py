"""From a reranker's reference to a reranker."""

from typing import TYPE_CHECKING

from pg_semantic import errors
from pg_semantic.encoders.local import weights
from pg_semantic.rerankers.base import Reranker

if TYPE_CHECKING:
    from pg_semantic.settings import Settings


def load(reference: str, *, settings: "Settings | None" = None) -> Reranker:
    """Loads a cross-encoder: a hub name ``org/name`` or ``org/name@revision``, or a folder, also by ``encoder_paths``.

    Settings are by default those of the environment. Raises `errors.EncoderError` when it is nowhere to be found or
    does not give one score a pair, and `errors.MissingExtra` without the ``encode`` extra.
    """
    try:
        return _load(reference, settings=settings or _environment())
    except errors.PgSemanticError:
        raise
    except Exception as error:
        raise errors.EncoderError(
            f"Reranker {reference!r} can not be loaded ({type(error).__name__}: {error}). See the setting device, and "
            "whether its files are whole."
        ) from error


def _load(reference: str, *, settings: "Settings") -> Reranker:
    from pg_semantic.rerankers import cross_encoder  # loads torch only when there are weights to load

    folder = weights.folder(reference, settings.encoder_paths)
    return cross_encoder.CrossEncoderReranker.load(folder, reference=reference, settings=settings)


def _environment() -> "Settings":
    from pg_semantic import settings  # loads pydantic, which a searcher does not need

    return settings.load()
