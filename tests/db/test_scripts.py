"""What searches by words find in each script, as docs/explanation/bm25-in-postgres.md says."""

import unicodedata

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_semantic import Searcher, SemanticIndex, encoders
from pg_semantic.index.spec import Lexical
from tests.db.library import ENCODER, execute, sync

SOFT_HYPHEN = "\N{SOFT HYPHEN}"
TEXTS = (
    "Zażółć gęślą jaźń",
    "Привет Мир",
    "שלום עולם",
    "हिन्दी में लिखा",
    "한국의 수도는 서울입니다",
    "东京塔位于日本东京都港区",
    "東京タワーへ行きました。",
    "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "un café noir",
    "ＡＢＣ",  # noqa: RUF001 - full width
    f"co{SOFT_HYPHEN}operate",
    "green apples",
)


class Base(DeclarativeBase): ...


class Page(Base):
    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]
    simple = SemanticIndex("body", encoder=ENCODER, lexical=Lexical("simple"))
    english = SemanticIndex("body", encoder=ENCODER)


@pytest.fixture
def pages(engine: sa.Engine) -> sa.Engine:
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(Page(id=number, body=text) for number, text in enumerate(TEXTS))
    sync(engine)
    return engine


def found(session: Session, query: str, *, english: bool = False, mode: str = "lexical") -> list[str]:
    index = Page.english if english else Page.simple
    hits = Searcher(encoders.load(ENCODER)).search(session, index, query, mode=mode)  # type: ignore[arg-type]
    return [hit.entity.body for hit in hits]


def test_words_are_found_where_there_are_spaces_between_them(pages: sa.Engine) -> None:
    with Session(pages) as session:
        for query, text in (
            ("GĘŚLĄ", "Zażółć gęślą jaźń"),
            ("привет", "Привет Мир"),
            ("עולם", "שלום עולם"),
            ("हिन्दी", "हिन्दी में लिखा"),
            ("수도는", "한국의 수도는 서울입니다"),
        ):
            assert found(session, query) == [text]
        assert found(session, "서울") == []  # a word includes its particles


def test_parts_of_text_without_spaces_are_not_found_by_words_and_are_by_meaning(pages: sa.Engine) -> None:
    with Session(pages) as session:
        for english in (False, True):
            for query in ("东京", "东京塔", "日本", "東京", "東京タワー", "กรุงเทพ", "เมืองหลวง"):
                assert found(session, query, english=english) == []
        assert found(session, "东京塔位于日本东京都港区") == [
            "东京塔位于日本东京都港区"
        ]  # all that is between two marks
        assert "东京塔位于日本东京都港区" in found(session, "东京", mode="dense")


def test_words_that_are_written_in_another_way_are_other_words_until_they_are_normalized(pages: sa.Engine) -> None:
    with Session(pages) as session:
        assert found(session, "café") == ["un café noir"]
        for query in (unicodedata.normalize("NFD", "café"), "cafe", "ABC", "cooperate"):
            assert found(session, query) == []
        assert found(session, unicodedata.normalize("NFKC", unicodedata.normalize("NFD", "café"))) == ["un café noir"]
        execute(pages, "UPDATE page SET body = normalize(body, NFKC)")
        sync(pages)
        assert found(session, "ABC") == ["ABC"]
        assert found(session, "cooperate") == []  # normalize leaves soft hyphens in


def test_a_configuration_of_a_language_finds_other_endings_and_simple_does_not(pages: sa.Engine) -> None:
    with Session(pages) as session:
        assert (found(session, "apple", english=True), found(session, "apple")) == (["green apples"], [])
