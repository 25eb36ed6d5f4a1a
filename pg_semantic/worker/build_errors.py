"""Why an index could not be built: what the server said, and which setting to change."""

from sqlalchemy import exc

from pg_semantic import database

_STATEMENT_TIMEOUT = (
    "it gave way to somebody who needed the table, or, behind a pooler, the role has a short statement_timeout (ALTER "
    "ROLE ... SET statement_timeout = 0)"
)
_READ_ONLY = "the role or the database is read-only by default (ALTER ROLE ... SET default_transaction_read_only = off)"

# What to change, by SQLSTATE or the beginning of it; the longest that fits is taken.
_ADVICE = {
    "25006": _READ_ONLY,
    "25P04": "the role has a short transaction_timeout (ALTER ROLE ... SET transaction_timeout = 0)",
    "42501": "the worker's role must own the table, and must be allowed to create in its schema and tablespace",
    "42704": "pgvector must be on the search_path of the worker's role (ALTER ROLE ... SET search_path = ...)",
    "53": "the server is short of resources: free some, then wait for the next attempt",
    "53100": "the disk is full: free some space for the data folder and for temporary files",
    "53200": "the server is out of memory: lower maintenance_work_mem or max_parallel_maintenance_workers",
    "53400": "a limit of the server's was reached: raise the setting that it names, such as temp_file_limit",
    "54": "the server or pgvector has a limit: raise maintenance_work_mem if it is named, or declare the index with "
    "storage='halfvec' or fewer dimensions",
    "57014": _STATEMENT_TIMEOUT,
    "58": "the server could not read or write a file: look at its log, and at its disk",
}
_SHARED_MEMORY = (
    "the server's shared memory is too small (in a container: --shm-size): give it as much as maintenance_work_mem, or "
    "lower that, or set max_parallel_maintenance_workers = 0"
)


def reason(error: exc.DBAPIError) -> str:
    """What the server said as it built an index, its SQLSTATE, and what to change.

    Of an error that the data caused only the kind is told, since the message may quote it.
    """
    state = database.sqlstate(error) or ""
    said = str(error.orig).strip().partition("\n")[0]
    if state.startswith(("22", "23")):
        said = type(error.orig).__name__
    advice = _SHARED_MEMORY if "shared memory" in said else _advice(state)
    if others := database.refusal_of_others(error):
        return others
    told = f"{said} (SQLSTATE {state})" if state else said
    return f"{told}: {advice}" if advice else told


def _advice(state: str) -> str:
    fits = [known for known in _ADVICE if state.startswith(known)]
    return _ADVICE[max(fits, key=len)] if fits else ""
