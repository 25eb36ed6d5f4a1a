"""What a server with OpenAI's API answers: vectors, in base64 or as numbers, in any order; and the encoders it has."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import pydantic
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders.base import Vectors
from pg_semantic.index.encoder_catalog import Prompts

T = TypeVar("T", bound=pydantic.BaseModel)

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_STATUS = re.compile(r"[1-5]\d\d")
_CODE = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9_.-]{3,64}")


class _ResponseModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(hide_input_in_errors=True)


class _Vector(_ResponseModel):
    index: int | None = None
    embedding: str | list[float]

    def numbers(self) -> NDArray[np.float32]:
        if isinstance(self.embedding, str):
            return np.frombuffer(base64.b64decode(self.embedding, validate=True), "<f4").astype(np.float32)
        return np.asarray(self.embedding, np.float32)


class _EmbeddingsResponse(_ResponseModel):
    data: list[_Vector]


class _ListedModel(_ResponseModel):
    id: str
    fingerprint: object = None
    query_prompt: str | None = None
    document_prompt: str | None = None


class _List(_ResponseModel):
    data: list[_ListedModel]


def vectors(answer: object, *, texts: int, dimensions: int | None, reference: str) -> Vectors:
    """The vectors of so many texts, in the order in which these were sent.

    Args:
        answer: JSON that was read, or its text where the server did not say that it is JSON.
        texts: How many texts were sent.
        dimensions: Of each vector; by default those of the first.
        reference: The encoder's reference, for messages.

    Raises:
        errors.EncoderError: It is something else.
        errors.EncoderMismatch: The vectors have other dimensions.
    """
    who = f"The server of encoder {reference!r}"
    try:
        data = _read(_EmbeddingsResponse, answer).data
        rows = [vector.numbers() for vector in data]
    except ValueError:  # pydantic's, base64's and numpy's
        raise errors.EncoderError(f"{who} answered with something other than vectors.") from None
    if not all(len(row) for row in rows):
        raise errors.EncoderError(f"{who} answered with an empty vector.")
    if len(rows) != texts:
        raise errors.EncoderError(f"{who} answered {len(rows)} vectors for {texts} texts.")
    order = _order([vector.index for vector in data])
    if order is None:
        raise errors.EncoderError(f"{who} does not say which text each of its {texts} vectors belongs to.")
    expected = len(rows[0]) if dimensions is None else dimensions
    found = {len(row) for row in rows} - {expected}
    if found:
        raise errors.EncoderMismatch(
            f"{who} answered with vectors of {max(found)} dimensions, not {expected}: "
            "it runs another encoder now, or has none of these dimensions."
        )
    return np.stack([rows[place] for place in order])


def fingerprint(answer: object, *, name: str) -> tuple[str, Prompts] | None:
    """The fingerprint of the encoder of that name in a server's list, and its prompts; None if the list has none."""
    try:
        listed = _read(_List, answer).data
    except ValueError:
        return None
    for one in listed:
        if one.id == name and _FINGERPRINT.fullmatch(str(one.fingerprint)):
            return str(one.fingerprint), Prompts(one.query_prompt, one.document_prompt)
    return None


def code(text: str) -> str | None:
    """The code of an error, as ``insufficient_quota``; never its message, which may quote a text.

    Servers say it in an object, in an object under ``error``, or in a list of these.
    """
    try:
        body = json.loads(text)
    except ValueError:
        return None
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        body = body["error"]
    if not isinstance(body, Mapping):
        return None
    said = (body.get(name) for name in ("code", "status", "error_type", "type"))
    return next((one for one in said if isinstance(one, str) and _CODE.fullmatch(one)), None)


def refusal(answer: object) -> int | None:
    """The status that an answer names in place of vectors: some proxies pass errors on with status 200."""
    error = answer.get("error") if isinstance(answer, Mapping) else None
    status = error.get("code") if isinstance(error, Mapping) else None
    return int(status) if isinstance(status, int | str) and _STATUS.fullmatch(str(status)) else None


def _order(indexes: Sequence[int | None]) -> list[int] | None:
    """At which place the vector of each text is; None when that can not be told.

    Vectors without an index are in the order of the texts: some servers write none, or leave out a 0.
    """
    places = [place if index is None else index for place, index in enumerate(indexes)]
    if len(places) == 1:
        return [0]
    if sorted(places) != list(range(len(places))):
        return None
    return sorted(range(len(places)), key=places.__getitem__)


def _read(kind: type[T], answer: object) -> T:
    return kind.model_validate_json(answer) if isinstance(answer, str) else kind.model_validate(answer)
