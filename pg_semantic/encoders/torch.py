"""The sentence-transformers back end: any bi-encoder, on a CPU or a GPU."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pg_semantic import errors
from pg_semantic.encoders import weights
from pg_semantic.encoders.base import Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

_NO_LIMIT = 1_000_000_000


class TorchEncoder:
    """A `SentenceTransformer`, fed with batches of like length that fill a token budget."""

    def __init__(self, transformer: "SentenceTransformer", *, reference: str, digest: str, token_budget: int) -> None:
        self.reference = reference
        self._transformer = transformer
        self._token_budget = token_budget
        self._document_prompt = transformer.prompts.get("document") or ""
        self.dimensions = int(transformer.get_embedding_dimension())
        self.max_tokens = int(transformer.max_seq_length or _NO_LIMIT)
        self._tokenizer = _unlimited(transformer.tokenizer)
        self._splitters: dict[tuple[int, int], Callable[[str], list[str]]] = {}
        self.fingerprint = _fingerprint(transformer, digest=digest, vocabulary=self._tokenizer.get_vocab())

    @classmethod
    def load(
        cls, folder: Path, *, reference: str, dimensions: int | None, device: str | None, token_budget: int
    ) -> "TorchEncoder":
        """Loads a folder of safetensors weights; fewer ``dimensions`` than the encoder has truncate its vectors."""
        digest = weights.digest(folder)
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging
        except ImportError as error:
            raise weights.missing_extra(reference) from error
        logging.disable_progress_bar()
        try:
            transformer = SentenceTransformer(
                str(folder),
                device=device,
                truncate_dim=dimensions,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise errors.EncoderError(f"Encoder {reference!r} in {folder} can not be loaded: {error}") from error
        return cls(transformer, reference=reference, digest=digest, token_budget=token_budget)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """As `base.Encoder.encode_documents`."""
        return self._encode(self._transformer.encode_document, texts)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """As `base.Encoder.encode_queries`."""
        return self._encode(self._transformer.encode_query, texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """As `base.Encoder.count_tokens`."""
        prompted = [self._document_prompt + text for text in texts]
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(prompted)]

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """As `base.Encoder.splitter`."""
        from semantic_text_splitter import TextSplitter

        if (max_tokens, overlap_tokens) not in self._splitters:  # making one takes 50 ms
            capacity = max_tokens - self.count_tokens([""])[0]
            made = TextSplitter.from_huggingface_tokenizer(self._tokenizer, capacity, overlap=overlap_tokens)
            self._splitters[max_tokens, overlap_tokens] = made.chunks
        return self._splitters[max_tokens, overlap_tokens]

    def _encode(self, encode: Callable[..., Any], texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for batch in _batches(self.count_tokens(texts), limit=self.max_tokens, budget=self._token_budget):
            vectors[batch] = encode([texts[number] for number in batch], batch_size=len(batch), show_progress_bar=False)
        return vectors


def _batches(counts: Sequence[int], *, limit: int, budget: int) -> Iterator[list[int]]:
    """Numbers of texts, longest first, in batches whose padded size stays within the budget."""
    batch: list[int] = []
    width = 0
    for number in sorted(range(len(counts)), key=lambda number: -counts[number]):
        width = width if batch else max(1, min(limit, counts[number]))
        if batch and (len(batch) + 1) * width > budget:
            yield batch
            batch, width = [], max(1, min(limit, counts[number]))
        batch.append(number)
    if batch:
        yield batch


def _unlimited(tokenizer: object) -> "Tokenizer":
    """A copy of the fast tokenizer that neither truncates nor pads, so that it counts."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise errors.EncoderError(
            f"{type(tokenizer).__name__} is not a fast tokenizer; chunking needs tokenizer.json beside the weights."
        )
    copy: Tokenizer = type(backend).from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def _fingerprint(transformer: "SentenceTransformer", *, digest: str, vocabulary: dict[str, int]) -> str:
    identity = {
        "weights": digest,
        "vocabulary": hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest(),
        "modules": [[type(module).__name__, getattr(module, "pooling_mode", None)] for module in transformer],
        "prompts": transformer.prompts,
        "max_tokens": transformer.max_seq_length,
        "dimensions": transformer.get_embedding_dimension(),
        "precision": "float",
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
