"""Writes a trained encoder as a sentence-transformers folder, whole or not at all.

If only the side of queries was trained, queries and documents take different routes through it (`Router`): documents
pass through the modules of the encoder that training started from, so their vectors are the stored ones to the last
bit. The folder has weights, settings, and a record of the training, but no text of a query or a row: that is why it has
no model card.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pg_semantic import errors
from pg_semantic.encoders import routes, self_check, tokenization
from pg_semantic.encoders.base import Vectors
from pg_semantic.training.base_encoder import RECORD

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_MEGABYTE = 1_000_000


def require_free(target: Path) -> None:
    """Checks that an encoder can be written to a folder, before hours of training.

    Raises:
        errors.ConfigurationError: The folder isn't empty, or cannot be created.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise errors.ConfigurationError(f"{target} is not empty: choose an empty or new folder.")
    if target.is_mount():  # nothing can be renamed to it
        raise errors.ConfigurationError(f"{target} is a mount point: choose a folder in it.")
    parent = _parent(target)
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise errors.ConfigurationError(f"{target} cannot be created in {parent}: choose another folder.")


def require_space(target: Path, weights: "torch.nn.Module", *, copies: int = 1) -> None:
    """Checks that weights fit on the disk of a folder, before hours of training.

    Args:
        target: The folder.
        weights: The weights to train, as they will be written.
        copies: How often they are written.

    Raises:
        errors.ConfigurationError: There is less space.
    """
    needed = copies * sum(tensor.nbytes for tensor in weights.state_dict().values())
    parent = _parent(target)
    if (free := shutil.disk_usage(parent).free) < needed:
        raise errors.ConfigurationError(
            f"{target} would have {needed / _MEGABYTE:,.0f} MB, but the disk of {parent} has only "
            f"{free / _MEGABYTE:,.0f} MB of free space: free some, or choose a folder on another disk."
        )


def with_map(whole: "SentenceTransformer", matrix: Vectors) -> "SentenceTransformer":
    """Returns an encoder that maps the vectors of queries, and shares all other modules with ``whole``.

    Args:
        whole: The encoder to start from.
        matrix: The map, shape (dimensions, dimensions). If it is smaller than the vectors, because the index truncates
            them, the other dimensions stay as they are.
    """
    import torch
    from sentence_transformers.base.modules import Dense, Normalize

    queries, documents = (routes.modules(whole, task) for task in ("query", "document"))
    most = min(len(queries), len(documents)) - 1  # each route needs a module
    shared = next((n for n in range(most) if queries[n] is not documents[n]), most)
    with whole.truncate_embeddings(None):
        width = int(whole.get_embedding_dimension())
    full = np.eye(width, dtype=np.float32)
    full[: len(matrix), : len(matrix)] = matrix
    dense = Dense(width, width, bias=False, activation_function=None, init_weight=torch.from_numpy(full))
    end = len(queries) - isinstance(queries[-1], Normalize)
    mapped = [*queries[shared:end], dense, *queries[end:]]
    return _routed(whole, queries[:shared], queries=mapped, documents=documents[shared:])


def with_query_encoder(whole: "SentenceTransformer", trained: "SentenceTransformer") -> "SentenceTransformer":
    """Returns an encoder with the modules of ``trained`` for queries, and those of ``whole`` for documents."""
    queries, documents = routes.modules(trained, "query"), routes.modules(whole, "document")
    return _routed(whole, [], queries=queries, documents=documents)


def write(
    target: Path, made: "SentenceTransformer", *, base: "SentenceTransformer | None" = None, record: Mapping[str, Any]
) -> None:
    """Writes an encoder to a folder next to the target, checks it, and renames it.

    Args:
        target: A folder that doesn't exist or is empty.
        made: The encoder.
        base: The encoder whose vectors of documents it must keep; None if documents were trained too.
        record: What to write to ``training.json``. Must not contain texts of queries or rows.

    Raises:
        errors.ConfigurationError: The folder cannot be written, or isn't empty any more.
        errors.EncoderError: What was written has other vectors than the encoder in memory.
    """
    with new(target, what="encoder") as folder:
        made.save(str(folder), create_model_card=False, safe_serialization=True)
        write_record(folder, record)
        _check(folder, made, base)


@contextlib.contextmanager
def new(target: Path, *, what: str) -> Iterator[Path]:
    """Makes a folder next to the target, and renames it to the target after the block, unless the block fails.

    Args:
        target: A folder that doesn't exist or is empty.
        what: What is written, for the message.

    Raises:
        errors.ConfigurationError: The folder cannot be written, or isn't empty any more.
    """
    from safetensors import SafetensorError

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
            folder = Path(temporary) / target.name
            yield folder
            folder.replace(target)
    except (OSError, SafetensorError) as error:  # safetensors has its own if the disk is full
        raise errors.ConfigurationError(
            f"The {what} cannot be written to {target} ({getattr(error, 'strerror', None) or error}): "
            "choose another folder."
        ) from error


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes the record of a training into a folder."""
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def _parent(target: Path) -> Path:
    """Returns the nearest folder around a target that exists already."""
    return next(one for one in target.absolute().parents if one.exists())


def _check(folder: Path, made: "SentenceTransformer", base: "SentenceTransformer | None") -> None:
    from pg_semantic.encoders.local import backends

    kept = made if base is None else base
    read = backends.open_whole(folder, reference=str(folder), dimensions=kept.truncate_dim, device=str(kept.device))
    found, expected = self_check.reference(read), self_check.reference(made.eval())
    is_close = all(
        self_check.cosines(*both).min() >= self_check.LEAST_COSINE for both in zip(found, expected, strict=True)
    )
    is_kept = base is None or np.array_equal(found[0], self_check.documents(base, self_check.TEXTS))
    if not is_close or not is_kept:
        raise errors.EncoderError(
            "The trained encoder was not written, because it has other vectors once it is loaded again: its modules "
            "cannot be saved by sentence-transformers."
        )


def _routed(
    whole: "SentenceTransformer", before: Sequence[Any], *, queries: Sequence[Any], documents: Sequence[Any]
) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router

    with whole.truncate_embeddings(None):
        width = whole.get_embedding_dimension()
    router = Router.for_query_document(query_modules=list(queries), document_modules=list(documents))
    return SentenceTransformer(
        modules=[*before, router],
        device=str(whole.device),
        prompts={task: tokenization.prompt(whole, task) or "" for task in tokenization.TASKS},
        default_prompt_name=None,
        similarity_fn_name=whole.similarity_fn_name,
        truncate_dim=None if whole.truncate_dim == width else whole.truncate_dim,
    ).eval()
