"""Tiny encoders of many architectures with random weights, made here and saved as a hub would hand them out.

Their weights are drawn so wide that different texts get different vectors: with the narrow ones that a network is
usually begun with, all texts look alike, and a wrong vector would pass for the right one.
"""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from pg_semantic.demo import tldr_pages

WIDTH = 32
LONGEST = 96
_SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]  # ids 0 to 3
_VOCABULARY = 600
_SIZES = {
    "vocab_size": _VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 2 * WIDTH,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_PLACES = {"max_position_embeddings": LONGEST + 2}


def words(count: int, *, start: int = 0) -> list[str]:
    """Words of the corpus in its order."""
    found = (word for page in tldr_pages.pages() for word in re.findall(r"\w+", page.text))
    return list(itertools.islice(found, start, start + count))


def make(name: str, folder: Path) -> Path:
    """Saves the encoder of this name into a folder below; the same weights at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(len(name))
        made = ENCODERS[name](folder / "parts" / name)
        made.save(str(folder / name), create_model_card=False)
    return folder / name


def _word_level() -> Tokenizer:
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))  # noqa: S106 - a token of a vocabulary
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _trained(made, trainers.WordLevelTrainer(vocab_size=_VOCABULARY, special_tokens=_SPECIAL), "<s> $0 </s>")


def _byte_pairs(template: str = "<s> $0 </s>") -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY, special_tokens=_SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    return _trained(made, trainer, template)


def _unigram(template: str = "<s> $0 </s>") -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=_VOCABULARY, special_tokens=_SPECIAL, unk_token="<unk>")  # noqa: S106
    return _trained(made, trainer, template)


def _trained(tokenizer: Tokenizer, trainer: Any, template: str) -> Tokenizer:
    lines = [" ".join(words(50, start=start)) for start in range(0, 1000, 50)]
    tokenizer.train_from_iterator(lines, trainer)
    special = [(token, number) for number, token in enumerate(_SPECIAL)]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return tokenizer


def _transformer(
    folder: Path, network: Any, tokenizer: Tokenizer, *, longest: int = LONGEST, side: str = "right"
) -> Transformer:
    network.save_pretrained(folder)
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), _SPECIAL, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side=side, **names).save_pretrained(folder)
    made = Transformer(str(folder))
    made.max_seq_length = longest
    return made


def _bert(folder: Path, *, longest: int = LONGEST) -> Transformer:
    network = transformers.BertModel(transformers.BertConfig(**_SIZES, **_PLACES))
    return _transformer(folder, network, _word_level(), longest=longest)


def _distilbert(folder: Path, *, longest: int = LONGEST) -> Transformer:
    config = transformers.DistilBertConfig(
        vocab_size=_VOCABULARY, dim=WIDTH, n_layers=2, n_heads=4, hidden_dim=2 * WIDTH, initializer_range=0.2, **_PLACES
    )
    return _transformer(folder, transformers.DistilBertModel(config), _byte_pairs(), longest=longest)


def _pooling(mode: str = "mean", **options: Any) -> Pooling:
    return Pooling(WIDTH, pooling_mode=mode, **options)


def bert(folder: Path) -> SentenceTransformer:
    """BERT, the mean of its tokens, of any length."""
    return SentenceTransformer(modules=[_bert(folder), _pooling()])


def xlm_roberta(folder: Path) -> SentenceTransformer:
    """XLM-RoBERTa, whose positions are counted from the padding token's id on, by the mask."""
    network = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**_SIZES, **_PLACES))
    return SentenceTransformer(modules=[_transformer(folder, network, _unigram()), _pooling(), Normalize()])


def mpnet(folder: Path) -> SentenceTransformer:
    """MPNet, which has biases by distance, and its first token."""
    network = transformers.MPNetModel(transformers.MPNetConfig(**_SIZES, **_PLACES))
    return SentenceTransformer(modules=[_transformer(folder, network, _word_level()), _pooling("cls"), Normalize()])


def qwen(folder: Path) -> SentenceTransformer:
    """A decoder: padded on the left, read by its last token, with an instruction before queries."""
    config = transformers.Qwen2Config(**_SIZES, **_PLACES, num_key_value_heads=2)
    transformer = _transformer(folder, transformers.Qwen2Model(config), _byte_pairs("$0 </s>"), side="left")
    prompts = {"query": "Instruct: find the page\nQuery: ", "document": ""}
    return SentenceTransformer(modules=[transformer, _pooling("lasttoken"), Normalize()], prompts=prompts)


def t5(folder: Path) -> SentenceTransformer:
    """The encoder half of T5, with a dense layer after the mean."""
    config = transformers.T5Config(
        vocab_size=_VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=2 * WIDTH, num_layers=2, num_heads=4, pad_token_id=0
    )
    transformer = _transformer(folder, transformers.T5EncoderModel(config), _unigram("$0 </s>"))
    dense = Dense(WIDTH, WIDTH, bias=False, activation_function=torch.nn.Identity())
    return SentenceTransformer(modules=[transformer, _pooling(), dense, Normalize()])


def dense(folder: Path) -> SentenceTransformer:
    """BERT with a dense layer and tanh that make fewer dimensions."""
    return SentenceTransformer(modules=[_bert(folder), _pooling(), Dense(WIDTH, 24)])


def modernbert(folder: Path) -> SentenceTransformer:
    """ModernBERT: rotary positions, and a layer in which tokens see only their neighbours."""
    config = transformers.ModernBertConfig(
        **_SIZES,
        **_PLACES,
        cls_token_id=1,
        sep_token_id=2,
        local_attention=16,
        layer_types=["full_attention", "sliding_attention"],
    )
    transformer = _transformer(folder, transformers.ModernBertModel(config), _byte_pairs())
    return SentenceTransformer(modules=[transformer, _pooling(), Normalize()])


def prompts(folder: Path) -> SentenceTransformer:
    """BERT with a prompt before everything, which the mean leaves out."""
    said = {"query": "search for this: ", "document": "a page of the manual: "}
    return SentenceTransformer(modules=[_bert(folder), _pooling(include_prompt=False)], prompts=said)


def router(folder: Path) -> SentenceTransformer:
    """Different transformers, tokenizers and limits for queries and for documents."""
    routes = Router.for_query_document(
        query_modules=[_bert(folder / "query"), _pooling("cls")],
        document_modules=[_distilbert(folder / "document", longest=48), _pooling()],
    )
    return SentenceTransformer(modules=[routes, Normalize()])


def half_static(folder: Path) -> SentenceTransformer:
    """A transformer for documents, a table of words for queries."""
    routes = Router.for_query_document(
        query_modules=[StaticEmbedding(_word_level(), embedding_dim=WIDTH)],
        document_modules=[_distilbert(folder), _pooling()],
    )
    return SentenceTransformer(modules=[routes])


def static(_folder: Path) -> SentenceTransformer:
    """No transformer: the mean over a table of words."""
    return SentenceTransformer(modules=[StaticEmbedding(_word_level(), embedding_dim=WIDTH)])


def matryoshka(folder: Path) -> SentenceTransformer:
    """An encoder whose vectors may be cut off."""
    return SentenceTransformer(modules=[_distilbert(folder), _pooling(), Normalize()])


ENCODERS: dict[str, Callable[[Path], SentenceTransformer]] = {
    made.__name__: made
    for made in (
        bert, xlm_roberta, mpnet, qwen, t5, dense, modernbert, prompts, router, half_static, static, matryoshka
    )
}  # fmt: skip
TRUNCATED = {"matryoshka": 16}
