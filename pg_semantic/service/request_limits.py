"""Limits on a request: the types of its fields, and checks against the settings."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import pydantic
from pydantic import Field

from pg_semantic import errors
from pg_semantic.settings import Settings, variable

_LONGEST_NAME = 500


class FieldError(errors.QueryError):
    """The value of a field is invalid. ``param`` is the name of the field."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


def _is_text(text: str) -> str:
    """Refuses what JSON allows but Postgres can't store: NUL, and lone surrogates, which no tokenizer reads either."""
    if not text.isprintable() and ("\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text)):
        raise ValueError("text must not contain NUL characters or lone surrogates")
    return text


Text: TypeAlias = Annotated[str, pydantic.AfterValidator(_is_text)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME), pydantic.AfterValidator(_is_text)]


class RequestModel(pydantic.BaseModel):
    """Base of all requests.

    Unknown fields are ignored, because other services' APIs have more of them. Fields that are null count as omitted,
    because many clients send every field that they know.
    """

    model_config = pydantic.ConfigDict(frozen=True, hide_input_in_errors=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: object) -> object:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


def check(texts: Sequence[str], settings: Settings, *, noun: str = "text") -> None:
    """Checks the number of texts in a request, and the length of each.

    Args:
        noun: What the request calls a text, for messages. A single one is "the text", of several each has its number.

    Raises:
        errors.QueryError: There are no texts or too many, or one is blank or too long.
    """
    if not texts:
        raise errors.QueryError("The request has no texts: send at least one.")
    if len(texts) > settings.service_request_texts:
        raise errors.QueryError(
            f"The request has {len(texts)} texts: send at most {settings.service_request_texts} "
            f"({variable('service_request_texts')})."
        )
    for number, text in enumerate(texts):
        name = f"The {noun}" if len(texts) == 1 else f"{noun.capitalize()} {number}"
        if not text.strip():
            raise errors.QueryError(
                f"{name} is blank: {'fill it in' if len(texts) == 1 else 'fill it in, or leave it out'}."
            )
        if len(text) > settings.service_text_characters:
            raise errors.QueryError(
                f"{name} has {len(text)} characters: send at most {settings.service_text_characters} "
                f"({variable('service_text_characters')})."
            )
