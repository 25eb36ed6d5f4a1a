"""Loading an encoder by its reference."""

from typing import TYPE_CHECKING

from pg_semantic import errors
from pg_semantic.encoders import prompt_precedence as prompting
from pg_semantic.encoders.base import Encoder
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.encoders.local import weights
from pg_semantic.index import known_encoders
from pg_semantic.index.known_encoders import Prompts

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
    """Loads an encoder. If it has a URL in the settings, sends its server one short text.

    Args:
        reference: A hub name, a folder, or ``hashed:N``, which needs no weights.
        dimensions: Truncates the vectors of an encoder trained for that (Matryoshka); otherwise a check.
        query_prompt: Replaces the prompt of the encoder or the catalog; empty for no prompt.
        document_prompt: The same for documents.
        settings: By default from the environment.

    Raises:
        errors.EncoderError: The encoder is not found, or cannot be loaded.
        errors.EncoderUnavailable: Its server cannot be used.
        errors.EncoderMismatch: Its vectors have other dimensions.
        errors.MissingExtra: The extra ``encode`` or ``remote`` is missing.
    """
    try:
        encoder = _load(
            reference, dimensions, prompts=Prompts(query_prompt, document_prompt), settings=settings or _environment()
        )
    except errors.PgSemanticError:
        raise
    except Exception as error:
        raise errors.EncoderError(
            f"Encoder {reference!r} cannot be loaded ({type(error).__name__}: {error}). Check "
            "PG_SEMANTIC_DEVICE, and that its files are complete."
        ) from error
    if dimensions is not None and encoder.dimensions != dimensions:
        raise errors.EncoderMismatch(
            f"Encoder {reference!r} has {encoder.dimensions} dimensions, not {dimensions}: "
            f"declare the index with dimensions={encoder.dimensions}."
        )
    return encoder


def _load(reference: str, dimensions: int | None, *, prompts: Prompts, settings: "Settings") -> Encoder:
    prompts = prompting.declared(reference, prompts, settings)
    if reference in settings.encoder_urls:
        from pg_semantic.encoders.remote.encoder import RemoteEncoder  # imports the client library

        return RemoteEncoder.load(reference, dimensions=dimensions, prompts=prompts, settings=settings)
    if reference.startswith("hashed:"):
        known = known_encoders.dimensions(reference)
        if not known:
            raise errors.EncoderError(f"{reference!r} is not valid: use hashed:N for N dimensions, such as hashed:64.")
        return HashedEncoder(known, query_prompt=prompts.query or "", document_prompt=prompts.document or "")
    from pg_semantic.encoders.local import backends  # imports torch, which other encoders don't need

    folder = weights.folder(reference, settings.encoder_paths)
    return backends.load(folder, reference=reference, dimensions=dimensions, prompts=prompts, settings=settings)


def _environment() -> "Settings":
    from pg_semantic import settings  # imports pydantic, which a declaration doesn't need

    return settings.load()
