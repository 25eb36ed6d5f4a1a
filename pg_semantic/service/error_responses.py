"""Errors as HTTP responses: a status for each, and the body ``{"error": {"message", "type", "param", "code"}}``.

The body has the shape of OpenAI's API. No response repeats what the client sent, or says where the database is.
"""

import logging
from collections.abc import Mapping
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy import exc
from starlette.exceptions import HTTPException

from pg_semantic import database, errors
from pg_semantic.service.request_limits import FieldError
from pg_semantic.settings import variable

log = logging.getLogger("pg_semantic.service")

RETRY_SECONDS = 1
_AGAIN = {"Retry-After": str(RETRY_SECONDS)}
_SERVERS_FAULT = 500
_DATABASE_AWAY = "The database is unavailable. Try again; the service's log has the reason."
_REJECTED = "The database rejected a statement. The service's log has the reason; trying again won't help."
_TOO_LONG = (
    "The database canceled a statement, most likely because it took too long. Request less. The timeout of searches is "
    f"{variable('service_statement_seconds')}."
)
_KNOWN = (  # the first match decides
    (errors.EncoderUnavailable, 503, "encoder_unavailable"),
    (errors.EncoderMismatch, 503, "encoder_mismatch"),
    (errors.MissingExtra, 503, "encoder_unavailable"),
    (errors.ClosedError, 503, "shutting_down"),
    (errors.EncoderError, 422, "refused_by_encoder"),
    (errors.QueryError, 422, "invalid_value"),
    (errors.IndexNotFound, 404, "index_not_found"),
    (errors.PgSemanticError, 503, "failed"),
)
_NO_JSON = "The request body isn't valid JSON."
_NOT_JSON = "The request body must be JSON, sent with the header `Content-Type: application/json`."
_UNREADABLE = "There was an error parsing the body"  # FastAPI's message for a body that isn't text, among others


def answer(
    status: int, message: str, code: str, *, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Returns the response to a request that was refused or failed.

    Args:
        code: Names the error for programs.
        param: The field at fault, if it is known.
    """
    kind = "server_error" if status >= _SERVERS_FAULT else "invalid_request_error"
    kind = "rate_limit_error" if status == 429 else kind  # noqa: PLR2004 - Too Many Requests
    content = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(content, status, headers)


def overloaded(message: str) -> JSONResponse:
    """Returns a 429 response, which asks the client to try again later."""
    return answer(429, message, "overloaded", headers=_AGAIN)


def register(app: FastAPI) -> None:
    """Registers the handlers that turn exceptions into these responses."""
    app.add_exception_handler(errors.PgSemanticError, _of_ours)
    app.add_exception_handler(exc.DBAPIError, _of_driver)
    app.add_exception_handler(exc.TimeoutError, _of_pool)
    app.add_exception_handler(RequestValidationError, _of_request)
    app.add_exception_handler(HTTPException, _of_http)


async def _of_ours(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, errors.DatabaseError):
        return _of_database(error)
    if isinstance(error, errors.EncoderUnavailable) and error.overloaded:
        return overloaded(str(error))
    known = ((status, code) for kind, status, code in _KNOWN if isinstance(error, kind))
    status, code = next(known, (_SERVERS_FAULT, "failed"))
    param = error.param if isinstance(error, FieldError) else None
    return answer(status, str(error), code, param=param, headers=_AGAIN if status == 503 else None)  # noqa: PLR2004 - as above


async def _of_driver(_: Request, error: Exception) -> JSONResponse:
    translated = database.translate(cast("exc.DBAPIError", error))
    translated.__cause__ = error
    return await _of_ours(_, translated)


async def _of_pool(_: Request, __: Exception) -> JSONResponse:
    return overloaded("All database connections are in use. Try again in a moment.")


async def _of_request(request: Request, error: Exception) -> JSONResponse:
    found = cast("RequestValidationError", error).errors()
    # A validator's own message says more than "not a list", and the like.
    first = next((one for one in found if one["type"] == "value_error"), found[0])
    if first["type"] == "json_invalid":
        return answer(422, _NO_JSON, "invalid_value")
    field = next((str(part) for part in first["loc"][1:2]), None)
    if field is None and not _is_json(request):
        return answer(422, _NOT_JSON, "invalid_value")
    said = first["msg"].removeprefix("Value error, ")
    return answer(422, f"{field or 'The request body'}: {said}", "invalid_value", param=field)


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


async def _of_http(_: Request, error: Exception) -> JSONResponse:
    known = cast("HTTPException", error)
    if known.detail == _UNREADABLE:
        return answer(422, _NO_JSON, "invalid_value")
    return answer(known.status_code, str(known.detail), f"http_{known.status_code}", headers=known.headers)


def _of_database(error: errors.DatabaseError) -> JSONResponse:
    cause = error.__cause__
    driver = cause if isinstance(cause, exc.DBAPIError) else None
    state = database.sqlstate(driver) if driver else None
    if driver and database.is_canceled(driver):
        return answer(503, _TOO_LONG, "database_timeout", headers=_AGAIN)
    if driver and not isinstance(error, errors.NotInstalled) and not _is_temporary(driver):
        # The message of a value that doesn't fit quotes it, and no text or key may be logged.
        said = type(driver.orig).__name__ if database.fault(driver) == "row" else str(error)
        log.error("the database rejected a statement: %s", said, extra={"event": "rejected", "sqlstate": state})
        return answer(500, _REJECTED, "database_error")
    log.error("the database is unavailable: %s", error, extra={"event": "database_away", "sqlstate": state})
    return answer(503, _DATABASE_AWAY, "database_unavailable", headers=_AGAIN)


def _is_temporary(error: exc.DBAPIError) -> bool:
    return database.fault(error) in {"busy", "lost"} or database.is_short_of_resources(error)
