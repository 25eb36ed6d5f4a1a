"""Logging of workers and the service to standard error: lines for people, or JSON objects for a log collector.

In addition to its message, every record has the field ``event`` and its details (``index``, ``rows``, ``key``). No
field contains the text of a row.
"""

import logging
from typing import Literal

from pythonjsonlogger.json import JsonFormatter


def configure(*, style: Literal["text", "json"], level: int) -> None:
    """Sets up logging for the process.

    Args:
        style: One line of text, or one JSON object, per record.
        level: For the loggers of this package. Other packages log warnings and errors only.
    """
    handler = logging.StreamHandler()
    if style == "json":
        renamed = {"asctime": "time", "levelname": "level", "name": "logger"}
        handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=renamed))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("pg_semantic").setLevel(level)
