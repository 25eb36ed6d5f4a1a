"""What a server with OpenAI's API answers: vectors, in base64 or as numbers, in any order; and the encoders it has."""

import base64
import re

import numpy as np
import pydantic
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders.base import Vectors

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class _Answered(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(from_attributes=True, hide_input_in_errors=True)


class _Vector(_Answered):
    index: int
    embedding: str | list[float]

    def numbers(self) -> NDArray[np.float32]:
        if isinstance(self.embedding, str):
            return np.frombuffer(base64.b64decode(self.embedding, validate=True), "<f4").astype(np.float32)
        return np.asarray(self.embedding, np.float32)


class _Answer(_Answered):
    data: list[_Vector]


class _Listed(_Answered):
    id: str
    fingerprint: object = None


class _List(_Answered):
    data: list[_Listed]


def vectors(answer: object, *, texts: int, dimensions: int | None, reference: str) -> Vectors:
    """The vectors of so many texts, in the order in which these were sent.

    Raises `errors.EncoderError` for what is not that, and `errors.EncoderMismatch` for other than ``dimensions``, which
    are by default those of the first vector.
    """
    try:
        data = sorted(_Answer.model_validate(answer).data, key=lambda vector: vector.index)
        rows = [vector.numbers() for vector in data]
    except ValueError:  # pydantic's, base64's and numpy's
        raise errors.EncoderError(
            f"The server of encoder {reference!r} answered with something other than vectors."
        ) from None
    if [vector.index for vector in data] != list(range(texts)):
        raise errors.EncoderError(
            f"The server of encoder {reference!r} answered {len(data)} vectors for {texts} texts."
        )
    expected = len(rows[0]) if dimensions is None else dimensions
    found = {len(row) for row in rows} - {expected}
    if found:
        raise errors.EncoderMismatch(
            f"The server of encoder {reference!r} answered with vectors of {max(found)} dimensions, not {expected}: "
            "it runs another encoder now, or has none of these dimensions."
        )
    return np.stack(rows)


def fingerprint(answer: object, *, name: str) -> str | None:
    """The fingerprint that a server's list has for the encoder of that name, if the answer is such a list."""
    try:
        listed = _List.model_validate(answer).data
    except pydantic.ValidationError:
        return None
    found = [str(one.fingerprint) for one in listed if one.id == name]
    return next((text for text in found if _FINGERPRINT.fullmatch(text)), None)
