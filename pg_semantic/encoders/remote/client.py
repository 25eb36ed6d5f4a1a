"""The HTTP client of a remote encoder. It detects the server's API dialect once, and retries failed requests."""

import functools
import re
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai
import tenacity

from pg_semantic import errors
from pg_semantic.encoders.base import Vectors
from pg_semantic.encoders.encoder_thread import Kind
from pg_semantic.encoders.fork_safety import PerProcess
from pg_semantic.encoders.remote import response as answers
from pg_semantic.encoders.remote import response_errors
from pg_semantic.encoders.remote.response_errors import NotUnderstood, Translator
from pg_semantic.encoders.remote.traffic import Attempts, Traffic
from pg_semantic.index.known_encoders import Prompts
from pg_semantic.settings import Endpoint, Settings

_PROBE = "a short text"
_PROBE_RETRIES = 2  # few, because other indexes wait while a worker loads an encoder
_CONNECT_SECONDS = 5.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.25, 8.0

_FORMATS: tuple[Mapping[str, str], ...] = ({"encoding_format": "base64"}, {"encoding_format": "float"}, {})
_DIMENSIONS = ("dimensions", "output_dimension")
_VERSION = re.compile(r"/v\d[^/]*(/|$)")


@dataclass(frozen=True, slots=True)
class _ApiDialect:
    """How to send requests to a server: the path prefix after its URL, and the format of vectors."""

    prefix: str
    format: Mapping[str, str]


class EmbeddingsClient:
    """A client for the server that `settings.encoder_urls` names for an encoder.

    Errors of the server are raised as `errors.EncoderError` or a subclass. Failed requests are retried as often as the
    settings say. While the server is unavailable, requests aren't retried until one succeeds, so an outage costs the
    time of all retries only once. A text that makes the server fail costs one retry and one probe.

    Args:
        reference: The encoder reference.
        settings: Must have this reference in ``encoder_urls``.
    """

    def __init__(self, reference: str, settings: Settings) -> None:
        self.reference = reference
        self.endpoint = settings.encoder_urls[reference]
        self.name = self.endpoint.model or reference
        self.fingerprint: str | None = None
        self.document_fingerprint: str | None = None
        self.prompts = Prompts()  # prompts that the server adds itself, if it reports them
        self.resized_to: int | None = None
        self._resizing: Mapping[str, int] = {}
        self._dialect = _dialects(self.endpoint.url)[0]
        self._most_retries = settings.remote_retries
        self._retries = min(self._most_retries, _PROBE_RETRIES)
        self._attempts = Attempts()
        self._clients = PerProcess(functools.partial(_client, self.endpoint, settings, self._attempts))
        self._headers = _headers(settings)
        who = f"The server of encoder {reference!r} at {self.endpoint.url}"
        self._errors = Translator(who, self.name, settings.remote_timeout_seconds, self.is_healthy)
        weakref.finalize(self, _close, self._clients)

    def open(self) -> int:
        """Detects the server's API dialect.

        Most servers accept the first one. Others have their API under ``/v1`` of the URL, or reject base64 vectors or
        unknown fields.

        Returns:
            The number of dimensions of its vectors.

        Raises:
            errors.EncoderUnavailable: The server is unavailable, or accepts no known dialect.
            errors.EncoderError: The server's response cannot be used.
        """
        problem: NotUnderstood | None = None
        for dialect in _dialects(self.endpoint.url):
            self._dialect = dialect
            try:
                return len(self.encode([_PROBE])[0])
            except NotUnderstood as error:
                problem = problem or error
        assert problem is not None  # noqa: S101 - there is at least one dialect
        raise problem

    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: Kind = "document",
        dimensions: int | None = None,
        traffic: Traffic | None = None,
    ) -> Vectors:
        """Encodes texts in one request, with retries.

        Args:
            texts: Texts, with the prompt if this client adds it.
            kind: Sent only to this package's own service.
            dimensions: The expected number of dimensions; by default that of the first vector.
            traffic: Gets what was sent, also if that fails.

        Raises:
            errors.EncoderError: The server rejects a text.
            errors.EncoderMismatch: Vectors have other dimensions.
            errors.EncoderUnavailable: The server is unavailable.
        """
        try:
            answer = self._answer(texts, kind, Traffic() if traffic is None else traffic)
            found = answers.vectors(answer, texts=len(texts), dimensions=dimensions, reference=self.reference)
        except openai.OpenAIError as error:
            problem = self._errors.of_client(error)
        except errors.EncoderMismatch:
            raise
        except errors.EncoderUnavailable as error:
            problem = error
        except (errors.EncoderError, ValueError) as error:  # an unreadable response
            problem = self._errors.unreadable(error)
        else:
            self._retries = self._most_retries
            return found
        if isinstance(problem, errors.EncoderUnavailable):
            self._retries = 0
        raise problem  # outside the handler, so that the server's message isn't chained to it

    def is_healthy(self) -> bool:
        """Returns whether the server encodes a known good text, because some servers return 500 for a bad one."""
        try:
            answer = self._ask([_PROBE], retries=0, plain=True)
            answers.vectors(answer, texts=1, dimensions=None, reference=self.reference)
        except (openai.OpenAIError, errors.EncoderError, ValueError):
            return False
        return True

    def refuses(self, texts: int) -> bool:
        """Returns whether the server rejects this many known good texts in one request, for a permanent reason."""
        try:
            answer = self._ask([_PROBE] * texts, retries=0, plain=True)
            answers.vectors(answer, texts=texts, dimensions=None, reference=self.reference)
        except openai.APIStatusError as error:
            return error.status_code not in response_errors.OVERLOADED | response_errors.NO_ACCESS
        except openai.OpenAIError:
            return False
        except (errors.EncoderError, ValueError):
            return True
        return False

    def resize(self, dimensions: int) -> int | None:
        """Requests vectors with another number of dimensions from now on.

        Returns:
            The number of dimensions that the vectors now have, or None if the server refuses.

        Raises:
            errors.EncoderUnavailable: The server is unavailable.
        """
        found = None
        self.resized_to = dimensions
        for name in _DIMENSIONS:
            self._resizing = {name: dimensions}
            try:
                found = len(self.encode([_PROBE])[0])
            except errors.EncoderUnavailable:
                raise
            except errors.EncoderError:
                continue
            if found == dimensions:
                break
        return found

    def look_up_fingerprint(self) -> None:
        """Reads the fingerprint and prompts from the server's list of models; only this package's service has them.

        Raises:
            errors.EncoderUnavailable: The server is unavailable. A missing list is no error.
        """
        try:
            client = self._clients.get().with_options(max_retries=self._retries)
            answer = client.get(f"{self._dialect.prefix}/models", cast_to=object, options={"headers": self._headers})
        except openai.APIStatusError as error:
            is_passing = error.status_code in response_errors.OVERLOADED
            problem = self._errors.of_client(error) if is_passing else None
        except openai.APIConnectionError as error:
            problem = self._errors.of_client(error)
        except ValueError:  # the response isn't JSON
            return
        else:
            if known := answers.served(answer, name=self.name):
                self.fingerprint, self.document_fingerprint = known.fingerprint, known.document_fingerprint
                self.prompts = known.prompts
            return
        if problem is not None:  # it is unknown whether the server has a fingerprint
            raise problem

    def _answer(self, texts: Sequence[str], kind: Kind, traffic: Traffic) -> object:
        """Returns the server's response to these texts, after retries. Counts how often they were sent.

        Raises an error for a response that is one, whatever its status.
        """
        attempts = tenacity.Retrying(
            retry=self._is_to_be_asked_again,
            stop=tenacity.stop_after_attempt(1 + self._retries),
            wait=tenacity.wait_random_exponential(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS),
            reraise=True,
        )
        before = self._attempts.number
        try:
            answer = attempts(self._ask, texts, kind=kind, retries=self._retries)
        except openai.APITimeoutError:  # the server may have encoded them all the same
            traffic.answered(len(texts), None)
            raise
        finally:
            traffic.sent += len(texts) * (self._attempts.number - before)
        if (status := answers.refusal(answer)) in response_errors.SURELY_OVERLOADED:
            raise self._errors.of_answer(status)
        traffic.answered(len(texts), answers.tokens(answer))
        return answer

    def _is_to_be_asked_again(self, state: tenacity.RetryCallState) -> bool:
        """Retries a 500 once, and after that while the server also fails on a good text.

        The OpenAI client itself retries other errors, which don't depend on the text.
        """
        error = state.outcome.exception() if state.outcome else None
        is_500 = isinstance(error, openai.APIStatusError) and error.status_code == response_errors.BROKEN
        return is_500 and (state.attempt_number == 1 or not self.is_healthy())

    def _ask(self, texts: Sequence[str], *, retries: int, kind: Kind = "document", plain: bool = False) -> object:
        body: dict[str, Any] = {"input": list(texts), "model": self.name, **self._dialect.format}
        if not plain:
            body |= self._resizing
        if self.fingerprint:  # only this package's own service has one
            body |= {"input_type": kind, "truncate": True}
        client = self._clients.get().with_options(max_retries=retries)
        path = f"{self._dialect.prefix}/embeddings"
        before = self._attempts.number
        try:
            return client.post(path, cast_to=object, body=body, options={"headers": self._headers})
        finally:
            if plain:  # a probe isn't an attempt to send the texts
                self._attempts.number = before


