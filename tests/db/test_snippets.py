"""Snippets: the words of a query marked in a passage, whatever the words and whatever the passage."""

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from pg_semantic import database, errors
from pg_semantic.search import snippets
from pg_semantic.search.snippets import Snippet
from tests.conftest import copy_of

ENGLISH = sa.literal_column("'english'::regconfig", postgresql.REGCONFIG)
FERRY = "The ferries had left at six, and with them the last of the daylight. Marta was counting crates on the pier."
Make = Callable[..., Snippet]


@pytest.fixture(scope="module")
def connection(server: sa.URL, template: str) -> Iterator[sa.Connection]:
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        with engine.connect() as opened:
            yield opened
        engine.dispose()


@pytest.fixture
def snippet(connection: sa.Connection) -> Make:
    """The snippet of a content for a query."""

    def make(content: str, query: str, config: sa.ColumnElement[str] = ENGLISH) -> Snippet:
        expression = snippets.fragments(config, sa.literal(content, sa.Text), sa.literal(query, sa.Text))
        return snippets.parse(connection.scalars(sa.select(expression)).one())

    return make


def marked(made: Snippet) -> list[str]:
    return [made.text[start:stop] for start, stop in made.marks]


def test_words_are_marked_in_whatever_form_they_stand(snippet: Make) -> None:
    made = snippet(FERRY, "ferry counts")
    assert marked(made) == ["ferries", "counting"]
    assert str(made) == made.text
    assert made.text in FERRY


def test_any_word_of_the_query_will_do(snippet: Make) -> None:
    assert marked(snippet(FERRY, "zeppelin over the pier")) == ["pier"]
    assert marked(snippet("Nothing of note. " * 200 + FERRY, "zeppelin over the pier")) == ["pier"]


def test_the_best_pieces_of_a_long_text_are_shown(snippet: Make) -> None:
    made = snippet("Nothing of note. " * 200 + FERRY + " Nothing of note." * 200, "ferry crates")
    assert set(marked(made)) == {"ferries", "crates"}
    assert len(made.text) < 600
    assert len(made.text.split(" … ")) in {1, 2}


@pytest.mark.parametrize("query", ["zeppelin", "the of and", "", " \n", "?!"])
def test_without_a_word_of_the_query_the_beginning_is_shown(snippet: Make, query: str) -> None:
    assert snippet(FERRY, query) == Snippet(FERRY, ())
    beginning = snippet(FERRY * 10, query)
    assert beginning.marks == ()
    assert FERRY.startswith(beginning.text)
    assert len(beginning.text.split()) >= 10


def test_html_in_the_content_is_kept_and_escaped(snippet: Make) -> None:
    made = snippet("<script>alert('ferry & \"pier\"')</script> a < b <path> &amp; <!-- ferry -->", "ferry")
    assert made.text == "<script>alert('ferry & \"pier\"')</script> a < b <path> &amp; <!-- ferry -->"
    assert marked(made) == ["ferry", "ferry"]
    assert made.html() == (
        "&lt;script&gt;alert(&#x27;<mark>ferry</mark> &amp; &quot;pier&quot;&#x27;)&lt;/script&gt; a &lt; b "
        "&lt;path&gt; &amp;amp; &lt;!-- <mark>ferry</mark> --&gt;"
    )


@pytest.mark.parametrize(
    "content",
    ["\ue000a \ue001ferry\ue000 left\ue001\ue001", "\ue001\ue000a ferry left", "a fe\ue000rry\ue001 \x02left\x02"],
)
def test_content_with_the_characters_of_marks_breaks_no_marks(snippet: Make, content: str) -> None:
    made = snippet(content, "ferry")
    assert made.text == "a ferry left"
    assert marked(made) == ["ferry"]


