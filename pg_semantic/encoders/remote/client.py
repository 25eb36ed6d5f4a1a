"""The server of a remote encoder: how it is asked, which it is found out once, and how often."""

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
from pg_semantic.encoders.per_process import PerProcess
from pg_semantic.encoders.remote import response as answers
from pg_semantic.encoders.remote import response_errors
from pg_semantic.encoders.remote.response_errors import NotUnderstood, Translator
from pg_semantic.index.encoder_catalog import Prompts
from pg_semantic.settings import Endpoint, Settings

_PROBE = "a short text"
_PROBE_RETRIES = 2  # a worker that loads an encoder keeps other indexes waiting
_CONNECT_SECONDS = 5.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.25, 8.0

_FORMATS: tuple[Mapping[str, str], ...] = ({"encoding_format": "base64"}, {"encoding_format": "float"}, {})
_DIMENSIONS = ("dimensions", "output_dimension")
_VERSION = re.compile(r"/v\d[^/]*(/|$)")


@dataclass(frozen=True, slots=True)
class _ApiDialect:
    """How a server is asked: what is put after its URL, and in which format vectors are wanted."""

    prefix: str
    format: Mapping[str, str]


class EmbeddingsClient:
    """The server that `settings.encoder_urls` names for a reference, its errors put in our words.

    A request is tried again as often as the settings say, until the server was found to be unavailable: then once,
    until it has answered, so that an outage takes the time of all retries only once. A text that a server chokes on
    takes a second try and a probe.
    """

    def __init__(self, reference: str, settings: Settings) -> None:
        self.reference = reference
        self.endpoint = settings.encoder_urls[reference]
        self.name = self.endpoint.model or reference
        self.fingerprint: str | None = None
        self.prompts = Prompts()  # that it puts before texts itself, as far as it says so
        self.resized_to: int | None = None
        self._resizing: Mapping[str, int] = {}
        self._way = _ways(self.endpoint.url)[0]
        self._most_retries = settings.remote_retries
        self._retries = min(self._most_retries, _PROBE_RETRIES)
        self._clients = PerProcess(functools.partial(_client, self.endpoint, settings))
        self._headers = _headers(settings)
        who = f"The server of encoder {reference!r} at {self.endpoint.url}"
        self._errors = Translator(who, self.name, settings.remote_timeout_seconds, self.is_well)
        weakref.finalize(self, _close, self._clients)

    def open(self) -> int:
        """Finds out how the server is to be asked; how many dimensions its vectors have.

        Most take the first way. Some have their API below ``/v1`` of the URL, or refuse vectors in base64, or any field
        that they do not know.
        """
        trouble: NotUnderstood | None = None
        for way in _ways(self.endpoint.url):
            self._way = way
            try:
                return len(self.encode([_PROBE])[0])
            except NotUnderstood as error:
                trouble = trouble or error
        assert trouble is not None  # noqa: S101 - there is one way at least
        raise trouble

    def encode(self, texts: Sequence[str], *, kind: Kind = "document", dimensions: int | None = None) -> Vectors:
        """Vectors of the texts of one request."""
        attempts = tenacity.Retrying(
            retry=self._is_to_be_asked_again,
            stop=tenacity.stop_after_attempt(1 + self._retries),
            wait=tenacity.wait_random_exponential(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS),
            reraise=True,
        )
        try:
            answer = attempts(self._ask, texts, kind=kind, retries=self._retries)
            if (status := answers.refusal(answer)) in response_errors.SURELY_OVERLOADED:
                raise self._errors.of_answer(status)
            found = answers.vectors(answer, texts=len(texts), dimensions=dimensions, reference=self.reference)
        except openai.OpenAIError as error:
            trouble = self._errors.of_client(error)
        except errors.EncoderMismatch:
            raise
        except errors.EncoderUnavailable as error:
            trouble = error
        except (errors.EncoderError, ValueError) as error:  # what can not be read
            trouble = self._errors.unreadable(error)
        else:
            self._retries = self._most_retries
            return found
        if isinstance(trouble, errors.EncoderUnavailable):
            self._retries = 0
        raise trouble  # out here, where what the server said is no part of it

    def is_well(self) -> bool:
        """Whether it encodes a text that is known to be good: some servers answer 500 to a text they choke on."""
        try:
            answer = self._ask([_PROBE], retries=0, plain=True)
            answers.vectors(answer, texts=1, dimensions=None, reference=self.reference)
        except (openai.OpenAIError, errors.EncoderError, ValueError):
            return False
        return True

    def refuses(self, texts: int) -> bool:
        """Whether it refuses so many texts in one request that are known to be good, and not for a passing reason."""
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
        """Has the server make vectors of so many dimensions from now on; how many they have, None if it refuses to."""
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
        """Takes the fingerprint from the server's list, where our own service has it; others have none, or no list."""
        try:
            client = self._clients.get().with_options(max_retries=self._retries)
            answer = client.get(f"{self._way.prefix}/models", cast_to=object, options={"headers": self._headers})
        except openai.APIStatusError as error:
            is_passing = error.status_code in response_errors.OVERLOADED
            trouble = self._errors.of_client(error) if is_passing else None
        except openai.APIConnectionError as error:
            trouble = self._errors.of_client(error)
        except ValueError:  # no list
            return
        else:
            if known := answers.fingerprint(answer, name=self.name):
                self.fingerprint, self.prompts = known
            return
        if trouble is not None:  # not knowing is not the same as there being none
            raise trouble

    def _is_to_be_asked_again(self, state: tenacity.RetryCallState) -> bool:
        """Of a 500: once in any case, and then as long as the server answers it to a text that is good, too.

        Other trouble is none of the text's, and the client itself has asked again.
        """
        error = state.outcome.exception() if state.outcome else None
        is_500 = isinstance(error, openai.APIStatusError) and error.status_code == response_errors.BROKEN
        return is_500 and (state.attempt_number == 1 or not self.is_well())

    def _ask(self, texts: Sequence[str], *, retries: int, kind: Kind = "document", plain: bool = False) -> object:
        body: dict[str, Any] = {"input": list(texts), "model": self.name, **self._way.format}
        if not plain:
            body |= self._resizing
        if self.fingerprint:  # of servers, only our own service says it
            body |= {"input_type": kind, "truncate": True}
        client = self._clients.get().with_options(max_retries=retries)
        path = f"{self._way.prefix}/embeddings"
        return client.post(path, cast_to=object, body=body, options={"headers": self._headers})


