"""A script with SQLModel: each hit's entity is also a pydantic object, printed as JSON.

Run it with an embedded database::

    pip install sqlmodel 'pg-semantic-index[demo]'
    export PG_SEMANTIC_DSN=embedded:./data
    pg-semantic db upgrade
    python examples/sqlmodel_app/recipes.py "a warm dish with pulses"

pydantic treats every attribute in a class body as a field, so annotate the semantic index as a `ClassVar`.
EXAMPLE_ENCODER names another encoder.
"""

import os
import subprocess
import sys
from typing import ClassVar

from sqlmodel import Field, Session, SQLModel, col

from pg_semantic import Searcher, SemanticIndex, database, encoders

ENCODER = os.environ.get("EXAMPLE_ENCODER", "sentence-transformers/all-MiniLM-L6-v2")


class Recipe(SQLModel, table=True):
    """A recipe. `Recipe.semantic` ranks recipes by their text."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
    steps: str | None = None
    vegan: bool = False

    semantic: ClassVar[SemanticIndex] = SemanticIndex("name", "steps", encoder=ENCODER)


RECIPES = [
    Recipe(id=1, name="Lentil soup", steps="Simmer red lentils with cumin and lemon.", vegan=True),
    Recipe(id=2, name="Omelette", steps="Whisk three eggs, fry in butter, fold."),
    Recipe(id=3, name="Fruit salad", vegan=True),
    Recipe(id=4, name="Chickpea stew", steps="Braise chickpeas with tomato, serve hot with bread.", vegan=True),
]


def main(question: str) -> None:
    """Prints the vegan recipes that match a query best, one JSON object per line."""
    engine = database.connect(os.environ.get("PG_SEMANTIC_DSN"))
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        for recipe in RECIPES:
            session.merge(recipe)
        session.commit()

    # In production, a worker keeps running. This one encodes the waiting rows and exits.
    subprocess.run([sys.executable, "-m", "pg_semantic.cli", "worker", "--once"], check=True, stdout=sys.stderr)

    searcher = Searcher(encoders.load(ENCODER))
    with Session(engine) as session:
        for hit in searcher.search(session, Recipe.semantic, question, limit=2, where=[col(Recipe.vegan)]):
            print(hit.entity.model_dump_json())
    engine.dispose()


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "a warm dish with pulses")
