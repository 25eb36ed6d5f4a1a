"""Hashes that decide whether text or an encoder is the same as before."""

import hashlib


def content_hash(text: str) -> bytes:
    """SHA-256 of the text's UTF-8 bytes; Postgres' ``sha256(convert_to(text, 'UTF8'))`` gives the same."""
    return hashlib.sha256(text.encode()).digest()


def encoder_id(reference: str, dimensions: int) -> int:
    """A stable positive 63-bit number for an encoder reference at a number of dimensions.

    It is known before the encoder has ever been loaded, so that DDL can pin it in a CHECK.
    """
    digest = hashlib.sha256(f"{reference}\n{dimensions}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
