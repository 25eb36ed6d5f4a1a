"""Which prompts an encoder puts before texts: the declared ones, else those in its files, else those in the catalog."""

import logging
from typing import TYPE_CHECKING

from pg_semantic.encoders import tokenization
from pg_semantic.index import known_encoders
from pg_semantic.index.known_encoders import Prompts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pg_semantic.settings import Settings

log = logging.getLogger("pg_semantic.encoders")


def declared(reference: str, prompts: Prompts, settings: "Settings") -> Prompts:
    """Returns the prompts declared with an index; the setting ``encoder_prompts`` fills in the others."""
    given = settings.encoder_prompts.get(reference)
    return prompts.filled(Prompts(given.query, given.document)) if given else prompts


def apply(transformer: "SentenceTransformer", reference: str, prompts: Prompts) -> Prompts:
    """Sets the prompts of a transformer.

    Args:
        transformer: The encoder to change.
        reference: Its reference, by which the catalog knows it.
        prompts: Declared prompts. Where one is None, the encoder's own is used, or else the one in the catalog.

    Returns:
        The prompts that the transformer uses from now on.
    """
    known = known_encoders.prompts(reference)
    query = _apply(transformer, "query", declared=prompts.query, known=known.query)
    document = _apply(transformer, "document", declared=prompts.document, known=known.document)
    return Prompts(query, document)


def warn(reference: str, *, declared: Prompts, loaded: Prompts) -> None:
    """Logs a warning if an encoder seems to expect prompts but has none."""
    if lacking := known_encoders.lacking(reference, declared=declared, loaded=loaded):
        log.warning("%s", lacking.advice, extra={"event": "prompt_missing", "encoder": reference})


def _apply(transformer: "SentenceTransformer", task: str, *, declared: str | None, known: str | None) -> str:
    now = tokenization.prompt(transformer, task)
    # If an encoder's files only have a prompt `passage`, the empty `document` that sentence-transformers adds hides it.
    named = (transformer.prompts.get(name) for name in tokenization.PROMPT_NAMES[task])
    own = now or next(filter(None, named), None)
    wanted = (own or known or "") if declared is None else declared
    if wanted != now:  # don't touch a prompt that stays the same: that would change the fingerprint
        transformer.prompts = {**transformer.prompts, task: wanted}
    return wanted
