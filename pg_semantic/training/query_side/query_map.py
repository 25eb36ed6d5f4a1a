"""`QueryMap`: a linear map of the vectors of queries, which leaves the encoder as it is."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pg_semantic.encoders.base import Vectors

if TYPE_CHECKING:
    import torch

_LEAST_LENGTH = 1e-12


class QueryMap:
    """A square matrix that is the identity at first, and is pulled back to it.

    Without a strong pull it learns the rows that it was trained on by heart, and finds no others.

    Args:
        vectors: The vectors of all queries, shape (queries, dimensions).
        decay: The weight of the squared distance to the identity (Frobenius norm) in the loss.
        device: Where to compute.
    """

    def __init__(self, vectors: Vectors, *, decay: float, device: "torch.device") -> None:
        import torch

        scaled = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(_LEAST_LENGTH)
        self.device = device
        self._vectors = torch.from_numpy(np.ascontiguousarray(scaled, np.float32)).to(device)
        dimensions = vectors.shape[1]
        self._change = torch.nn.Parameter(torch.zeros(dimensions, dimensions, device=device))
        self._decay = decay

    @property
    def matrix(self) -> Vectors:
        """The matrix, shape (dimensions, dimensions): a query's vector is this times its vector before."""
        change: Vectors = self._change.detach().cpu().numpy()
        return change + np.eye(len(change), dtype=np.float32)

    def parameters(self) -> "Iterable[torch.nn.Parameter]":
        """See `epochs.TrainableQueries.parameters`."""
        return [self._change]

    def forward(self, numbers: Sequence[int]) -> "torch.Tensor":
        """See `epochs.TrainableQueries.forward`."""
        import torch

        before = self._vectors[list(numbers)]
        return torch.nn.functional.normalize(before + before @ self._change.T, dim=1)

    def penalty(self) -> "torch.Tensor":
        """See `epochs.TrainableQueries.penalty`."""
        return self._decay * self._change.square().sum()

    def vectors(self, numbers: Sequence[int]) -> Vectors:
        """See `epochs.TrainableQueries.vectors`."""
        import torch

        with torch.inference_mode():
            found: Vectors = self.forward(numbers).cpu().numpy()
        return found
