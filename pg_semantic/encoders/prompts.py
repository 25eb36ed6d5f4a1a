"""Which prompts are put before texts: those declared, those of the encoder's own files, those of the catalog."""

import logging
from typing import TYPE_CHECKING

from pg_semantic.encoders import tokenization
from pg_semantic.index import encoder_catalog
from pg_semantic.index.encoder_catalog import Prompts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pg_semantic.settings import Settings

log = logging.getLogger("pg_semantic.encoders")


def declared(reference: str, prompts: Prompts, settings: "Settings") -> Prompts:
    """The prompts declared with an index, and those of the setting ``encoder_prompts`` where it declares none."""
    given = settings.encoder_prompts.get(reference)
    return prompts.filled(Prompts(given.query, given.document)) if given else prompts


def apply(transformer: "SentenceTransformer", reference: str, prompts: Prompts) -> Prompts:
    """Makes a transformer put these prompts before texts, and where they are open its own, or those of the catalog.

    Returns the prompts that it uses from now on.
    """
    known = encoder_catalog.prompts(reference)
    query = _apply(transformer, "query", declared=prompts.query, known=known.query)
    document = _apply(transformer, "document", declared=prompts.document, known=known.document)
    return Prompts(query, document)


def warn(reference: str, *, declared: Prompts, loaded: Prompts) -> None:
    """Logs a warning if an encoder looks like one that expects prompts and gets none."""
    if lacking := encoder_catalog.lacking(reference, declared=declared, loaded=loaded):
        log.warning("%s", lacking.advice, extra={"event": "prompt_missing", "encoder": reference})


def _apply(transformer: "SentenceTransformer", task: str, *, declared: str | None, known: str | None) -> str:
    now = tokenization.prompt(transformer, task)
    # Files that name a prompt `passage` alone lose it to the empty `document` that sentence-transformers adds.
    named = (transformer.prompts.get(name) for name in tokenization.PROMPT_NAMES[task])
    own = now or next(filter(None, named), None)
    wanted = (own or known or "") if declared is None else declared
    if wanted != now:  # what stays as it is leaves the fingerprint as it is
        transformer.prompts = {**transformer.prompts, task: wanted}
    return wanted
