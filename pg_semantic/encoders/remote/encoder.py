"""The remote back end: any server with OpenAI's ``/v1/embeddings``, as TEI, vLLM, Ollama and OpenAI have.

How a server is asked is in `client`, what its errors mean in `response_errors`, what it answers in `response`.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import numpy as np

from pg_semantic import errors
from pg_semantic.encoders import prompts as prompting
from pg_semantic.encoders.base import Vectors
from pg_semantic.encoders.encoder_thread import Kind
from pg_semantic.encoders.per_process import PerProcess
from pg_semantic.encoders.remote.token_counter import EstimatingTokenCounter, TokenizerTokenCounter
from pg_semantic.index import encoder_catalog
from pg_semantic.index.encoder_catalog import Prompts
from pg_semantic.settings import Settings, variable

try:
    from pg_semantic.encoders.remote.client import EmbeddingsClient
except ImportError as error:
    raise errors.MissingExtra("A remote encoder needs an extra: pip install 'pg-semantic-index[remote]'.") from error

log = logging.getLogger("pg_semantic.encoders")


class RemoteEncoder:
    """An encoder behind a URL. Safe to share between threads, which together keep to ``remote_concurrency``."""

    def __init__(self, server: EmbeddingsClient, *, dimensions: int, prompts: Prompts, settings: Settings) -> None:
        endpoint = server.endpoint
        self.reference = server.reference
        self.revision = f"{server.name!r} of the server at {endpoint.url}"
        self.dimensions = dimensions
        self.max_tokens = endpoint.max_tokens
        self._server = server
        self._sent = _sent(server, prompts)
        known = server.prompts.filled(prompts).filled(self._sent)  # what is read, whoever puts it there
        self.query_prompt, self.document_prompt = known.query, known.document
        self.fingerprint = _fingerprint(server, dimensions, sent=self._sent, known=known)
        self._batch = settings.remote_batch
        self._concurrency = settings.remote_concurrency
        threads = functools.partial(ThreadPoolExecutor, self._concurrency, thread_name_prefix="remote-encoder")
        self._threads = PerProcess(threads)
        prompt = self.document_prompt or ""  # its tokens are read, whoever puts it there
        self._ruler = (
            TokenizerTokenCounter.load(endpoint.tokenizer, prompt=prompt)
            if endpoint.tokenizer
            else EstimatingTokenCounter(prompt=prompt)
        )

    @classmethod
    def load(
        cls,
        reference: str,
        *,
        dimensions: int | None,
        prompts: Prompts,
        settings: Settings,
    ) -> "RemoteEncoder":
        """Asks the server for a vector; other ``dimensions`` than it has by itself are asked for by number.

        Raises `errors.EncoderUnavailable` when the server can not be used, `errors.EncoderError` for what is no answer,
        `errors.EncoderMismatch` when the server has other ``prompts``.
        """
        server = EmbeddingsClient(reference, settings)
        found = server.open()
        if dimensions is not None and dimensions != found:
            found = server.resize(dimensions) or found
        server.look_up_fingerprint()
        encoder = cls(server, dimensions=found, prompts=prompts, settings=settings)
        if server.fingerprint is None:
            endpoint = server.endpoint
            declared = prompts.filled(Prompts(endpoint.query_prompt, endpoint.document_prompt))
            known = Prompts(encoder.query_prompt, encoder.document_prompt)
            prompting.warn(reference, declared=declared, loaded=known)
        return encoder

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """As `base.Encoder.encode_documents`."""
        return self._encode(texts, "document", prompt=self._sent.document or "")

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """As `base.Encoder.encode_queries`."""
        return self._encode(texts, "query", prompt=self._sent.query or "")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """As `base.Encoder.count_tokens`; estimated high without a tokenizer."""
        return self._ruler.count_tokens(texts)

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """As `base.Encoder.splitter`."""
        return self._ruler.splitter(max_tokens=max_tokens, overlap_tokens=overlap_tokens)

    def _encode(self, texts: Sequence[str], kind: Kind, *, prompt: str) -> Vectors:
        prompted = [prompt + text for text in texts]
        answered = [np.empty((0, self.dimensions), np.float32)]
        done = 0
        while done < len(prompted):  # no more at once, so that other calls have their turn
            size = self._batch  # less from now on, when the server was found to refuse so many
            starts = range(done, len(prompted), size)[: self._concurrency]
            answered += self._ask_for([prompted[start : start + size] for start in starts], kind)
            done = starts[-1] + size
        return np.concatenate(answered)

    def _ask_for(self, parts: Sequence[Sequence[str]], kind: Kind) -> list[Vectors]:
        encode = functools.partial(self._in_requests_that_are_read, kind=kind)
        asked = [self._threads.get().submit(encode, part) for part in parts]
        try:
            wait(asked, return_when=FIRST_EXCEPTION)
        finally:
            for request in asked:  # those after a failed one, which is met first below
                request.cancel()
        return [request.result() for request in asked]

    def _in_requests_that_are_read(self, texts: Sequence[str], *, kind: Kind) -> Vectors:
        """Vectors of texts, in one request if the server reads so many, or so much text, at once."""
        encode = functools.partial(self._server.encode, kind=kind, dimensions=self.dimensions)
        try:
            return encode(texts)
        except (errors.EncoderUnavailable, errors.EncoderMismatch):
            raise
        except errors.EncoderError:
            if len(texts) == 1:
                raise
        size = len(texts)
        while size > 1 and self._server.refuses(size):
            size //= 2
        if size < len(texts):
            self._keep_to(size)
        else:  # one of the texts is refused, and raises again; or all of them are too much together
            size = -(-len(texts) // 2)
        return np.concatenate([encode(texts[start : start + size]) for start in range(0, len(texts), size)])

    def _keep_to(self, size: int) -> None:
        if size < self._batch:
            self._batch = size
            log.warning(
                "%s: its server does not give the vectors of more than %d texts at once; %s=%d spares finding out.",
                self.reference,
                size,
                variable("remote_batch"),
                size,
                extra={"event": "batch_refused", "encoder": self.reference},
            )


def _sent(server: EmbeddingsClient, prompts: Prompts) -> Prompts:
    """What is put before texts here: as the endpoint is configured, else what is declared and the server does not do.

    An empty text in the endpoint's settings says that the server does it. Raises `errors.SettingsError` when the two
    differ, and `errors.EncoderMismatch` when the server says that it has others.
    """
    endpoint = server.endpoint
    configured = Prompts(endpoint.query_prompt, endpoint.document_prompt)
    for name, wanted, given, theirs in (
        ("query_prompt", prompts.query, configured.query, server.prompts.query),
        ("document_prompt", prompts.document, configured.document, server.prompts.document),
    ):
        if wanted is not None and given and given != wanted:
            raise errors.SettingsError(
                f"Encoder {server.reference!r} is declared with {name}={wanted!r}, and {variable('encoder_urls')} has "
                f"{given!r}: leave one of them out."
            )
        if wanted is not None and theirs is not None and wanted != theirs and not given:
            raise errors.EncoderMismatch(
                f"Encoder {server.reference!r} is declared with {name}={wanted!r}, and the service at {endpoint.url} "
                f"puts {theirs!r} before texts: declare that, or serve the encoder as it is declared."
            )
    if server.fingerprint:  # our own service, which does it
        return configured.filled(encoder_catalog.NO_PROMPTS)
    return configured.filled(prompts).filled(encoder_catalog.prompts(server.reference))


def _fingerprint(server: EmbeddingsClient, dimensions: int, *, sent: Prompts, known: Prompts) -> str:
    """What the server says it is, if no more than that decides the vectors of documents."""
    if server.fingerprint and not sent.document and server.resized_to is None:
        return server.fingerprint
    prompts = sent if server.fingerprint else known  # the server's fingerprint has its own prompts in it
    identity = {
        "back_end": "remote",
        "encoder": server.fingerprint or server.name,
        "dimensions": dimensions,
        "prompts": {"query": prompts.query, "document": prompts.document},
        "max_tokens": server.endpoint.max_tokens,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
