"""The JSON bodies of requests and responses."""

from pydantic import BaseModel


class NewArticle(BaseModel):
    """An article to add."""

    title: str
    body: str
    lang: str = "en"


class Added(BaseModel):
    """An article that was added. Searches find it once a worker has encoded it, usually within a second."""

    id: int


class Found(BaseModel):
    """An article that was found, with its score, the score of each stage, and the passage that matches best."""

    id: int
    title: str
    score: float
    scores: dict[str, float]
    passage: str
