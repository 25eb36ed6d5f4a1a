"""`QueryTransformer`: a copy of an encoder that learns to encode queries, while the encoder of documents stays."""

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pg_semantic.encoders import tokenization
from pg_semantic.encoders.base import Vectors

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_BATCH = 64


class QueryTransformer:
    """All weights that queries pass through are trained.

    Args:
        whole: The encoder to start from, which is copied.
        queries: All queries, without the query prompt.
        dimensions: How many dimensions of the vectors to use.
    """

    def __init__(self, whole: "SentenceTransformer", queries: Sequence[str], *, dimensions: int) -> None:
        self.trained = copy.deepcopy(whole)
        self._prompt = tokenization.prompt(whole, "query") or None
        self._queries = queries
        self._dimensions = dimensions

    @property
    def device(self) -> "torch.device":
        """See `epochs.TrainableQueries.device`."""
        device: torch.device = self.trained.device
        return device

    def parameters(self) -> "Iterable[torch.nn.Parameter]":
        """See `epochs.TrainableQueries.parameters`."""
        return [parameter for parameter in self.trained.parameters() if parameter.requires_grad]

    def forward(self, numbers: Sequence[int]) -> "torch.Tensor":
        """See `epochs.TrainableQueries.forward`. Includes dropout."""
        self.trained.train()
        return self._forward(numbers)

    def penalty(self) -> float:
        """See `epochs.TrainableQueries.penalty`."""
        return 0.0

    def vectors(self, numbers: Sequence[int]) -> Vectors:
        """See `epochs.TrainableQueries.vectors`. Without dropout."""
        import torch

        self.trained.eval()
        found = np.empty((len(numbers), self._dimensions), np.float32)
        order = sorted(range(len(numbers)), key=lambda place: len(self._queries[numbers[place]]))
        with torch.inference_mode():
            for start in range(0, len(order), _BATCH):
                places = order[start : start + _BATCH]
                found[places] = self._forward([numbers[place] for place in places]).cpu().numpy()
        return found

    def _forward(self, numbers: Sequence[int]) -> "torch.Tensor":
        import torch

        texts = [self._queries[number] for number in numbers]
        features: dict[str, Any] = self.trained.preprocess(texts, prompt=self._prompt, task="query")
        placed = {name: value.to(self.device) if hasattr(value, "to") else value for name, value in features.items()}
        made: torch.Tensor = self.trained(placed, task="query")["sentence_embedding"]
        return torch.nn.functional.normalize(made[:, : self._dimensions].float(), dim=1)
