"""Who may ask: those with the key, or, where there is none, those on this machine."""

import ipaddress
import secrets

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from pg_semantic import errors
from pg_semantic.service import error_responses
from pg_semantic.settings import Settings, variable

OPEN = frozenset({"/health", "/ready"})  # for those that start and watch processes
_NO_KEY = "This needs the service's key: send it as `Authorization: Bearer KEY`."
_OTHER_HOST = "A service without a key answers to localhost alone, whatever name leads to it."


def require_key_beyond_loopback(host: str, settings: Settings) -> None:
    """Raises `errors.SettingsError` for an address that others can reach, unless they need a key."""
    if not _is_loopback(host) and key_of(settings) is None:
        raise errors.SettingsError(
            f"The service would be open to all who reach {host}: set {variable('service_api_key')}, or bind to "
            "127.0.0.1."
        )


def key_of(settings: Settings) -> bytes | None:
    """The key, if there is one. Raises `errors.SettingsError` for one that is blank."""
    if settings.service_api_key is None:
        return None
    key = settings.service_api_key.get_secret_value().strip()
    if not key:
        raise errors.SettingsError(f"{variable('service_api_key')} is blank: give a key, or unset it.")
    return key.encode()


class ApiKeyMiddleware:
    """Middleware: refuses, before a body is read, who has not the key.

    Without a key, requests that name another host than this machine are refused too: a web page could have its own name
    lead here.
    """

    def __init__(self, app: ASGIApp, *, key: bytes | None, open_paths: frozenset[str] = OPEN) -> None:
        self._app = app
        self._key = key
        self._open = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it."""
        app = self._app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if self._key is None:
                if not _is_loopback(_name(headers.get("host", ""))):
                    app = error_responses.answer(421, _OTHER_HOST, "wrong_host")
            elif scope["path"] not in self._open and not self._has_key(headers):
                app = error_responses.answer(401, _NO_KEY, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        await app(scope, receive, send)

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        is_same = secrets.compare_digest(given.strip(" \t").encode("latin-1"), self._key or b"")
        return scheme.lower() == "bearer" and is_same


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _name(host: str) -> str:
    """A host without its port."""
    return host.lower() if host.endswith("]") else host.lower().rpartition(":")[0] or host.lower()
