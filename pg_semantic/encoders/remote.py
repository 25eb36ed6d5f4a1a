"""The remote back end: any server with OpenAI's ``/v1/embeddings``, as TEI, vLLM, Ollama and OpenAI have.

What a server says is never repeated in an error: it may quote the text.
"""

import functools
import hashlib
import json
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import tenacity

from pg_semantic import errors
from pg_semantic.encoders import answer as answers
from pg_semantic.encoders.base import Vectors
from pg_semantic.encoders.owner import Kind
from pg_semantic.encoders.process import PerProcess
from pg_semantic.encoders.ruler import EstimatedRuler, TokenizerRuler
from pg_semantic.settings import Endpoint, Settings, variable

try:
    import openai
except ImportError as error:
    raise errors.MissingExtra("A remote encoder needs an extra: pip install 'pg-semantic-index[remote]'.") from error

_PROBE = "a short text"
_PROBE_RETRIES = 2  # a worker that loads an encoder keeps other indexes waiting
_CONNECT_SECONDS = 5.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.25, 8.0

_NO_ACCESS = {401, 403}
_NOT_FOUND = 404
_REFUSED_TEXT = {400, 413, 422}
_BROKEN = 500
_OVERLOADED = {408, 409, 429, 502, 503, 504}


class RemoteEncoder:
    """An encoder behind a URL. Safe to share between threads, which together keep to ``remote_concurrency``."""

    def __init__(self, server: "_Server", *, dimensions: int, batch: int, concurrency: int) -> None:
        endpoint = server.endpoint
        self.reference = server.reference
        self.revision = f"{server.name!r} of the server at {endpoint.url}"
        self.dimensions = dimensions
        self.max_tokens = endpoint.max_tokens
        self.fingerprint = _fingerprint(server, dimensions)
        self._server = server
        self._batch = batch
        self._concurrency = concurrency
        self._threads = PerProcess(lambda: ThreadPoolExecutor(concurrency, thread_name_prefix="remote-encoder"))
        self._ruler = (
            TokenizerRuler.load(endpoint.tokenizer, prompt=endpoint.document_prompt)
            if endpoint.tokenizer
            else EstimatedRuler(prompt=endpoint.document_prompt)
        )

    @classmethod
    def load(cls, reference: str, *, dimensions: int | None, settings: Settings) -> "RemoteEncoder":
        """Asks the server for a vector; fewer ``dimensions`` than it has are asked for by number.

        Raises `errors.EncoderUnavailable` when the server can not be used, `errors.EncoderError` for what is no answer.
        """
        server = _Server(reference, settings)
        found = len(server.encode([_PROBE])[0])
        if dimensions is not None and dimensions < found:
            found = server.narrow(dimensions) or found
        server.look_up_fingerprint()
        return cls(server, dimensions=found, batch=settings.remote_batch, concurrency=settings.remote_concurrency)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """As `base.Encoder.encode_documents`."""
        return self._encode(texts, "document", prompt=self._server.endpoint.document_prompt)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """As `base.Encoder.encode_queries`."""
        return self._encode(texts, "query", prompt=self._server.endpoint.query_prompt)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """As `base.Encoder.count_tokens`; estimated high without a tokenizer."""
        return self._ruler.count_tokens(texts)

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """As `base.Encoder.splitter`."""
        return self._ruler.splitter(max_tokens=max_tokens, overlap_tokens=overlap_tokens)

    def _encode(self, texts: Sequence[str], kind: Kind, *, prompt: str) -> Vectors:
        prompted = [prompt + text for text in texts]
        parts = [prompted[start : start + self._batch] for start in range(0, len(prompted), self._batch)]
        answered = [np.empty((0, self.dimensions), np.float32)]
        for start in range(0, len(parts), self._concurrency):  # no more, so that other calls have their turn
            answered += self._ask_for(parts[start : start + self._concurrency], kind)
        return np.concatenate(answered)

    def _ask_for(self, parts: Sequence[Sequence[str]], kind: Kind) -> list[Vectors]:
        encode = functools.partial(self._server.encode, kind=kind, dimensions=self.dimensions)
        asked = [self._threads.get().submit(encode, part) for part in parts]
        try:
            wait(asked, return_when=FIRST_EXCEPTION)
        finally:
            for request in asked:  # those after a failed one, which is met first below
                request.cancel()
        return [request.result() for request in asked]