def _ways(url: str) -> list[_ApiDialect]:
    """The ways to ask a server, the likeliest first; a URL with a version in it is the whole of the base."""
    prefixes = [""] if _VERSION.search(url) else ["", "/v1"]
    return [_ApiDialect(prefix, format_) for prefix in prefixes for format_ in _FORMATS]


def _client(endpoint: Endpoint, settings: Settings) -> openai.OpenAI:
    """A client that takes no key from OpenAI's own environment variables: theirs is not for every server."""
    key, seconds = settings.remote_api_key, settings.remote_timeout_seconds
    return openai.OpenAI(
        base_url=endpoint.url,
        api_key=key.get_secret_value().strip() if key else "none",
        admin_api_key="",
        timeout=openai.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
        http_client=openai.DefaultHttpxClient(event_hooks={"response": [_leave_to_us]}),
    )


def _leave_to_us(response: Any) -> None:
    """Keeps the client from asking again after a 500, for which the text may be to blame."""
    if response.status_code == response_errors.BROKEN:
        response.headers["x-should-retry"] = "false"


def _close(clients: PerProcess[openai.OpenAI]) -> None:
    if client := clients.made:
        client.close()


def _headers(settings: Settings) -> dict[str, openai.Omit]:
    """Headers that the client would add of itself and that are not to be sent."""
    names = ["OpenAI-Organization", "OpenAI-Project"]
    return dict.fromkeys(names if settings.remote_api_key else [*names, "Authorization"], openai.Omit())
