"""`StartingPoint`: the weights that the training of a reranker starts from, and the encoder of the first stage."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pg_semantic import encoders, errors
from pg_semantic.encoders import routes
from pg_semantic.encoders.base import Encoder
from pg_semantic.registry import Generation
from pg_semantic.training import base_encoder
from pg_semantic.training.reranker.reranker_training import RerankerLoss, RerankerTraining

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    from pg_semantic.settings import Settings

HEAD = "2"  # the name of a new head among the modules of a cross-encoder
_FROM_RERANKER, _FROM_ENCODER = 2e-5, 5e-5  # learning rates


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """What training starts from.

    Attributes:
        cross_encoder: The cross-encoder to train, in 32 bits.
        encoder: Encodes the queries of the first stage; None if it ranks by words.
        is_new: Whether the head is new, so that the scores say nothing before training.
        source: Where the weights come from, for the record.
    """

    cross_encoder: "CrossEncoder"
    encoder: Encoder | None
    is_new: bool
    source: Mapping[str, str]

    @property
    def device(self) -> str:
        """The type of device to train on, such as ``cpu``."""
        return str(self.cross_encoder.device.type)

    @property
    def learning_rate(self) -> float:
        """The learning rate to use by default."""
        return _FROM_ENCODER if self.is_new else _FROM_RERANKER


def require_trainable(generation: Generation, settings: "Settings", options: RerankerTraining) -> None:
    """Checks that the weights to start from can be trained. Loads nothing.

    Raises:
        errors.EncoderError: They cannot.
    """
    if options.start is None:
        base_encoder.reference_of(generation, settings, from_trained=options.from_trained)
    else:
        _folder(options.start, settings, from_trained=options.from_trained)


def load(generation: Generation, settings: "Settings", options: RerankerTraining) -> StartingPoint:
    """Loads what training starts from.

    Args:
        generation: The live generation of the index.
        settings: Where to find the weights, and the device.
        options: Which weights, and whether they may be trained ones.

    Raises:
        errors.EncoderError: The weights cannot be loaded or trained.
        errors.EncoderMismatch: The stored vectors come from another encoder.
        errors.MissingExtra: The extra ``encode`` isn't installed.
    """
    if options.start is None:
        found = _from_encoder(generation, settings, options)
    else:
        found = _from_reranker(options.start, generation, settings, options=options)
    if options.max_tokens is not None:
        limit_tokens(found.cross_encoder, options.max_tokens)
    return found


def _from_encoder(generation: Generation, settings: "Settings", options: RerankerTraining) -> StartingPoint:
    base = base_encoder.load(generation, settings, from_trained=options.from_trained)
    encoder = base.encoder  # the one before its queries' side was trained, unless ``from_trained``
    source = {"reference": encoder.reference, "revision": encoder.revision, "fingerprint": encoder.fingerprint}
    made = with_new_head(base.whole, loss=options.loss, seed=options.seed)
    if options.mode == "lexical":
        return StartingPoint(made, None, is_new=True, source=source)
    is_live = generation.fingerprint in {None, encoder.fingerprint}
    searches = encoder if is_live else _first_stage(generation, settings)
    return StartingPoint(made, searches, is_new=True, source=source)


def _from_reranker(
    reference: str, generation: Generation, settings: "Settings", *, options: RerankerTraining
) -> StartingPoint:
    import torch

    from pg_semantic.encoders.local import weights
    from pg_semantic.rerankers import cross_encoder

    folder = _folder(reference, settings, from_trained=options.from_trained)
    opened = cross_encoder.open_whole(folder, reference=reference, device=settings.device)
    if options.loss == "bce":  # which computes the loss without it
        opened.activation_fn = torch.nn.Sigmoid()
    identity = weights.identify(reference, folder)
    source = {"reference": reference, "revision": identity.revision, "digest": identity.digest}
    encoder = None if options.mode == "lexical" else _first_stage(generation, settings)
    return StartingPoint(opened, encoder, is_new=False, source=source)


def _folder(reference: str, settings: "Settings", *, from_trained: bool) -> Path:
    """Returns the folder of a cross-encoder, unless it was trained already and may not be trained again."""
    from pg_semantic.encoders.local import weights

    folder = weights.folder(reference, settings.encoder_paths, of="Reranker")
    if (folder / base_encoder.RECORD).exists() and not from_trained:
        raise errors.EncoderError(
            f"Reranker {reference!r} was trained already ({folder / base_encoder.RECORD}). If it was trained on these "
            "queries, they can no longer show a gain: start from the original cross-encoder, or pass from_trained "
            "(--from-trained)."
        )
    return folder


def _first_stage(generation: Generation, settings: "Settings") -> Encoder:
    known = generation.spec.encoder
    return encoders.load(
        known.reference,
        dimensions=known.dimensions,
        query_prompt=known.query_prompt,
        document_prompt=known.document_prompt,
        settings=settings,
    )


def with_new_head(whole: "SentenceTransformer", *, loss: RerankerLoss, seed: int) -> "CrossEncoder":
    """Returns a cross-encoder with the weights of an encoder of documents, and a head of one output.

    The transformer reads a query and a passage together. The head is a linear layer on the pooled output, since that is
    what an encoder was trained to fill with meaning.

    Args:
        whole: The encoder, which stays as it is.
        loss: The loss that the cross-encoder will be trained with: its scores are probabilities for ``bce``.
        seed: Of the weights of the head.

    Raises:
        errors.EncoderError: The encoder has no transformer, so it cannot read two texts together.
    """
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    modules = routes.modules(whole, "document")
    transformer, pooling = (next((m for m in modules if isinstance(m, of)), None) for of in (Transformer, Pooling))
    if transformer is None or pooling is None:
        raise errors.EncoderError(
            "The encoder of the index has no transformer with pooling, which a reranker needs to read a query and a "
            "passage together: pass start (--start), a cross-encoder to start from."
        )
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        head = Dense(pooling.get_embedding_dimension(), 1, activation_function=None, module_output_name="scores")
    activation = torch.nn.Sigmoid() if loss == "bce" else torch.nn.Identity()
    modules = [copy.deepcopy(transformer), copy.deepcopy(pooling), head]
    return CrossEncoder(modules=modules, device=str(whole.device), activation_fn=activation)


def limit_tokens(cross_encoder: "CrossEncoder", max_tokens: int) -> None:
    """Lowers how many tokens a query and a passage can have together; the rest is truncated.

    Raises:
        errors.ConfigurationError: The cross-encoder reads fewer tokens.
    """
    known = cross_encoder.max_seq_length
    if known is not None and max_tokens > known:
        raise errors.ConfigurationError(
            f"max_tokens={max_tokens}: these weights read at most {known} tokens. Choose fewer."
        )
    cross_encoder.max_seq_length = max_tokens
