"""A sentence-transformers `CrossEncoder` as a reranker, in 32-bit precision."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pg_semantic import errors
from pg_semantic.encoders.fork_safety import PerProcess
from pg_semantic.encoders.local import weights
from pg_semantic.encoders.local.token_budget import TokenBudget
from pg_semantic.rerankers import base
from pg_semantic.rerankers.base import Scores, ScoreType

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from pg_semantic.settings import Settings

_BYTES_OF_A_TOKEN = 4  # roughly; lengths only decide which pairs are batched together
_LONGEST = 8192  # tokens; also the limit for a cross-encoder that has none
_SCORE_TYPES: dict[str, ScoreType] = {"Sigmoid": "probability", "Identity": "logit"}
_HEADS = ("ForSequenceClassification", "ForCausalLM")
_PROBE = "The ferry had left at six, and with it the last of the daylight. "


class CrossEncoderReranker:
    """Scores pairs with a `CrossEncoder`, in batches of similar length that fill a token budget; one call at a time.

    Raises:
        errors.EncoderError: The cross-encoder returns several scores per pair, or neither probabilities nor logits.
    """

    def __init__(self, cross_encoder: "CrossEncoder", *, reference: str, budget: TokenBudget) -> None:
        self.reference = reference
        self.score_type: ScoreType = _score_type(cross_encoder, reference=reference)
        self.max_tokens = min(cross_encoder.max_seq_length or _LONGEST, _LONGEST)
        self._cross_encoder = cross_encoder.eval()
        self._budget = budget
        self._locks = PerProcess(threading.Lock)  # its tokenizer cannot be shared between threads

    @classmethod
    def load(cls, folder: Path, *, reference: str, settings: "Settings") -> "CrossEncoderReranker":
        """Loads a folder with safetensors weights, and scores a long pair as a test.

        Raises:
            errors.EncoderError: The folder has no safetensors weights, or they are not those of a reranker.
            errors.MissingExtra: The ``encode`` extra is not installed.
        """
        loaded = cls(
            open_whole(folder, reference=reference, device=settings.device),
            reference=reference,
            budget=TokenBudget(settings.token_budget),
        )
        loaded.score(_PROBE, [_PROBE * 80, _PROBE])
        return loaded

    def score(self, query: str, passages: Sequence[str]) -> Scores:
        """Scores passages as `base.Reranker.score` does; the scores are those of `CrossEncoder.predict`."""
        pairs = [(query, passage) for passage in passages]
        scores = np.empty(len(pairs), np.float32)
        lengths = [_length(query) + _length(passage) for passage in passages]
        counts = [min(length, self.max_tokens) for length in lengths]
        with self._locks.get():
            for numbers in self._budget.batches(counts, range(len(pairs))):
                scores[numbers] = self._predict([pairs[number] for number in numbers])
        return base.checked(scores, passages=len(pairs), reference=self.reference)

    def _predict(self, pairs: list[tuple[str, str]]) -> Any:
        return self._cross_encoder.predict(pairs, batch_size=len(pairs), show_progress_bar=False)


def open_whole(folder: Path, *, reference: str, device: str | None) -> "CrossEncoder":
    """Loads a folder in 32-bit precision, as a cross-encoder that can be trained.

    Args:
        folder: A folder with safetensors weights.
        reference: What messages call it.
        device: Where it computes; None for the best device.

    Raises:
        errors.EncoderError: The folder has no safetensors weights, or they are not those of a reranker.
        errors.MissingExtra: The ``encode`` extra is not installed.
    """
    _check_files(folder, reference=reference)
    return _open(folder, reference=reference, device=device)


def _length(text: str) -> int:
    """Estimates the number of tokens in a text."""
    return 1 + len(text.encode("utf-8", "replace")) // _BYTES_OF_A_TOKEN


def _check_files(folder: Path, *, reference: str) -> None:
    if not any(folder.rglob("*.safetensors")):
        raise errors.EncoderError(
            f"Reranker {reference!r}: {folder} has no safetensors weights; other formats are not loaded."
        )
    if not _has_head(folder):
        raise errors.EncoderError(
            f"Reranker {reference!r}: the weights in {folder} are not those of a cross-encoder, but maybe those of an "
            "encoder, so the scores would be random. Use a cross-encoder."
        )


def _has_head(folder: Path) -> bool:
    """Whether the weights include a scoring head. Without one, it would be initialized at random."""
    if _read(folder / "config_sentence_transformers.json").get("model_type") == "CrossEncoder":
        return True
    architectures = _read(folder / "config.json").get("architectures") or [""]
    return str(architectures[0]).endswith(_HEADS) and not (folder / "modules.json").exists()


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return found


def _open(folder: Path, *, reference: str, device: str | None) -> "CrossEncoder":
    try:
        from sentence_transformers import CrossEncoder
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise weights.missing_extra(reference, of="Reranker") from error
    transformers_logging.disable_progress_bar()
    return CrossEncoder(
        str(folder),
        device=device,
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True, "dtype": "float32"},
    )


def _score_type(cross_encoder: "CrossEncoder", *, reference: str) -> ScoreType:
    if cross_encoder.num_labels != 1:
        raise errors.EncoderError(
            f"Reranker {reference!r} returns {cross_encoder.num_labels} scores per pair, as a classifier does, instead "
            "of one. Use a cross-encoder that was trained for ranking."
        )
    activation = type(cross_encoder.activation_fn).__name__
    if activation not in _SCORE_TYPES:
        raise errors.EncoderError(
            f"Reranker {reference!r} applies {activation} to its scores, which returns neither probabilities (as "
            "Sigmoid does) nor logits (as Identity does). Use a cross-encoder with one of these activations."
        )
    return _SCORE_TYPES[activation]
