"""Low-rank adaptation (LoRA, Hu et al. 2021): trains small changes of the weights, and adds them up in the end."""

import warnings
from typing import TYPE_CHECKING

from pg_semantic.encoders.local import backends

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_RANK = 16


def adapt(trained: "SentenceTransformer") -> None:
    """Freezes the weights of an encoder's transformers, and adds changes of rank 16 to all their linear layers.

    Needs the package ``peft``.
    """
    from peft import LoraConfig, get_peft_model

    for module in backends.transformers_of(trained):
        config = LoraConfig(r=_RANK, lora_alpha=2 * _RANK, lora_dropout=0.1, target_modules="all-linear")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for names that get others
            module.model = get_peft_model(module.model, config)


def merge(trained: "SentenceTransformer") -> None:
    """Adds the changes to the weights, so that the encoder has the modules that it had before."""
    for module in backends.transformers_of(trained):
        module.model = module.model.merge_and_unload()
        module.model.requires_grad_(requires_grad=True)
