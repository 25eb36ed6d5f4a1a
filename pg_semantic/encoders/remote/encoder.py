"""Encoders on any server that has OpenAI's ``/v1/embeddings``, such as TEI, vLLM, Ollama and OpenAI.

`client` sends requests, `response` parses responses, and `response_errors` interprets errors.
"""

import functools
import hashlib
import itertools
import json
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

import numpy as np

from pg_semantic import errors
from pg_semantic.encoders import prompt_precedence as prompting
from pg_semantic.encoders.base import Vectors
from pg_semantic.encoders.encoder_thread import Kind
from pg_semantic.encoders.fork_safety import PerProcess
from pg_semantic.encoders.remote.token_counter import EstimatingTokenCounter, TokenizerTokenCounter
from pg_semantic.encoders.remote.traffic import Traffic
from pg_semantic.encoders.token_meter import TokenMeter
from pg_semantic.index import known_encoders
from pg_semantic.index.known_encoders import Prompts
from pg_semantic.settings import Settings, variable

try:
    from pg_semantic.encoders.remote.client import EmbeddingsClient
except ImportError as error:
    raise errors.MissingExtra("A remote encoder needs an extra: pip install 'pg-semantic-index[remote]'.") from error

log = logging.getLogger("pg_semantic.encoders")


class RemoteEncoder:
    """An encoder on a server. Thread-safe; ``remote_concurrency`` limits the requests of all threads together.

    Args:
        server: An open client.
        dimensions: The number of dimensions of its vectors.
        prompts: The declared prompts.
        settings: Limits for requests.

    Attributes:
        meter: Limits and counts the tokens that are sent; None, the default, does neither.
    """

    meter: TokenMeter | None = None

    def __init__(self, server: EmbeddingsClient, *, dimensions: int, prompts: Prompts, settings: Settings) -> None:
        endpoint = server.endpoint
        self.reference = server.reference
        self.revision = f"{server.name!r} on the server at {endpoint.url}"
        self.dimensions = dimensions
        self.max_tokens = endpoint.max_tokens
        self._server = server
        self._sent = _sent(server, prompts)
        known = server.prompts.filled(prompts).filled(self._sent)  # no matter who adds them
        self.query_prompt, self.document_prompt = known.query, known.document
        self.fingerprint = _fingerprint(server, dimensions, sent=self._sent, known=known)
        self.document_fingerprint = _document_fingerprint(server, dimensions, sent=self._sent, known=known)
        self._batch = settings.remote_batch
        self._concurrency = settings.remote_concurrency
        threads = functools.partial(ThreadPoolExecutor, self._concurrency, thread_name_prefix="remote-encoder")
        self._threads = PerProcess(threads)
        prompt = self.document_prompt or ""  # its tokens count, even if the server adds it
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
        """Connects to the server and requests a vector.

        Args:
            reference: The encoder reference; must be in the setting ``encoder_urls``.
            dimensions: Requested from the server if they aren't its default. It may refuse.
            prompts: The declared prompts.
            settings: The endpoint and the limits for requests.

        Raises:
            errors.EncoderUnavailable: The server cannot be used.
            errors.EncoderError: The response cannot be read.
            errors.EncoderMismatch: The server uses other prompts.
            errors.ConfigurationError: The endpoint has other prompts than ``prompts``.
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
        """See `base.Encoder.encode_documents`."""
        return self._encode(texts, "document", prompt=self._sent.document or "")

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See `base.Encoder.encode_queries`."""
        return self._encode(texts, "query", prompt=self._sent.query or "")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `base.Encoder.count_tokens`. Without a tokenizer, estimates on the high side."""
        return self._ruler.count_tokens(texts)

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """See `base.Encoder.splitter`."""
        return self._ruler.splitter(max_tokens=max_tokens, overlap_tokens=overlap_tokens)

    def _encode(self, texts: Sequence[str], kind: Kind, *, prompt: str) -> Vectors:
        answered = [np.empty((0, self.dimensions), np.float32)]
        counts = self._counted(texts)
        done = 0
        try:
            while done < len(texts):  # limited per round, so that other calls get their turn
                ends = [done]
                while len(ends) <= self._concurrency and ends[-1] < len(texts):
                    ends.append(self._end_of_request(counts, ends[-1]))
                parts = [slice(start, end) for start, end in itertools.pairwise(ends)]
                tokens = [sum(counts[part]) for part in parts]
                answered += self._ask_for([texts[part] for part in parts], tokens, kind=kind, prompt=prompt)
                done = ends[-1]
        finally:
            if self.meter is not None:
                self.meter.settle()
        return np.concatenate(answered)

    def _counted(self, texts: Sequence[str]) -> list[int]:
        """Returns the tokens of each text, or zeros if no one counts them."""
        if self.meter is None:
            return [0] * len(texts)
        return [min(count, self.max_tokens) for count in self.count_tokens(texts)]

    def _end_of_request(self, counts: Sequence[int], start: int) -> int:
        """Returns which text is the first that isn't in the same request as the one at ``start``."""
        most, tokens, end = math.inf if self.meter is None else self.meter.largest_request, counts[start], start + 1
        while end < min(len(counts), start + self._batch) and tokens + counts[end] <= most:
            tokens += counts[end]
            end += 1
        return end

    def _ask_for(
        self, parts: Sequence[Sequence[str]], tokens: Sequence[int], *, kind: Kind, prompt: str
    ) -> list[Vectors]:
        asked: list[Future[Vectors]] = []
        try:
            for part, count in zip(parts, tokens, strict=True):
                if self.meter is not None:  # on this thread, so that no request of others waits behind it
                    self.meter.admit(count)
                prompted = [prompt + text for text in part]
                asked.append(self._threads.get().submit(self._encode_and_record, prompted, kind, count))
            wait(asked, return_when=FIRST_EXCEPTION)
        finally:
            for request, count in zip(asked, tokens, strict=False):  # after a failure; result() then raises its error
                if request.cancel() and self.meter is not None:
                    self.meter.record(admitted=count, used=0, billed=0)
        return [request.result() for request in asked]

    def _encode_and_record(self, texts: Sequence[str], kind: Kind, tokens: int) -> Vectors:
        traffic = Traffic()
        try:
            return self._encode_in_requests(texts, kind=kind, traffic=traffic)
        finally:
            if self.meter is not None:
                each = tokens / len(texts)
                self.meter.record(admitted=tokens, used=traffic.used(each), billed=traffic.billed(each))

    def _encode_in_requests(self, texts: Sequence[str], *, kind: Kind, traffic: Traffic) -> Vectors:
        """Encodes texts, in one request if the server accepts that many texts, and that much text."""
        encode = functools.partial(self._server.encode, kind=kind, dimensions=self.dimensions, traffic=traffic)
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
        else:  # either one text is bad and will raise again, or the texts are too long together
            size = -(-len(texts) // 2)
        return np.concatenate([encode(texts[start : start + size]) for start in range(0, len(texts), size)])

    def _keep_to(self, size: int) -> None:
        if size < self._batch:
            self._batch = size
            log.warning(
                "%s: its server cannot encode more than %d texts at once; set %s=%d to avoid failed requests.",
                self.reference,
                size,
                variable("remote_batch"),
                size,
                extra={"event": "batch_refused", "encoder": self.reference},
            )


def _sent(server: EmbeddingsClient, prompts: Prompts) -> Prompts:
    """Returns the prompts to add on this side: the endpoint's, else the declared ones, else the catalog's.

    This package's service adds prompts itself, so only the endpoint's are added on this side. An empty prompt in the
    endpoint's settings means that the server adds it. Raises `errors.ConfigurationError` if endpoint and declaration
    differ, and `errors.EncoderMismatch` if the server reports other prompts.
    """
    endpoint = server.endpoint
    configured = Prompts(endpoint.query_prompt, endpoint.document_prompt)
    for name, wanted, given, theirs in (
        ("query_prompt", prompts.query, configured.query, server.prompts.query),
        ("document_prompt", prompts.document, configured.document, server.prompts.document),
    ):
        if wanted is not None and given and given != wanted:
            raise errors.ConfigurationError(
                f"Encoder {server.reference!r} is declared with {name}={wanted!r}, but {variable('encoder_urls')} has "
                f"{given!r}: remove one of them."
            )
        if wanted is not None and theirs is not None and wanted != theirs and not given:
            raise errors.EncoderMismatch(
                f"Encoder {server.reference!r} is declared with {name}={wanted!r}, but the service at {endpoint.url} "
                f"puts {theirs!r} before texts: declare that prompt, or serve the encoder with the declared one."
            )
    if server.fingerprint:  # this package's own service, which adds prompts
        return configured.filled(known_encoders.NO_PROMPTS)
    return configured.filled(prompts).filled(known_encoders.prompts(server.reference))


def _fingerprint(server: EmbeddingsClient, dimensions: int, *, sent: Prompts, known: Prompts) -> str:
    """Returns the server's own fingerprint, unless something on this side also decides the vectors of documents."""
    if server.fingerprint and not sent.document and server.resized_to is None:
        return server.fingerprint
    prompts = sent if server.fingerprint else known  # the server's fingerprint covers its prompts
    identity = {
        "back_end": "remote",
        "encoder": server.fingerprint or server.name,
        "dimensions": dimensions,
        "prompts": {"query": prompts.query, "document": prompts.document},
        "max_tokens": server.endpoint.max_tokens,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _document_fingerprint(server: EmbeddingsClient, dimensions: int, *, sent: Prompts, known: Prompts) -> str:
    """Returns the server's own document fingerprint, under the same condition as its fingerprint.

    Without one, encoders of two references are never the same: two servers can give one name to different weights.
    """
    its_own = server.document_fingerprint or server.fingerprint
    if server.document_fingerprint and not sent.document and server.resized_to is None:
        return server.document_fingerprint
    identity = {
        "back_end": "remote documents",
        "encoder": its_own or [server.reference, server.name],
        "dimensions": dimensions,
        "prompt": sent.document if its_own else known.document,
        "max_tokens": server.endpoint.max_tokens,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
