"""Hashes that tell whether a text or an encoder has changed."""

import hashlib
import json

HASH_BYTES = 32


def content_hash(text: str) -> bytes:
    """Returns the SHA-256 of the text's UTF-8 bytes, like ``sha256(convert_to(text, 'UTF8'))`` in Postgres."""
    return hashlib.sha256(text.encode()).digest()


def encoder_id(
    reference: str, dimensions: int, *, query_prompt: str | None = None, document_prompt: str | None = None
) -> int:
    """Returns a stable, positive 63-bit number for an encoder reference, its dimensions and its declared prompts.

    The number doesn't require loading the encoder, so DDL can use it in a CHECK constraint.
    """
    identity = f"{reference}\n{dimensions}"
    if query_prompt is not None or document_prompt is not None:
        identity += f"\n{json.dumps([query_prompt, document_prompt])}"
    digest = hashlib.sha256(identity.encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
