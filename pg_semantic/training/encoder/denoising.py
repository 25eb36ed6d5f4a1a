"""TSDAE (Wang, Reimers and Gurevych 2021): an encoder learns to say in one vector what a decoder restores a text from.

The decoder has the encoder's own weights, and new ones for what a decoder has in addition. It is thrown away after
training.
"""

import contextlib
import logging
import random
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pg_semantic import errors
from pg_semantic.encoders import routes
from pg_semantic.encoders.local import backends
from pg_semantic.training.sentences import WITHOUT_SPACES

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_DECODERS = ("bert", "camembert", "roberta", "xlm-roberta")
"""The types of transformers that can also be a decoder which looks at a vector."""

_PARTS = re.compile(f"{WITHOUT_SPACES.pattern}|(?:(?!{WITHOUT_SPACES.pattern}).)+")
"""A character of a language without spaces, or a part of a word without such characters."""

_DELETED = 0.6  # of the words, the best share in the paper


def damaged(texts: Iterable[str], *, seed: int) -> list[str]:
    """Returns texts without 60% of their words. At least one word is left.

    In languages that are written without spaces, each character counts as a word.
    """
    choose = random.Random(seed)  # noqa: S311 - not a secret
    found = []
    for text in texts:
        words = list(_words(text))
        left = [word for word in words if choose.random() >= _DELETED]
        found.append("".join(left or words[:1]).strip())
    return found


def _words(text: str) -> Iterator[str]:
    """Yields the words of a text, with a space before those that have white space before them."""
    for word in text.split():
        first, *others = _PARTS.findall(word)
        yield f" {first}"
        yield from others


def require_decoder(trained: "SentenceTransformer") -> None:
    """Checks that an encoder can be trained in this way.

    Raises:
        errors.EncoderError: Its transformer can't be a decoder too, or there is another module behind it.
    """
    configs = [module.model.config for module in backends.transformers_of(trained)]
    with trained.truncate_embeddings(None):
        width = int(trained.get_embedding_dimension())
    if not routes.has_router(trained) and len(configs) == 1:
        (config,) = configs
        if config.model_type in _DECODERS and config.hidden_size == width:
            return
    raise errors.EncoderError(
        "The loss tsdae needs an encoder of a single transformer whose weights can also be those of a decoder "
        f"({', '.join(_DECODERS)}), and this one isn't: use pairs of a row with itself (--rows) and the loss ranking."
    )


def loss(trained: "SentenceTransformer") -> Any:
    """Returns the loss. Reads the weights of the decoder from the files of the encoder."""
    from sentence_transformers.sentence_transformer import losses

    require_decoder(trained)
    device = trained.device
    with _quiet():
        made = losses.DenoisingAutoEncoderLoss(trained)
    made.decoder.float().to(device)  # shares its weights with the encoder, which was there and in 32 bits before
    return made


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Logs no report on the weights that are new."""
    reports = logging.getLogger("transformers")
    level = reports.level
    reports.setLevel(logging.ERROR)
    try:
        yield
    finally:
        reports.setLevel(level)
