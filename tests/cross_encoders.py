"""Tiny cross-encoders with random weights, made here and saved as a hub would hand them out."""

from pathlib import Path

import torch
import transformers
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

LONGEST = 64
WORDS = ("harbour", "candle", "meadow", "engine", "violin", "glacier", "pepper", "lantern", "anchor", "thistle")
_SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]  # ids 0 to 3


def save(folder: Path, *, labels: int = 1, activation: torch.nn.Module | None = None) -> Path:
    """Saves a cross-encoder into a folder; the same weights at each call, so wide that different pairs differ."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        _classifier(labels).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    CrossEncoder(str(folder), device="cpu", activation_fn=activation).save_pretrained(
        str(folder), create_model_card=False
    )
    return folder


def _classifier(labels: int) -> transformers.BertForSequenceClassification:
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=len(_SPECIAL) + len(WORDS),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            initializer_range=0.2,
            max_position_embeddings=LONGEST,
            pad_token_id=0,
            num_labels=labels,
        )
    )


def _tokenizer() -> transformers.PreTrainedTokenizerFast:
    made = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate([*_SPECIAL, *WORDS])}, unk_token="<unk>")  # noqa: S106 - a token of a vocabulary
    )
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    names = dict(zip(("pad_token", "cls_token", "sep_token", "unk_token"), _SPECIAL, strict=True))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=LONGEST, **names)
