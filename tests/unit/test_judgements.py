"""Judgements from files: every format gives the same grades, and a bad line is refused by its number."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from pg_semantic import errors
from pg_semantic.evaluation import Judgements, private_csv
from pg_semantic.search import validation

HARBOUR, PEPPER = 'A "quiet"\nharbour, at dawn', "pepper"
GRADES = {HARBOUR: {"1": 2, "7": 0}, PEPPER: {"7": 1}}
ONE_LINE = {query.replace("\n", " "): graded for query, graded in GRADES.items()}
SCIFACT = Path(__file__).parents[2] / "benchmarks" / "data" / "scifact"

JSONL = "".join(json.dumps({"query": query, "relevant": graded}) + "\n" for query, graded in GRADES.items())
CSV = f'key,grade,query\r\n1,2,"{HARBOUR.replace(chr(34), 2 * chr(34))}"\r\n'
CSV += f'7,0,"{HARBOUR.replace(chr(34), 2 * chr(34))}"\r\n7,1,pepper\r\n'
SGML = """<top>
<num> Number: 301
<title> A &quot;quiet&quot;
harbour, at dawn

<desc> Description:
Not this.
</top>
<TOP><NUM>302</NUM><TITLE>Topic: pepper</TITLE></TOP>
"""


def written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def beir(folder: Path, *, suffix: str = "") -> Path:
    texts = {"q1": HARBOUR, "q2": PEPPER, "unjudged": "glacier"}
    queries = "".join(json.dumps({"_id": name, "text": text, "metadata": {}}) + "\n" for name, text in texts.items())
    written(folder / f"queries.jsonl{suffix}", queries)
    written(folder / f"qrels/dev.tsv{suffix}", "query-id\tcorpus-id\tscore\nq1\t1\t2\nq1\t7\t0\nq2\t7\t1\n")
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("judged.jsonl", JSONL),
        ("judged.csv", CSV),
        ("judged.tsv", CSV.replace(",", "\t", 2).replace("\n1,2,", "\n1\t2\t")),
    ],
)
def test_a_file_gives_its_grades(tmp_path: Path, name: str, text: str, mark: str, suffix: str) -> None:
    if name.endswith(".tsv"):
        text = text.replace("\n7,0,", "\n7\t0\t").replace("\n7,1,", "\n7\t1\t")
    read = Judgements.read(written(tmp_path / f"{name}{suffix}", mark + text))
    assert read == Judgements(GRADES)
    assert (read.queries, len(read), read.count, read.implicit) == ((HARBOUR, PEPPER), 2, 3, False)
    assert (read.relevant(HARBOUR), read.relevant("unknown")) == (frozenset({"1"}), frozenset())


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_beir_folder_gives_the_grades_of_a_split(tmp_path: Path, suffix: str) -> None:
    assert Judgements.read(beir(tmp_path, suffix=suffix), split="dev") == Judgements(GRADES)
    with pytest.raises(errors.ConfigurationError, match=r"no file qrels/test.tsv: .*here: dev\)"):
        Judgements.read(tmp_path)


def test_scifact_is_read_as_published() -> None:
    read = Judgements.read(str(SCIFACT))
    assert (len(read), read.count) == (300, 339)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("topics", [SGML, f"301\t{next(iter(ONE_LINE))}\n302\tpepper\n"], ids=["SGML", "tabs"])
def test_qrels_of_trec_have_the_titles_of_their_topics_as_queries(tmp_path: Path, topics: str, suffix: str) -> None:
    qrels = written(tmp_path / f"qrels.txt{suffix}", "301 0 1 2\n301 Q0 7 0\n302\t0\t7\t1\n")
    assert Judgements.read(qrels, topics=written(tmp_path / f"topics{suffix}", topics)) == Judgements(ONE_LINE)


def test_without_the_column_grade_every_row_is_relevant_and_an_empty_grade_is_not_judged(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.csv", "query,key\na,1\na,2\n\n")
    pooled = written(tmp_path / "b.csv", "Query, Key ,title,GRADE\na,1,x,1\na,2,y,\na,3,z, \n")
    assert Judgements.read(plain).grades == {"a": {"1": 1, "2": 1}}
    assert Judgements.read(pooled).grades == {"a": {"1": 1}}


def test_blanks_behind_commas_and_whole_numbers_with_a_point_are_read(tmp_path: Path) -> None:
    spaced = written(tmp_path / "a.csv", 'query, key, grade\na, 1, 2.0\na, " 2", 1.\n')
    assert Judgements.read(spaced).grades == {"a": {"1": 2, " 2": 1}}


def test_grades_from_clicks_are_read_as_such_and_not_mixed_with_those_of_people(tmp_path: Path) -> None:
    clicked = Judgements({"a": {"1": 2}, "b": {"2": 0}}, implicit=True)
    clicked.write(tmp_path / "clicked.jsonl")
    assert Judgements.read(tmp_path / "clicked.jsonl") == clicked
    Judgements({"c": {"1": 2}}).write(tmp_path / "judged.jsonl")
    assert not Judgements.read(tmp_path / "judged.jsonl").implicit
    both = (tmp_path / "clicked.jsonl").read_text() + (tmp_path / "judged.jsonl").read_text()
    with pytest.raises(errors.ConfigurationError, match=r"line 3: grades from clicks and from people can't be mixed"):
        Judgements.read(written(tmp_path / "both.jsonl", both))


def test_a_query_that_looks_like_a_formula_is_text_for_a_spreadsheet_and_read_as_it_was(tmp_path: Path) -> None:
    queries = ["=cmd|'/C calc'!A0", "+1", "-x", "@sum", "\tx", "'quoted'", "plain"]
    private_csv.write(tmp_path / "a.csv", ("query", "key", "grade"), [(query, "-7", 1) for query in queries])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in cells)
    assert Judgements.read(tmp_path / "a.csv").grades == {query: {"-7": 1} for query in queries}


def test_a_judgement_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    assert Judgements.read(written(tmp_path / "a.csv", "query,key,grade\na,1,2\nb,1,1\na,1,2\n")).count == 2


LONG = "x" * (validation.MOST_CHARACTERS + 1)
HEADER = "query,key,grade\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"query": "a", "relevant": {"1": 1}}\n\n{', "line 3: write {"),
        ("a.jsonl", '{"query": "a", "relevant": {"1": 1}, "x": ' + "[" * 100_000, "line 1: write {"),
        ("a.jsonl", '{"query": "a", "relevant": {"1": 1, "1": 2}}', "line 1: write {"),
        ("a.jsonl", '{"query": "a", "relevant": {}}', "line 1: the query has no judgements: write {"),
        ("a.jsonl", '{"query": 1, "relevant": {"1": 1}}', "line 1: the query must be text"),
        ("a.jsonl", '{"query": " ", "relevant": {"1": 1}}', "line 1: the query is empty"),
        ("a.jsonl", '{"query": "a\\u0000", "relevant": {"1": 1}}', "line 1: the query has a NUL character"),
        ("a.jsonl", '{"query": "\\ud800", "relevant": {"1": 1}}', "line 1: the query has a lone surrogate"),
        ("a.jsonl", '{"query": "a", "relevant": {"1\\u0000": 1}}', "line 1: the key has a NUL character"),
        ("a.jsonl", '{"query": "a", "relevant": {"": 1}}', "line 1: the key must be a text that isn't empty"),
        ("a.jsonl", json.dumps({"query": LONG, "relevant": {"1": 1}}), "the query has 100001 characters, but the"),
        ("a.jsonl", '{"query": "a", "relevant": {"1": -1}}', "line 1: the grade must be a whole number from 0"),
        ("a.jsonl", '{"query": "a", "relevant": {"1": 0.5}}', "line 1: the grade must be"),
        ("a.jsonl", '{"query": "a", "relevant": {"1": true}}', "line 1: the grade must be"),
        ("a.jsonl", '{"query": "a", "relevant": {"1": NaN}}', "line 1: the grade must be"),
        ("a.jsonl", '{"query": "a", "relevant": {"1": 1e400}}', "line 1: the grade must be"),
        (
            "a.jsonl",
            '{"query": "a", "relevant": {"1": 1}}\n{"query": "a", "relevant": {"2": 1, "1": 0}}',
            "line 2: an earlier judgement of the same query and row has another grade",
        ),
        ("a.csv", HEADER + '"a\nb",1,1\na,1,-1', "line 4: the grade must be"),
        ("a.csv", HEADER + "a,1,1.5", "line 2: the grade must be"),
        ("a.csv", HEADER + "a,1,99999999", "line 2: the grade must be"),
        ("a.csv", HEADER + "a,1", "line 2: this record has 2 fields, but the header has 3"),
        ("a.csv", HEADER + 'a,1,1\n"b,1,1\nc,1,1', "line 3: this is not a valid record"),
        ("a.csv", HEADER + f"{LONG},1,1", "line 2: the query has 100001 characters, but the limit is 100000"),
        ("a.csv", HEADER + f"{LONG * 100},1,1", "line 2: a field is longer than 100000 characters"),
        ("a.csv", "a,1,1\n", "line 1: begin the file with a header: query,key,grade"),
        ("a.csv", "query,key,rating\na,1,0\n", "line 1: the file has other columns, but none is named grade"),
        ("a.csv", "query;key;grade\na;1;0\n", "line 1: this line has no ',' but ';': begin the file with"),
        ("a.tsv", "query,key,grade\na,1,0\n", "line 1: this line has no '\\t' but ',': begin the file with"),
        ("qrels", "301 0 FR940203 1\n", "TREC qrels need their topics (--topics)"),
        ("a.csv", HEADER + "a,1,1.05", "line 2: the grade must be"),
        ("a.csv", "query,key,key\n", "line 1: begin the file with a header"),
        ("a.tsv", "query-id\tcorpus-id\tscore\n", "line 1: begin the file with a header: query\tkey\tgrade"),
        ("a.csv", HEADER, "contains no judgements"),
        ("a.csv", "", "line 1: begin the file with a header"),
        ("a.jsonl", "", "contains no judgements"),
        ("a.jsonl", b"\xff\xfe{", "it is not text in UTF-8"),
        ("a.jsonl.gz", b"", "contains no judgements"),
    ],
)  # fmt: skip
def test_what_is_no_judgement_is_refused_by_its_line_without_its_text(
    tmp_path: Path, name: str, text: str | bytes, said: str
) -> None:
    with pytest.raises(errors.ConfigurationError) as refused:
        Judgements.read(written(tmp_path / name, text))
    assert said in str(refused.value)
    assert str(tmp_path / name) in str(refused.value)
    assert "xxx" not in str(refused.value)


def test_a_file_that_is_missing_or_is_no_gzip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"Cannot read .*none\.jsonl: No such file"):
        Judgements.read(tmp_path / "none.jsonl")
    (tmp_path / "a.csv.gz").write_bytes(b"query,key\na,1\n")
    with pytest.raises(errors.ConfigurationError, match=r"Cannot read .*a\.csv\.gz"):
        Judgements.read(tmp_path / "a.csv.gz")
    cut = gzip.compress(JSONL.encode() * 100)[:-20]
    (tmp_path / "a.jsonl.gz").write_bytes(cut)
    with pytest.raises(errors.ConfigurationError, match=r"Cannot read .*a\.jsonl\.gz"):
        Judgements.read(tmp_path / "a.jsonl.gz")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("queries.jsonl", '{"_id": "q1", "text": "a"}\n{"_id": 2, "text": "b"}', "queries.jsonl, line 2: write {"),
        ("queries.jsonl", '{"_id": "q1", "text": "a"}\n{"_id": "q1", "text": "b"}', "line 2: an earlier query has the"),
        ("qrels/dev.tsv", "query-id\tcorpus-id\tscore\nq1\t1", "dev.tsv, line 2: write query-id, corpus-id and score"),
        ("qrels/dev.tsv", "query-id\tcorpus-id\tscore\nq9\t1\t1", "line 2: queries.jsonl has no query with this"),
        ("qrels/dev.tsv", "q1\t1\t-", "line 1: the grade must be"),
        ("qrels/dev.tsv", "query-id\tcorpus-id\tscore\n", "contains no judgements"),
    ],
)
def test_a_bad_line_in_a_beir_folder_is_refused(tmp_path: Path, file: str, text: str, said: str) -> None:
    beir(tmp_path)
    written(tmp_path / file, text)
    with pytest.raises(errors.ConfigurationError) as refused:
        Judgements.read(tmp_path, split="dev")
    assert said in str(refused.value)


def test_grades_below_zero_in_trec_and_beir_are_read_as_0_and_counted(tmp_path: Path) -> None:
    qrels, topics = written(tmp_path / "trec", "1 0 a -2\n1 0 b 1\n1 0 c -1\n1 0 a 0"), written(tmp_path / "t", "1\tx")
    found = Judgements.read(qrels, topics=topics)
    assert (found.grades, found.below_zero) == ({"x": {"a": 0, "b": 1, "c": 0}}, 2)
    assert found == Judgements(found.grades)
    beir(tmp_path)
    written(tmp_path / "qrels/dev.tsv", "q1\ta\t-1\nq1\tb\t1")
    found = Judgements.read(tmp_path, split="dev")
    assert ([*found.grades.values()], found.below_zero) == ([{"a": 0, "b": 1}], 1)
    assert found.only(found.queries).below_zero == 1


def test_queries_in_another_spelling_are_merged() -> None:
    given = Judgements({"A b": {"1": 1}, "c": {"1": 1}, " a  B": {"2": 0, "1": 1}})
    assert given.distinct().grades == {"A b": {"1": 1, "2": 0}, "c": {"1": 1}}
    assert given.distinct().queries == ("A b", "c")
    with pytest.raises(errors.QueryError, match="different grades: keep one of each"):
        Judgements({"A": {"1": 1}, "a": {"1": 2}}).distinct()


@pytest.mark.parametrize(
    ("topics", "qrels", "said"),
    [
        (SGML, "301 0 1", "qrels, line 1: write topic, iteration, document and grade"),
        (SGML, "301 0 1 1\n300 0 1 1", "qrels, line 2: "),
        (SGML, "301 0 1 -2.5", "qrels, line 1: the grade must be"),
        ("<top>\n<num> 1\n", "1 0 1 1", "topics, line 1: this topic has no </top>"),
        ("<top><num> 1 <title> </top>", "1 0 1 1", "topics, line 1: begin each topic with <top>"),
        ("1 harbour", "1 0 1 1", "topics, line 1: write a topic's number and its query, separated by a tab"),
        ("1\ta\n1\tb", "1 0 1 1", "topics, line 2: an earlier topic has the same number"),
        ("", "1 0 1 1", "topics contains no topics"),
    ],
)
def test_a_bad_line_of_trec_is_refused(tmp_path: Path, topics: str, qrels: str, said: str) -> None:
    with pytest.raises(errors.ConfigurationError) as refused:
        Judgements.read(written(tmp_path / "qrels", qrels), topics=written(tmp_path / "topics", topics))
    assert said in str(refused.value)


def test_judgements_can_be_narrowed_and_merged() -> None:
    judged = Judgements(GRADES)
    assert judged.only([PEPPER, "unknown"]) == Judgements({PEPPER: {"7": 1}})
    assert judged.only([PEPPER]).merged(judged.only([HARBOUR])) == judged
    assert judged.merged(Judgements({PEPPER: {"7": 1, "8": 0}, "new": {"1": 1}})).grades == {
        **GRADES, PEPPER: {"7": 1, "8": 0}, "new": {"1": 1},
    }  # fmt: skip
    assert judged.grades == GRADES


def test_grades_of_clicks_and_of_people_and_contradictions_are_not_merged() -> None:
    judged = Judgements(GRADES)
    with pytest.raises(errors.QueryError, match="clicks and grades from people cannot be merged"):
        judged.merged(Judgements(GRADES, implicit=True))
    with pytest.raises(errors.QueryError, match="different grades to 2 pairs"):
        judged.merged(Judgements({HARBOUR: {"1": 0, "7": 1}}))
    assert Judgements(GRADES, implicit=True).only([PEPPER]).implicit


@pytest.mark.parametrize(
    "grades", [{"a": {}}, {" ": {"1": 1}}, {"a": {"1": -1}}, {"a": {"1": 0.5}}, {"a": {"1": True}}]
)
def test_what_is_no_judgement_is_refused_in_python_too(grades: dict[str, dict[str, int]]) -> None:
    with pytest.raises(errors.QueryError):
        Judgements(grades)
