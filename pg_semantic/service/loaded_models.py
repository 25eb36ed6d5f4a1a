"""The encoders and rerankers of a service: each is loaded once and runs on a thread of its own."""

import threading
from collections.abc import Callable, Iterable

from pg_semantic import encoders, errors, rerankers
from pg_semantic.encoders import Encoder
from pg_semantic.encoders.encoder_thread import QueueLimits
from pg_semantic.index.known_encoders import Prompts
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.rerankers import BatchingReranker
from pg_semantic.service.shared_encoder import SharedEncoder
from pg_semantic.settings import Settings

_CANDIDATES = 256  # texts from which a batch is formed, their tokens counted in advance


class LoadedModels:
    """Encoders by reference, dimensions and prompts, and rerankers by reference. Threads can share one instance.

    Args:
        seen: Called with each batch: the encoder's reference, the number of texts and the number of tokens.
        load: Loads an encoder, with the arguments of `encoders.load`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        seen: Callable[[str, int, int], None],
        load: Callable[..., Encoder] = encoders.load,
    ) -> None:
        self._settings = settings
        self._seen = seen
        self._load = load
        self._encoders: dict[tuple[str, int, Prompts], SharedEncoder] = {}
        self._rerankers: dict[str, BatchingReranker] = {}
        self._loading = threading.Lock()

    @property
    def encoders(self) -> list[SharedEncoder]:
        """The loaded encoders, in the order of loading."""
        return list(self._encoders.values())

    @property
    def rerankers(self) -> list[BatchingReranker]:
        """The loaded rerankers, in the order of loading."""
        return list(self._rerankers.values())

    def add(
        self,
        reference: str,
        dimensions: int | None = None,
        prompts: Prompts = Prompts(),  # noqa: B008 - frozen
    ) -> SharedEncoder:
        """Returns an encoder, and loads it first if necessary. That can take a minute.

        Args:
            dimensions: None accepts a loaded encoder of any length, or else loads the encoder at its full length.

        Raises:
            errors.EncoderError: As `encoders.load`.
            errors.MissingExtra: As `encoders.load`.
        """
        if known := self._known(reference, dimensions, prompts):
            return known
        with self._loading:
            if known := self._known(reference, dimensions, prompts):
                return known
            loaded = self._load(
                reference,
                dimensions=dimensions,
                query_prompt=prompts.query,
                document_prompt=prompts.document,
                settings=self._settings,
            )
            shared = SharedEncoder(loaded, self._limits(reference))
            self._encoders[reference, loaded.dimensions, prompts] = shared
            return shared

    def of(self, spec: EncoderSpec) -> SharedEncoder:
        """Returns the encoder of a semantic index, as `add` does."""
        return self.add(spec.reference, spec.dimensions, spec.prompts)

    def encoder(self, name: str) -> SharedEncoder | None:
        """Returns the loaded encoder with this reference, or None; of several, the one with the longest vectors."""
        named = [encoder for (reference, *_), encoder in self._encoders.items() if reference == name]
        return max(named, key=lambda encoder: encoder.dimensions, default=None)

    def add_rerankers(self, references: Iterable[str]) -> None:
        """Loads rerankers.

        Raises:
            errors.EncoderError: As `rerankers.load`.
            errors.MissingExtra: As `rerankers.load`.
        """
        for reference in references:
            self._rerankers[reference] = BatchingReranker(rerankers.load(reference, settings=self._settings))

    def reranker(self, name: str | None) -> BatchingReranker:
        """Returns a loaded reranker.

        Args:
            name: Its reference, or None for the reranker that was loaded first.

        Raises:
            errors.QueryError: No such reranker is loaded.
        """
        found = self._rerankers.get(name) if name else next(iter(self._rerankers.values()), None)
        if found is None:
            known = ", ".join(self._rerankers) or "none (start the service with --reranker)"
            raise errors.QueryError(f"No such reranker is loaded. Available rerankers: {known}.")
        return found

    def close(self) -> None:
        """Answers the waiting requests, then ends all threads."""
        for encoder in self.encoders:
            encoder.close()
        for reranker in self.rerankers:
            reranker.close()

    def _known(self, reference: str, dimensions: int | None, prompts: Prompts) -> SharedEncoder | None:
        fitting = (
            one
            for (name, length, declared), one in [*self._encoders.items()]
            if name == reference and dimensions in {None, length} and prompts == declared
        )
        return next(fitting, None)

    def _limits(self, reference: str) -> QueueLimits:
        settings = self._settings
        return QueueLimits(
            batch=_CANDIDATES,
            waiting=settings.service_waiting_texts,
            tokens=settings.service_batch_tokens,
            seen=lambda texts, tokens: self._seen(reference, texts, tokens),
        )
