"""Hashes that decide whether text or an encoder is the same as before."""

import hashlib
import json


def content_hash(text: str) -> bytes:
    """SHA-256 of the text's UTF-8 bytes; Postgres' ``sha256(convert_to(text, 'UTF8'))`` gives the same."""
    return hashlib.sha256(text.encode()).digest()


def encoder_id(
    reference: str, dimensions: int, *, query_prompt: str | None = None, document_prompt: str | None = None
) -> int:
    """A stable positive 63-bit number for an encoder reference at a number of dimensions, with the declared prompts.

    It is known before the encoder has ever been loaded, so that DDL can pin it in a CHECK.
    """
    identity = f"{reference}\n{dimensions}"
    if query_prompt is not None or document_prompt is not None:
        identity += f"\n{json.dumps([query_prompt, document_prompt])}"
    digest = hashlib.sha256(identity.encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