HOSTILE = [
    "'",
    "''; DROP TABLE chunk; --",
    "it's the ferry's \"pier\"",
    "\\",
    "\\' ferry \\\\ '\\",
    "C:\\ferry\\pier it\\'s",
    "ferry & | ! <-> <2> :* :A ( ) ferry:*",
    "!ferry",
    "ferry <-> pier",
    "%s %(ferry)s :ferry {ferry} $1 ?",
    "🚢 ferry 👩‍👩‍👧‍👦",
    "\x02 \ue000ferry\ue001",
    "http://example.com/ferry?a=b&c='d' o'reilly@example.com /usr/o'brien/it's",
    "x" * 5000 + " ferry",
    " ".join(f"word{number}" for number in range(10_000)),
    "ferry " + " ".join(f"o'word\\{number}" for number in range(10_000)),
    "(" * 10_000,
    "ferry-" * 5000,
]


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("config", ["english", "simple"])
def test_any_text_is_a_query(snippet: Make, query: str, config: str) -> None:
    made = snippet(FERRY + " The ferry.", query, sa.cast(config, postgresql.REGCONFIG))
    assert made.text in FERRY + " The ferry."
    if "ferry" in query.replace("\\ferry\\", "").replace("/ferry", "").replace("ferry-", ""):
        assert "ferry" in marked(made)


@pytest.mark.parametrize("word", ["o'reilly@example.com", "/usr/o'brien", "back\\slash"])
def test_a_lexeme_with_a_quote_or_a_backslash_is_found(connection: sa.Connection, word: str) -> None:
    words = sa.func.to_tsvector("simple", word, type_=postgresql.TSVECTOR)
    query = snippets._any_lexeme(sa.cast("simple", postgresql.REGCONFIG), sa.literal(word))
    assert connection.scalars(sa.select(words.op("@@")(query))).one()


@pytest.mark.parametrize("lexeme", ["a'b\\c", "\\", "'", "\\'", "a & b | !c:*", "🚢"])
def test_whatever_a_dictionary_makes_of_a_word_is_quoted(connection: sa.Connection, lexeme: str) -> None:
    query = sa.cast(snippets._in_quotes(sa.literal(lexeme, sa.Text)), postgresql.TSQUERY)
    words = sa.func.array_to_tsvector(postgresql.array([lexeme]), type_=postgresql.TSVECTOR)
    assert connection.scalars(sa.select(words.op("@@")(query))).one()


def test_a_column_of_configurations_and_of_contents_will_do(connection: sa.Connection) -> None:
    rows = sa.values(sa.column("config", sa.Text), sa.column("content", sa.Text), name="row").data(
        [("english", "the ferries left"), ("german", "die Fähren fuhren"), ("english", None)]
    )
    config = sa.cast(rows.c.config, postgresql.REGCONFIG)
    statement = sa.select(snippets.fragments(config, rows.c.content, sa.literal("ferry Fähre")))
    found: list[str | None] = list(connection.scalars(statement))
    made = [snippets.parse(one) for one in found if one is not None]
    assert [marked(one) for one in made] == [["ferries"], ["Fähren"]]


@pytest.mark.parametrize("tag", ["", "b onclick=x", "<b>", "B", "b\n", "1"])
def test_a_tag_that_is_not_a_name_is_refused(tag: str) -> None:
    with pytest.raises(errors.QueryError, match="name of an HTML element"):
        Snippet("ferry", ((0, 5),)).html(tag)


def test_another_tag_may_be_asked_for() -> None:
    assert Snippet("a ferry left", ((2, 7),)).html("b") == "a <b>ferry</b> left"


def test_a_marked_word_is_escaped_too() -> None:
    assert Snippet("a <i>, b", ((2, 5), (7, 8))).html() == "a <mark>&lt;i&gt;</mark>, <mark>b</mark>"


@pytest.mark.parametrize("cut", ["a \ue000ferry", "a ferry\ue001", "a \ue000\ue001ferry"])
def test_half_a_mark_is_no_mark(cut: str) -> None:
    assert snippets.parse(cut) == Snippet("a ferry", ())
