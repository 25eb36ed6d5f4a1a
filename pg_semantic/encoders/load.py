"""From an encoder's reference to an encoder."""

from typing import TYPE_CHECKING

from pg_semantic import errors
from pg_semantic.encoders import prompts as prompting
from pg_semantic.encoders.base import Encoder
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.encoders.local import weights
from pg_semantic.index import encoder_catalog
from pg_semantic.index.encoder_catalog import Prompts

if TYPE_CHECKING:
    from pg_semantic.settings import Settings


def load(
    reference: str,
    *,
    dimensions: int | None = None,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    settings: "Settings | None" = None,
) -> Encoder:
    """Loads an encoder; ``hashed:N`` needs no weights, and one with a URL in the settings is asked for a vector.

    ``dimensions`` truncates the vectors of an encoder that was trained for it (Matryoshka) and is otherwise a check.
    ``query_prompt`` and ``document_prompt`` are put before texts in place of the encoder's own prompts, or those of the
    catalog; an empty text is no prompt.
    Settings are by default those of the environment. Raises `errors.EncoderError` when it is nowhere to be found,
    `errors.EncoderUnavailable` when its server can not be used, `errors.EncoderMismatch` when its vectors have other
    dimensions, `errors.MissingExtra` without the ``encode`` or ``remote`` extra.
    """
    try:
        encoder = _load(
            reference, dimensions, prompts=Prompts(query_prompt, document_prompt), settings=settings or _environment()
        )
    except errors.PgSemanticError:
        raise
    except Exception as error:
        raise errors.EncoderError(
            f"Encoder {reference!r} can not be loaded ({type(error).__name__}: {error}). See the setting device, and "
            "whether its files are whole."
        ) from error
    if dimensions is not None and encoder.dimensions != dimensions:
        raise errors.EncoderMismatch(
            f"Encoder {reference!r} makes vectors of {encoder.dimensions} dimensions, not {dimensions}: "
            f"declare the index with dimensions={encoder.dimensions}."
        )
    return encoder


def _load(reference: str, dimensions: int | None, *, prompts: Prompts, settings: "Settings") -> Encoder:
    prompts = prompting.declared(reference, prompts, settings)
    if reference in settings.encoder_urls:
        from pg_semantic.encoders.remote.encoder import RemoteEncoder  # loads pydantic and the client library

        return RemoteEncoder.load(reference, dimensions=dimensions, prompts=prompts, settings=settings)
    if reference.startswith("hashed:"):
        known = encoder_catalog.dimensions(reference)
        if not known:
            raise errors.EncoderError(f"{reference!r}: a hashed encoder is hashed:N with N dimensions, as hashed:64.")
        return HashedEncoder(known, query_prompt=prompts.query or "", document_prompt=prompts.document or "")
    from pg_semantic.encoders.local import backends  # loads torch only when there are weights to load

    folder = weights.folder(reference, settings.encoder_paths)
    return backends.load(folder, reference=reference, dimensions=dimensions, prompts=prompts, settings=settings)


def _environment() -> "Settings":
    from pg_semantic import settings  # loads pydantic, which a declaration does not need

    return settings.load()
