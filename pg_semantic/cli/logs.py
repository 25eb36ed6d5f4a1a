"""How the worker logs: lines for a person, or JSON objects for a collector; both to standard error.

Every record has fields beside its message: ``event`` and what belongs to it (``index``, ``rows``, ``key``). A row's
text is in none of them.
"""

import logging
from typing import Literal

from pythonjsonlogger.json import JsonFormatter


def configure(*, style: Literal["text", "json"], level: int) -> None:
    """Sets up logging for the process; other packages log warnings only."""
    handler = logging.StreamHandler()
    if style == "json":
        renamed = {"asctime": "time", "levelname": "level", "name": "logger"}
        handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=renamed))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("pg_semantic").setLevel(level)
