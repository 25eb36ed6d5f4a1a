"""What the service is sent and what it answers, as JSON."""

from pydantic import BaseModel


class NewArticle(BaseModel):
    """An article to add."""

    title: str
    body: str
    lang: str = "en"


class Added(BaseModel):
    """An article that was added; it is found once the worker has seen it, mostly within a second."""

    id: int


class Found(BaseModel):
    """An article that was found, with its score, the score of each stage, and the piece of text that matched best."""

    id: int
    title: str
    score: float
    scores: dict[str, float]
    passage: str
