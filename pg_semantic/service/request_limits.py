"""What one request may ask for: types of its fields, and checks against the settings."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import pydantic
from pydantic import Field

from pg_semantic import errors
from pg_semantic.settings import Settings, variable

_LONGEST_NAME = 500


def _is_text(text: str) -> str:
    """JSON can hold half a character, which neither a tokenizer nor Postgres can read; the latter reads no NUL."""
    if not text.isprintable() and ("\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text)):
        raise ValueError("a text has no NUL and no half of a character (a lone surrogate)")
    return text


Text: TypeAlias = Annotated[str, pydantic.AfterValidator(_is_text)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME), pydantic.AfterValidator(_is_text)]


class RequestModel(pydantic.BaseModel):
    """Base of what is asked for; a field that is not known is no error, as other services have further ones.

    A field that is null is one that was left out: many clients write all that they have.
    """

    model_config = pydantic.ConfigDict(frozen=True, hide_input_in_errors=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: object) -> object:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


def check(texts: Sequence[str], settings: Settings) -> None:
    """Raises `errors.QueryError` for no texts, for too many, and for one that is empty or too long."""
    if not texts:
        raise errors.QueryError("No text was given.")
    if len(texts) > settings.service_request_texts:
        raise errors.QueryError(
            f"{len(texts)} texts in one request: send at most {settings.service_request_texts} "
            f"({variable('service_request_texts')})."
        )
    for number, text in enumerate(texts):
        if not text.strip():
            raise errors.QueryError(f"Text {number} is empty: leave it out, it has no meaning to encode.")
        if len(text) > settings.service_text_characters:
            raise errors.QueryError(
                f"Text {number} has {len(text)} characters: send at most {settings.service_text_characters} "
                f"({variable('service_text_characters')})."
            )
