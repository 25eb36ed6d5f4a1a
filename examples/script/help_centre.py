"""A complete script: declare, create, write, sync, and search in three modes.

Run it with an embedded database::

    pip install 'pg-semantic-index[demo]'
    export PG_SEMANTIC_DSN=embedded:./data
    pg-semantic db upgrade
    python examples/script/help_centre.py "how do I get back into my account"

You can run it again, because the articles have fixed keys. You can use any other DSN. EXAMPLE_ENCODER names another
encoder.
"""

import os
import subprocess
import sys
from typing import Literal, get_args

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_semantic import Searcher, SemanticIndex, database, encoders

ENCODER = os.environ.get("EXAMPLE_ENCODER", "sentence-transformers/all-MiniLM-L6-v2")

Mode = Literal["dense", "lexical", "hybrid"]


class Base(DeclarativeBase): ...


class Article(Base):
    """An article in a help center."""

    __tablename__ = "help_article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]
    lang: Mapped[str]

    semantic = SemanticIndex("title", "body", encoder=ENCODER)


ARTICLES = [
    ("Password help", "Forgot your password? Ask for a reset link on the login page.", "en"),
    ("Two-factor sign-in", "A lost phone locks you out. A recovery code lets you in again.", "en"),
    ("Invoices", "Invoices are sent on the first of the month, to the address of your account.", "en"),
    ("Delivery times", "Parcels within Europe arrive in three days, others in ten.", "en"),
    ("Passwort vergessen", "Auf der Anmeldeseite gibt es einen Link zum Zurücksetzen.", "de"),
]


def main(question: str) -> None:
    """Prints what each mode finds."""
    engine = database.connect(os.environ.get("PG_SEMANTIC_DSN"))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number, (title, body, lang) in enumerate(ARTICLES, start=1):
            session.merge(Article(id=number, title=title, body=body, lang=lang))
        session.commit()

    # In production, a worker keeps running. This one encodes the waiting rows and exits.
    subprocess.run([sys.executable, "-m", "pg_semantic.cli", "worker", "--once"], check=True, stdout=sys.stderr)

    searcher = Searcher(encoders.load(ENCODER))
    modes: tuple[Mode, ...] = get_args(Mode)
    with Session(engine) as session:
        for mode in modes:
            print(f"\n{mode}")
            hits = searcher.search(
                session, Article.semantic, question, mode=mode, limit=3, where=[Article.lang == "en"]
            )
            for hit in hits:
                print(f"  {hit.score:6.3f}  {hit.entity.title}")
    engine.dispose()


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "how do I get back into my account")
