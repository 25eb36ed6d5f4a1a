"""Fingerprints of an encoder with local weights: of everything, and of what decides the vectors of documents.

The first one is that of files. The second one is that of the modules that a document passes through, as they were
loaded, so it is the same for an encoder and for one that was trained from it on the side of queries alone.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pg_semantic.encoders import routes, tokenization
from pg_semantic.encoders.local import weights

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_OPTIONS = ("pooling_mode", "include_prompt", "activation_function")  # of modules; their other state is weights
_POOLER = "pooler."
_USUAL_SIDE = "right"
_ADAPTER_STATE = ("scaling", "use_dora", "active_adapters", "disable_adapters", "merged_adapters")  # in peft


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The fingerprints of an encoder; see `base.Encoder`."""

    whole: str
    documents: str


def of(
    transformer: "SentenceTransformer", *, digest: str, quantized: Mapping[int, tuple[Path, ...]] | None = None
) -> Fingerprints:
    """Computes the fingerprints of a loaded encoder, before a back end replaces its transformers.

    Hashes the weights that documents pass through, which takes about as long as hashing their files.

    Args:
        transformer: The encoder, with the prompts to use.
        digest: The digest of its files.
        quantized: If it is quantized, the files of each transformer by its `id`.

    Raises:
        errors.EncoderError: A router of the encoder has no route for documents, or none for queries.
    """
    identity = _whole(transformer, digest=digest, precision="float" if quantized is None else "int8")
    if routes.has_router(transformer):  # the digest of files doesn't tell which module is on which route
        identity["routes"] = [_names(transformer, task) for task in tokenization.TASKS]
    sides = [tokenization.truncation_side(transformer, task) for task in tokenization.TASKS]
    if set(sides) != {_USUAL_SIDE}:  # or encoders would get another fingerprint than before
        identity["truncation_sides"] = sides
    return Fingerprints(_hash(identity), _hash(_documents(transformer, quantized=quantized or {})))


def _whole(transformer: "SentenceTransformer", *, digest: str, precision: str) -> dict[str, object]:
    """Uses only names that sentence-transformers keeps between releases, so that upgrades don't change fingerprints."""
    modules = [
        [type(module).__name__, *(_name(getattr(module, option, None)) for option in _OPTIONS)]
        for module in transformer.modules()
        if type(module).__module__.startswith("sentence_transformers.")
    ]
    return {
        "weights": digest,
        "vocabularies": [tokenization.vocabulary(transformer, task) for task in tokenization.TASKS],
        "samples": [tokenization.sample(transformer, task) for task in tokenization.TASKS],
        "modules": modules[1:],
        "prompts": transformer.prompts,
        "default_prompt": transformer.default_prompt_name,
        "max_tokens": [tokenization.limit(transformer, task) for task in tokenization.TASKS],
        "dimensions": transformer.get_embedding_dimension(),
        "precision": precision,
    }


def _names(transformer: "SentenceTransformer", task: str) -> list[str]:
    """Returns the names of the modules on a route, which depend on the files and not on the release of a library."""
    names = {id(module): name for name, module in transformer.named_modules()}
    return [names[id(module)] for module in routes.modules(transformer, task)]


def _documents(transformer: "SentenceTransformer", *, quantized: Mapping[int, tuple[Path, ...]]) -> dict[str, object]:
    """Describes everything that decides the vectors of documents."""
    modules = routes.modules(transformer, "document")
    side = tokenization.truncation_side(transformer, "document")
    return {
        **({} if side == _USUAL_SIDE else {"truncation_side": side}),
        "modules": [_module(module, quantized.get(id(module))) for module in modules],
        "vocabulary": tokenization.vocabulary(transformer, "document"),
        "tokenizer": tokenization.rules(transformer, "document"),
        "sample": tokenization.sample(transformer, "document"),
        "prompt": tokenization.prompt(transformer, "document"),
        "max_tokens": tokenization.limit(transformer, "document"),
        "dimensions": transformer.get_embedding_dimension(),
    }


def _module(module: Any, quantized: tuple[Path, ...] | None) -> list[object]:
    """Describes a module. What `sentence_transformers` saves of it is complete, or it could not load it again."""
    from sentence_transformers.base.modules import Transformer

    name = type(module).__qualname__
    if not isinstance(module, Transformer):
        return [name, module.get_config_dict(), _tensors(module)]
    output = module.modality_config["text"]
    state = _tensors(module.model, unused=() if "pooler_output" in str(output) else (_POOLER,))
    return [
        name,
        module.get_config_dict(),  # which may truncate documents earlier than the tokenizer does
        output,
        weights.architecture(module.model.config.to_diff_dict()),
        _adapters(module.model),
        state if quantized is None else weights.digest_of(quantized),
    ]


def _adapters(model: Any) -> list[object]:
    """Describes what adapters such as LoRA have besides tensors: how much each counts, and which of them are on."""
    return [
        [name, *(_adapter_state(getattr(module, state, None)) for state in _ADAPTER_STATE)]
        for name, module in model.named_modules()
        if isinstance(getattr(module, "scaling", None), dict)
    ]


def _adapter_state(value: object) -> object:
    """Returns the state of an adapter in a form for JSON, with the names of adapters in order."""
    return sorted(value.items()) if isinstance(value, dict) else value


def _tensors(module: Any, *, unused: tuple[str, ...] = ()) -> str:
    """Hashes the names, types, shapes and values of a module's tensors.

    Args:
        module: A torch module.
        unused: Beginnings of the names of tensors that no vector depends on. A pooler that is missing in the files is
            random after each load.
    """
    import torch

    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name.startswith(unused):
            continue
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _hash(identity: object) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def _name(option: object) -> object:
    """Returns an option in a form for JSON; a function by the name of its class."""
    return type(option).__name__ if callable(option) else option