def _dialects(url: str) -> list[_ApiDialect]:
    """Returns the dialects to try, most likely first. A URL that contains a version needs no prefix."""
    prefixes = [""] if _VERSION.search(url) else ["", "/v1"]
    return [_ApiDialect(prefix, format_) for prefix in prefixes for format_ in _FORMATS]


def _client(endpoint: Endpoint, settings: Settings, attempts: Attempts) -> openai.OpenAI:
    """Creates a client that ignores OpenAI's environment variables, whose key must not be sent to other servers."""
    key, seconds = settings.remote_api_key, settings.remote_timeout_seconds
    return openai.OpenAI(
        base_url=endpoint.url,
        api_key=key.get_secret_value().strip() if key else "none",
        admin_api_key="",
        timeout=openai.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
        http_client=openai.DefaultHttpxClient(
            event_hooks={"request": [attempts.count], "response": [_disable_retries]}
        ),
    )


def _disable_retries(response: Any) -> None:
    """Prevents the client from retrying a 500, which the text may have caused."""
    if response.status_code == response_errors.BROKEN:
        response.headers["x-should-retry"] = "false"


def _close(clients: PerProcess[openai.OpenAI]) -> None:
    if client := clients.made:
        client.close()


def _headers(settings: Settings) -> dict[str, openai.Omit]:
    """Returns the headers that the client must not add."""
    names = ["OpenAI-Organization", "OpenAI-Project"]
    return dict.fromkeys(names if settings.remote_api_key else [*names, "Authorization"], openai.Omit())
