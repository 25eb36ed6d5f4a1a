"""``POST /v1/embeddings`` and ``GET /v1/models``, as in OpenAI's API."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from pydantic import Field

from pg_semantic import errors
from pg_semantic.encoders.encoder_thread import EncodedText
from pg_semantic.service import error_responses, request_limits
from pg_semantic.service.dependencies import ServiceDep
from pg_semantic.service.request_limits import Name, RequestModel, Text
from pg_semantic.service.shared_encoder import SharedEncoder

router = APIRouter(tags=["embeddings"])

_MOST_DIMENSIONS = 100_000
_OTHER_APIS: dict[str, object] = {  # values in the APIs of Cohere and NVIDIA
    "search_query": "query",
    "search_document": "document",
    "passage": "document",
    "END": True,
    "NONE": False,
}
_ARE_TOKENS = (
    "token ids of an unknown tokenizer can't be encoded: send texts. LangChain's OpenAIEmbeddings sends texts with "
    "check_embedding_ctx_length=False."
)


class EmbeddingsRequest(RequestModel):
    """Texts to encode; ``model`` is the reference of an encoder."""

    input: Annotated[Text | list[Text], Field(description="A text, or a list of texts.")]
    model: Name
    dimensions: Annotated[
        int | None,
        Field(ge=1, le=_MOST_DIMENSIONS, description="Truncate vectors to this length; for Matryoshka encoders."),
    ] = None
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="Numbers, or little-endian 32-bit floats as base64.")
    ] = "float"
    input_type: Annotated[
        Literal["query", "document"], Field(description="What the texts are: some encoders treat queries differently.")
    ] = "document"
    truncate: Annotated[
        bool, Field(description="Truncate texts that are too long for the encoder. If false, they are refused.")
    ] = False

    @pydantic.field_validator("input", mode="before")
    @classmethod
    def _is_text(cls, given: object) -> object:
        if isinstance(given, list) and any(isinstance(one, int | list) for one in given):
            raise ValueError(_ARE_TOKENS)
        return given

    @pydantic.field_validator("input_type", "truncate", mode="before")
    @classmethod
    def _translate(cls, given: object) -> object:
        return _OTHER_APIS.get(given, given) if isinstance(given, str) else given

    @property
    def texts(self) -> list[str]:
        """The input as a list, even if it is a single text."""
        return [self.input] if isinstance(self.input, str) else self.input


class Embedding(pydantic.BaseModel):
    """The vector of a text, as numbers or base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(pydantic.BaseModel):
    """The number of tokens that the encoder read, and of texts that were truncated."""

    prompt_tokens: int
    total_tokens: int
    truncated: int


class Embeddings(pydantic.BaseModel):
    """The vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class Listed(pydantic.BaseModel):
    """An encoder of the service."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "pg_semantic"
    fingerprint: str
    document_fingerprint: str
    dimensions: int
    max_tokens: int
    query_prompt: str | None = None
    document_prompt: str | None = None


class Listing(pydantic.BaseModel):
    """The encoders of the service."""

    object: Literal["list"] = "list"
    data: list[Listed]


@router.post("/v1/embeddings", response_model=Embeddings)
@router.post("/v1/embeddings/", include_in_schema=False)
@router.post("/embeddings", include_in_schema=False)  # for clients whose base URL lacks /v1
async def embeddings(wanted: EmbeddingsRequest, shared: ServiceDep) -> Response:
    """Returns the vectors of texts."""
    encoder = shared.models.encoder(wanted.model)
    if encoder is None:
        return _not_found(wanted.model, shared)
    texts = wanted.texts
    request_limits.check(texts, shared.settings)
    length = wanted.dimensions or encoder.dimensions
    if length > encoder.dimensions:
        raise errors.QueryError(
            f"The encoder's vectors have {encoder.dimensions} dimensions: request no more than that, not {length}."
        )
    encoded = await encoder.encode_all(texts, wanted.input_type, whole=not wanted.truncate)
    return JSONResponse(_answer(encoded, wanted, encoder, length=length))


@router.get("/v1/models")
@router.get("/v1/models/", include_in_schema=False)
@router.get("/models", include_in_schema=False)
async def listed(shared: ServiceDep) -> Listing:
    """Lists the encoders with their fingerprints."""
    return Listing(data=[_listed(encoder) for encoder in shared.models.encoders])


@router.get("/v1/models/{name:path}", response_model=Listed)
async def one(name: str, shared: ServiceDep) -> Response:
    """Describes one encoder."""
    encoder = shared.models.encoder(name)
    return JSONResponse(_listed(encoder).model_dump()) if encoder else _not_found(name, shared)


def _listed(encoder: SharedEncoder) -> Listed:
    return Listed(
        id=encoder.reference,
        fingerprint=encoder.fingerprint,
        document_fingerprint=encoder.encoder.document_fingerprint,
        dimensions=encoder.dimensions,
        max_tokens=encoder.encoder.max_tokens,
        query_prompt=getattr(encoder.encoder, "query_prompt", None),
        document_prompt=getattr(encoder.encoder, "document_prompt", None),
    )


def _not_found(name: str, shared: ServiceDep) -> Response:
    known = ", ".join(encoder.reference for encoder in shared.models.encoders) or "none"
    shown = name.encode("ascii", "replace").decode()[:100]
    message = f"Encoder {shown!r} isn't loaded. Available encoders: {known}."
    return error_responses.answer(404, message, "model_not_found", param="model")


def _answer(
    encoded: Sequence[EncodedText], wanted: EmbeddingsRequest, encoder: SharedEncoder, *, length: int
) -> dict[str, Any]:
    limit = encoder.encoder.max_tokens
    tokens = sum(min(one.tokens, limit) for one in encoded)
    as_base64 = wanted.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _written(_cut(one.vector, length), as_base64=as_base64)}
        for index, one in enumerate(encoded)
    ]
    truncated = sum(one.tokens > limit for one in encoded)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "truncated": truncated}
    return {"object": "list", "data": data, "model": wanted.model, "usage": usage}


def _cut(vector: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Truncates a vector to its first dimensions, and normalizes it."""
    if length == len(vector):
        return vector
    beginning = vector[:length]
    return np.asarray(beginning / max(float(np.linalg.norm(beginning)), 1e-12), np.float32)


def _written(vector: NDArray[np.float32], *, as_base64: bool) -> str | list[float]:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if as_base64 else vector.tolist()
