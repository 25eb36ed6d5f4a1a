"""Texts that a database can store or contain, whatever its encoding."""

import codecs
import re
from typing import Any

import psycopg
import sqlalchemy as sa

_CODECS = re.compile(r"^WIN(\d+)$")  # Python has another name for these, and for KOI8R


def storable(text: str, driver: psycopg.Connection[Any]) -> str:
    """Returns a text of any origin as the server can store it.

    NUL characters, and those that the client's or the server's encoding lacks, are escaped with backslashes.
    """
    of_server = _codec(driver.info.parameter_status("server_encoding")) or "ascii"  # a subset of every encoding
    for encoding in (driver.info.encoding, of_server):
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text.replace("\0", "\\x00")


def searchable(text: str, connection: sa.Connection) -> str:
    """Returns a text with question marks for characters that the server's encoding, and so any stored word, lacks."""
    if text.isascii():
        return text
    for codec in _codecs(connection.connection.driver_connection):
        text = text.encode(codec, "replace").decode(codec)
    return text


def _codecs(driver: Any) -> list[str]:  # noqa: ANN401 - psycopg, asyncpg, psycopg2 or another
    """Returns Python's names of the client's and the server's encoding, as far as the driver tells them."""
    if info := getattr(driver, "info", None):
        known = [getattr(info, "encoding", None), _codec(info.parameter_status("server_encoding"))]
    elif hasattr(driver, "get_settings"):
        known = [_codec(getattr(driver.get_settings(), "server_encoding", None))]
    else:
        known = []
    return [codec for codec in known if codec]


def _codec(server_encoding: str | None) -> str | None:
    """Returns Python's name of a server encoding, or None if Python doesn't know it."""
    name = _CODECS.sub(r"cp\1", server_encoding or "").replace("KOI8", "KOI8-")
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None