class _Server:
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
        self.narrowed_to: int | None = None
        self._timeout_seconds = settings.remote_timeout_seconds
        self._most_retries = settings.remote_retries
        self._retries = min(self._most_retries, _PROBE_RETRIES)
        self._clients = PerProcess(functools.partial(_client, self.endpoint, settings))
        self._headers = _headers(settings)
        weakref.finalize(self, _close, self._clients)

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
            found = answers.vectors(answer, texts=len(texts), dimensions=dimensions, reference=self.reference)
        except openai.OpenAIError as error:
            trouble = self._translated(error)
        except errors.EncoderMismatch:
            raise
        except (errors.EncoderError, ValueError) as error:  # what can not be read
            trouble = self._unreadable(error)
        else:
            self._retries = self._most_retries
            return found
        if isinstance(trouble, errors.EncoderUnavailable):
            self._retries = 0
        raise trouble  # out here, where what the server said is no part of it

    def _is_to_be_asked_again(self, state: tenacity.RetryCallState) -> bool:
        """Of a 500: once in any case, and then as long as the server answers it to a text that is good, too.

        Other trouble is none of the text's, and the client itself has asked again.
        """
        error = state.outcome.exception() if state.outcome else None
        is_500 = isinstance(error, openai.APIStatusError) and error.status_code == _BROKEN
        return is_500 and (state.attempt_number == 1 or not self._is_well())

    def narrow(self, dimensions: int) -> int | None:
        """Has vectors truncated by the server from now on; how many dimensions they have, None if it refuses to."""
        self.narrowed_to = dimensions
        try:
            return len(self.encode([_PROBE])[0])
        except errors.EncoderUnavailable:
            raise
        except errors.EncoderError:
            return None

    def look_up_fingerprint(self) -> None:
        """Takes the fingerprint from the server's list, where our own service has it; others have none, or no list."""
        try:
            client = self._clients.get().with_options(max_retries=self._retries)
            answer = client.get("/models", cast_to=object, options={"headers": self._headers})
        except openai.APIStatusError as error:
            trouble = self._translated(error) if error.status_code in _OVERLOADED else None
        except openai.APIConnectionError as error:
            trouble = self._translated(error)
        except ValueError:  # no list
            return
        else:
            self.fingerprint = answers.fingerprint(answer, name=self.name)
            return
        if trouble is not None:  # not knowing is not the same as there being none
            raise trouble

    def _ask(self, texts: Sequence[str], *, retries: int, kind: Kind = "document", plain: bool = False) -> object:
        ours = bool(self.fingerprint)  # of servers, only our own service says it
        return (
            self._clients.get()
            .with_options(max_retries=retries)
            .embeddings.create(
                input=list(texts),
                model=self.name,
                encoding_format="base64",
                dimensions=openai.omit if plain or self.narrowed_to is None else self.narrowed_to,
                extra_headers=self._headers,
                extra_body={"input_type": kind, "truncate": True} if ours else None,
            )
        )

    def _translated(self, error: openai.OpenAIError) -> errors.EncoderError:
        who = f"The server of encoder {self.reference!r} at {self.endpoint.url}"
        if isinstance(error, openai.APITimeoutError):
            return errors.EncoderUnavailable(
                f"{who} did not answer within {self._timeout_seconds:g} s: see how it does, or raise "
                f"{variable('remote_timeout_seconds')}."
            )
        if isinstance(error, openai.APIConnectionError):
            return errors.EncoderUnavailable(
                f"{who} can not be reached: see that it runs and that {variable('encoder_urls')} is right."
            )
        if isinstance(error, openai.APIStatusError):
            return self._refusal(f"{who} answered with status {error.status_code}", error.status_code)
        return errors.EncoderError(f"{who} gave no answer that can be read ({type(error).__name__}).")

    def _refusal(self, said: str, status: int) -> errors.EncoderError:
        if status in _NO_ACCESS:
            return errors.EncoderUnavailable(f"{said}: set the key that it wants as {variable('remote_api_key')}.")
        if status == _NOT_FOUND:
            return errors.EncoderUnavailable(
                f"{said}: it has no encoder {self.name!r}, or its API is elsewhere (the URL ends in /v1 as a rule). "
                f"Mend {variable('encoder_urls')}."
            )
        if status in _OVERLOADED or not self._is_well():
            return errors.EncoderUnavailable(f"{said}: it has too much to do, or trouble of its own; try again later.")
        if status in _REFUSED_TEXT:
            return errors.EncoderError(f"{said}: it refuses the text, or its length.")
        return errors.EncoderError(f"{said} to this text and goes on answering to others.")

    def _is_well(self) -> bool:
        """Whether it encodes a text that is known to be good: some servers answer 500 to a text they choke on."""
        try:
            answers.vectors(
                self._ask([_PROBE], retries=0, plain=True), texts=1, dimensions=None, reference=self.reference
            )
        except (openai.OpenAIError, errors.EncoderError, ValueError):
            return False
        return True

    def _unreadable(self, error: Exception) -> errors.EncoderError:
        """Of an answer that can not be read: no text is to blame when it is the same for one that is good."""
        said = (
            str(error)
            if isinstance(error, errors.EncoderError)
            else f"The server of encoder {self.reference!r} gave an answer that can not be read."
        )
        return (errors.EncoderError if self._is_well() else errors.EncoderUnavailable)(said)


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
    if response.status_code == _BROKEN:
        response.headers["x-should-retry"] = "false"


def _close(clients: PerProcess[openai.OpenAI]) -> None:
    if client := clients.made:
        client.close()


def _headers(settings: Settings) -> dict[str, openai.Omit]:
    """Headers that the client would add of itself and that are not to be sent."""
    names = ["OpenAI-Organization", "OpenAI-Project"]
    return dict.fromkeys(names if settings.remote_api_key else [*names, "Authorization"], openai.Omit())


def _fingerprint(server: _Server, dimensions: int) -> str:
    """What the server says it is, if no more than that decides the vectors of documents."""
    endpoint = server.endpoint
    if server.fingerprint and not endpoint.document_prompt and server.narrowed_to is None:
        return server.fingerprint
    identity = {
        "back_end": "remote",
        "encoder": server.fingerprint or server.name,
        "dimensions": dimensions,
        "prompts": {"query": endpoint.query_prompt, "document": endpoint.document_prompt},
        "max_tokens": endpoint.max_tokens,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
