"""Recognizes the same query in another spelling, and stands for it where its text must not be stored."""

import hashlib
import unicodedata


def normalized(query: str) -> str:
    """Returns a query without differences that are not worth a query of its own: case, width, and white space.

    Equal results are a compatibility caseless match (Unicode Standard, section 3.13, D146), apart from white space.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", query).casefold())
    return " ".join(unicodedata.normalize("NFKC", folded.casefold()).split())


def query_hash(query: str) -> bytes:
    """Returns the SHA-256 of a normalized query, 32 bytes. Short queries can be guessed from it."""
    return hashlib.sha256(normalized(query).encode()).digest()
