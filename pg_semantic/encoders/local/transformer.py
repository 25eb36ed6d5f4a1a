"""Adapts a `SentenceTransformer`, with any back end, to the `Encoder` interface."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pg_semantic.encoders import self_check
from pg_semantic.encoders.base import Backend, Vectors
from pg_semantic.encoders.local.cpu_streams import CpuStreams
from pg_semantic.encoders.local.fingerprints import Fingerprints
from pg_semantic.encoders.local.token_budget import TokenBudget
from pg_semantic.encoders.local.weights import Identity
from pg_semantic.encoders.piece_token_counts import Splitters
from pg_semantic.encoders.tokenization import Tokenized, Tokens

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_CPU_BUDGETS = (512, 1024, 2048, 4096)
_DEVICE_BUDGETS = tuple(2**power for power in range(12, 18))
_ALLOCATION_FAILED = ("out of memory", "not enough memory", "allocate memory", "bad_alloc")


class TransformerEncoder:
    """Encodes with a `SentenceTransformer`, in batches of texts of similar length that fill a token budget.

    Prompts, pooling, dense layers and normalization come from its own modules. Thread-safe.

    Args:
        transformer: The loaded encoder, whose transformer ``backend`` may have replaced.
        identity: Which weights were loaded.
        fingerprints: What they decide.
        backend: What computes the transformer.
        budget: How many tokens to read at once.
    """

    def __init__(
        self,
        transformer: "SentenceTransformer",
        *,
        identity: Identity,
        fingerprints: Fingerprints,
        backend: Backend,
        budget: TokenBudget,
    ) -> None:
        self.reference = identity.reference
        self.revision = identity.revision
        self.backend = backend
        self.budget = budget
        self._streams = CpuStreams() if backend.name == "openvino" else None
        self.least_cosine: float | None = None
        self.dimensions = int(transformer.get_embedding_dimension())
        self._transformer = transformer.eval()
        self._tokens = Tokens(transformer, "document")
        self._query_tokens = Tokens(transformer, "query", other=self._tokens)
        self._splitters = Splitters(self._tokens.copies.counting, self.count_tokens, remember=self._tokens.remember)
        self.max_tokens = self._tokens.limit
        self.query_prompt = self._query_tokens.prompt
        self.document_prompt = self._tokens.prompt
        self.fingerprint = fingerprints.whole
        self.document_fingerprint = fingerprints.documents

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """See `base.Encoder.encode_documents`. The first call with much text takes a few seconds to tune the budget."""
        read = self._tokens.read(texts)
        self._tune(read.counts)
        return self._encode(read, task="document")

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See `base.Encoder.encode_queries`."""
        return self._encode(self._query_tokens.read(texts), task="query")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `base.Encoder.count_tokens`."""
        return self._tokens.count(texts)

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """See `base.Encoder.splitter`."""
        return self._splitters.make(max_tokens=max_tokens, overlap_tokens=overlap_tokens)

    @property
    def _is_device(self) -> bool:
        return self._device.type != "cpu"

    @property
    def _device(self) -> "torch.device":
        device: torch.device = self._transformer.device
        return device

    def _encode(self, read: Tokenized, *, task: str) -> Vectors:
        vectors = np.empty((len(read.counts), self.dimensions), np.float32)
        for numbers, made in self._computed(read, range(len(read.counts)), task=task):
            vectors[numbers] = made.float().cpu().numpy()
        return vectors

    def _computed(
        self, read: Tokenized, numbers: Sequence[int], *, task: str
    ) -> list[tuple[list[int], "torch.Tensor"]]:
        """Computes vectors by batch, on the device, and launches all batches before waiting for any."""
        batches = list(self.budget.batches(read.counts, numbers))
        run = self._streams.map if self._streams and len(batches) > 1 else map
        computed = []
        for batch, made in zip(
            batches, run(functools.partial(self._forward_if_it_fits, read, task=task), batches), strict=True
        ):
            if made is not None:
                computed.append((batch, made))
                continue
            self._free()
            self.budget.shrink(len(batch) * max(read.counts[number] for number in batch))
            computed += self._computed(read, batch, task=task)
        return computed

    def _forward_if_it_fits(self, read: Tokenized, batch: Sequence[int], *, task: str) -> "torch.Tensor | None":
        """Returns None if memory runs out. Doesn't keep the error, whose frames hold on to memory."""
        try:
            return self._forward(read.features(batch), task=task)
        except (MemoryError, RuntimeError) as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            return None

    def _forward(self, features: dict[str, Any], *, task: str) -> "torch.Tensor":
        import torch

        with torch.inference_mode():
            placed = {name: self._placed(value) for name, value in features.items()}
            vectors: torch.Tensor = self._transformer(placed, task=task)["sentence_embedding"]
        return vectors[:, : self.dimensions]

    def _placed(self, value: Any) -> Any:
        """Copies a tensor to the encoder's device, on CUDA without waiting."""
        if not hasattr(value, "pin_memory"):
            return value
        return (
            value.pin_memory().to(self._device, non_blocking=True)
            if self._device.type == "cuda"
            else value.to(self._device)
        )

    def _free(self) -> None:
        import torch

        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _tune(self, counts: Sequence[int]) -> None:
        if not self.budget.is_tuned and sum(counts) > self.budget.tokens:
            self.budget.tune(self._probe, _DEVICE_BUDGETS if self._is_device else _CPU_BUDGETS)

    def _probe(self, size: int) -> None:
        text = self_check.TEXTS[-3]
        rows = max(1, size // self.count_tokens([text])[0]) * (self._streams.count if self._streams else 1)
        self._encode(self._tokens.read([text] * rows), task="document")


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether an error says that memory ran out, on a device or on the CPU."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error).casefold() for words in _ALLOCATION_FAILED)
