"""An encoder whose memory ends goes on in smaller batches, down to a single text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from pg_semantic.encoders.base import Backend
from pg_semantic.encoders.local.fingerprints import Fingerprints
from pg_semantic.encoders.local.token_budget import TokenBudget
from pg_semantic.encoders.local.transformer import TransformerEncoder
from pg_semantic.encoders.local.weights import Identity

TEXTS = [" ".join(["list the open files"] * count) for count in (1, 9, 2, 5, 1, 1, 7, 3, 2, 8, 9, 1)]
LONGEST = 38  # tokens of the longest of them


class _Small(nn.Module):
    """A transformer on a device with memory for so many padded tokens."""

    def __init__(self, inner: nn.Module, room: int, raised: Exception) -> None:
        super().__init__()
        self.config = inner.config
        self.inner = inner
        self.room = room
        self.raised = raised

    def forward(self, input_ids: torch.Tensor, **features: Any) -> Any:
        if input_ids.numel() > self.room:
            raise self.raised
        return self.inner(input_ids=input_ids, **features)


def _encoder(
    folder: Path, *, room: int, tokens: int | None = None, raised: Exception | None = None
) -> TransformerEncoder:
    whole = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    whole[0].model = _Small(whole[0].model, room, raised or torch.OutOfMemoryError("CUDA out of memory."))
    backend = Backend("torch", "float32")
    return TransformerEncoder(
        whole,
        identity=Identity("small", "none", ""),
        fingerprints=Fingerprints("whole", "documents"),
        backend=backend,
        budget=TokenBudget(tokens),
    )


@pytest.mark.parametrize("room", [LONGEST, 2 * LONGEST, 200])
@pytest.mark.parametrize(
    "raised",
    [
        torch.OutOfMemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["device", "torch on the CPU", "Python"],
)
def test_batches_shrink_until_they_fit_and_the_vectors_are_right(
    made: Callable[[str], Path], caplog: pytest.LogCaptureFixture, room: int, raised: Exception
) -> None:
    encoder = _encoder(made("bert"), room=room, tokens=4096, raised=raised)
    expected = _encoder(made("bert"), room=10**6).encode_documents(TEXTS)
    assert encoder.encode_documents(TEXTS) == pytest.approx(expected, abs=1e-4)
    assert encoder.budget.tokens <= 2 * room
    assert "out of memory at" in caplog.text
    caplog.clear()
    assert encoder.encode_documents(TEXTS) == pytest.approx(expected, abs=1e-4)


def test_queries_shrink_too(made: Callable[[str], Path]) -> None:
    encoder = _encoder(made("bert"), room=2 * LONGEST, tokens=4096)
    expected = _encoder(made("bert"), room=10**6).encode_queries(TEXTS)
    assert encoder.encode_queries(TEXTS) == pytest.approx(expected, abs=1e-4)


def test_a_single_text_that_is_too_much_is_an_error(made: Callable[[str], Path]) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        _encoder(made("bert"), room=LONGEST - 1, tokens=4096).encode_documents(TEXTS)


def test_another_error_is_not_taken_for_a_lack_of_memory(made: Callable[[str], Path]) -> None:
    encoder = _encoder(made("bert"), room=LONGEST, tokens=4096, raised=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        encoder.encode_documents(TEXTS)
    assert encoder.budget.tokens == 4096
