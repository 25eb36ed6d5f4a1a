"""Explains why an index could not be built: what the server said, and which setting to change."""

from sqlalchemy import exc

from pg_semantic import database

_STATEMENT_TIMEOUT = (
    "the build was canceled because another session needed the table or, behind a pooler, because the role has a "
    "short statement_timeout (ALTER ROLE ... SET statement_timeout = 0)"
)
_READ_ONLY = "the role or the database is read-only by default (ALTER ROLE ... SET default_transaction_read_only = off)"

# What to change, by SQLSTATE or its prefix. The longest match wins.
_ADVICE = {
    "25006": _READ_ONLY,
    "25P04": "the role has a short transaction_timeout (ALTER ROLE ... SET transaction_timeout = 0)",
    "42501": "the worker's role must own the table, and must be allowed to create in its schema and tablespace",
    "42704": "pgvector must be on the search_path of the worker's role (ALTER ROLE ... SET search_path = ...)",
    "53": "the server is short of resources: free some, then wait for the next attempt",
    "53100": "the disk is full: free some space for the data folder and for temporary files",
    "53200": "the server is out of memory: lower maintenance_work_mem or max_parallel_maintenance_workers",
    "53400": "a server limit was reached: raise the setting that the message names, such as temp_file_limit",
    "54": "a limit of the server or of pgvector was exceeded: raise maintenance_work_mem if the message names it, or "
    "declare the index with storage='halfvec' or fewer dimensions",
    "57014": _STATEMENT_TIMEOUT,
    "58": "the server could not read or write a file: look at its log and check its disk",
}
_SHARED_MEMORY = (
    "the server's shared memory is too small (in a container: --shm-size): make it as large as maintenance_work_mem, "
    "or lower that setting, or set max_parallel_maintenance_workers = 0"
)


def reason(error: exc.DBAPIError) -> str:
    """Describes why a build failed: the server's message, its SQLSTATE, and what to change.

    Replaces the message of an error that the data caused (class 22 or 23) with the type of the error, because such a
    message may quote the data.
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
