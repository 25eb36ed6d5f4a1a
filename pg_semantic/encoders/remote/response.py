"""Parses the responses of OpenAI's API: vectors, in base64 or as numbers and in any order, and the list of models."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pydantic
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders.base import Vectors
from pg_semantic.index.known_encoders import Prompts

T = TypeVar("T", bound=pydantic.BaseModel)

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_STATUS = re.compile(r"[1-5]\d\d")
_COUNTS = ("total_tokens", "prompt_tokens")
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


class _CountedResponse(_ResponseModel):
    usage: object = None


class _ListedModel(_ResponseModel):
    id: str
    fingerprint: object = None
    document_fingerprint: object = None
    query_prompt: str | None = None
    document_prompt: str | None = None


class _List(_ResponseModel):
    data: list[_ListedModel]


def vectors(answer: object, *, texts: int, dimensions: int | None, reference: str) -> Vectors:
    """Parses the vectors in a response.

    Args:
        answer: Parsed JSON, or the text if the server didn't declare it as JSON.
        texts: How many texts were sent.
        dimensions: The expected number of dimensions; by default that of the first vector.
        reference: The encoder reference, for messages.

    Returns:
        Shape (texts, dimensions), in the order in which the texts were sent.

    Raises:
        errors.EncoderError: The response isn't one vector per text.
        errors.EncoderMismatch: The vectors have other dimensions.
    """
    who = f"The server of encoder {reference!r}"
    try:
        data = _read(_EmbeddingsResponse, answer).data
        rows = [vector.numbers() for vector in data]
    except ValueError:  # pydantic's, base64's and numpy's
        raise errors.EncoderError(f"{who} returned something other than vectors.") from None
    if not all(len(row) for row in rows):
        raise errors.EncoderError(f"{who} returned an empty vector.")
    if len(rows) != texts:
        raise errors.EncoderError(f"{who} returned {len(rows)} vectors for {texts} texts.")
    order = _order([vector.index for vector in data])
    if order is None:
        raise errors.EncoderError(f"{who} does not say which text each of its {texts} vectors belongs to.")
    expected = len(rows[0]) if dimensions is None else dimensions
    found = {len(row) for row in rows} - {expected}
    if found:
        raise errors.EncoderMismatch(
            f"{who} returned vectors of {max(found)} dimensions, not {expected}: "
            "it runs another encoder now, or does not support this number of dimensions."
        )
    return np.stack([rows[place] for place in order])


def tokens(answer: object) -> int | None:
    """Returns how many tokens a response says its texts have; None if it doesn't say. Some servers say 0.

    Args:
        answer: Parsed JSON, or the text if the server didn't declare it as JSON.
    """
    try:
        usage = _read(_CountedResponse, answer).usage
    except ValueError:
        return None
    said = (usage.get(name) for name in _COUNTS) if isinstance(usage, Mapping) else ()
    known = (one for one in said if isinstance(one, int) and not isinstance(one, bool) and one > 0)
    return next(known, None)


@dataclass(frozen=True, slots=True)
class ServedEncoder:
    """What this package's service says about an encoder. The document fingerprint is None if it doesn't list one."""

    fingerprint: str
    document_fingerprint: str | None
    prompts: Prompts


def served(answer: object, *, name: str) -> ServedEncoder | None:
    """Finds an encoder in a server's list of models.

    Args:
        answer: Parsed JSON, or its text.
        name: The encoder's name on the server.

    Returns:
        Its fingerprints and prompts, or None if the list has no fingerprint for it.
    """
    try:
        listed = _read(_List, answer).data
    except ValueError:
        return None
    for one in listed:
        if one.id == name and _FINGERPRINT.fullmatch(str(one.fingerprint)):
            documents = str(one.document_fingerprint)
            return ServedEncoder(
                str(one.fingerprint),
                documents if _FINGERPRINT.fullmatch(documents) else None,
                Prompts(one.query_prompt, one.document_prompt),
            )
    return None


def code(text: str) -> str | None:
    """Finds the code in an error response, such as ``insufficient_quota``. Ignores the message, which may quote a text.

    Servers put the code into an object, into an object under ``error``, or into a list of either.
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
    """Returns the error status in a response body, if any: some proxies forward errors with status 200."""
    error = answer.get("error") if isinstance(answer, Mapping) else None
    status = error.get("code") if isinstance(error, Mapping) else None
    return int(status) if isinstance(status, int | str) and _STATUS.fullmatch(str(status)) else None


def _order(indexes: Sequence[int | None]) -> list[int] | None:
    """Returns the position of each text's vector, or None if it is ambiguous.

    A vector without an index belongs to the text at its position: some servers send no indexes, or omit a 0.
    """
    places = [place if index is None else index for place, index in enumerate(indexes)]
    if len(places) == 1:
        return [0]
    if sorted(places) != list(range(len(places))):
        return None
    return sorted(range(len(places)), key=places.__getitem__)


def _read(kind: type[T], answer: object) -> T:
    return kind.model_validate_json(answer) if isinstance(answer, str) else kind.model_validate(answer)
