"""Access to the service: callers need the key or, if it has none, must be on this machine."""

import ipaddress
import secrets

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from pg_semantic import errors
from pg_semantic.service import error_responses
from pg_semantic.settings import Settings, variable

OPEN = frozenset({"/health", "/ready"})  # for supervisors and monitors
_NO_KEY = "The key is missing or wrong: send the service's key as `Authorization: Bearer KEY`."
_OTHER_HOST = "Without a key, the service answers only requests to localhost: use that name, or set a key."


def require_key_beyond_loopback(host: str, settings: Settings) -> None:
    """Requires a key for an address that other machines can reach.

    Args:
        host: The host name or IP address to listen on.

    Raises:
        errors.ConfigurationError: ``host`` isn't a loopback address and no key is set, or the key is blank.
    """
    if not _is_loopback(host) and key_of(settings) is None:
        raise errors.ConfigurationError(
            f"Anyone who can reach {host} could use the service: set {variable('service_api_key')}, or listen on "
            "127.0.0.1."
        )


def key_of(settings: Settings) -> bytes | None:
    """Returns the service's key, or None if it has none.

    Raises:
        errors.ConfigurationError: The key is blank.
    """
    if settings.service_api_key is None:
        return None
    key = settings.service_api_key.get_secret_value().strip()
    if not key:
        raise errors.ConfigurationError(f"{variable('service_api_key')} is blank: set a key, or unset the variable.")
    return key.encode()


class ApiKeyMiddleware:
    """Middleware that refuses requests without the key, before their bodies are read.

    Without a key, it refuses requests whose ``Host`` header names another machine: a website could resolve its own
    name to this one (DNS rebinding).

    Args:
        key: None if the service has no key.
        open_paths: Paths that need no key.
    """

    def __init__(self, app: ASGIApp, *, key: bytes | None, open_paths: frozenset[str] = OPEN) -> None:
        self._app = app
        self._key = key
        self._open = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it with status 401 or 421."""
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
    """Returns the host in lower case, without its port."""
    return host.lower() if host.endswith("]") else host.lower().rpartition(":")[0] or host.lower()
