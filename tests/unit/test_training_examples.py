"""What an encoder is trained on: no false negatives, no rest of a word, and nothing of the rows that are held out."""

import dataclasses

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models

from pg_semantic import errors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.search.validation import MOST_CHARACTERS
from pg_semantic.training import EncoderTraining, Pair, RowPair, passages
from pg_semantic.training.base_encoder import BaseEncoder
from pg_semantic.training.encoder import train as whole_training
from pg_semantic.training.encoder.examples import Example, TrainingExamples
from tests.unit import test_whole_encoder as whole_encoder
from tests.unit.test_whole_encoder import COUNT, QUERIES, ROWS


def with_spare(spare: dict[tuple[str, int], str], *examples: Example) -> TrainingExamples:
    texts = {("1", 0): "an answer", ("2", 0): "another answer", ("9", 0): "a negative"}
    return TrainingExamples(examples, texts | spare, (), tuple(spare), 0, is_sample=True)


def test_one_unlucky_draw_does_not_take_the_negatives_from_all_examples() -> None:
    """Most random passages belong to the long row that answers the first query."""
    spare = {("1", n): f"part {n}" for n in range(1, 200)} | {("3", 0): "other", ("4", 0): "third"}
    found = with_spare(spare, Example("how", ("1", 0)), Example("why", ("2", 0)))
    for seed in range(20):
        padded = found.padded(found.all, count=2, seed=seed)
        assert [len(set(one.negatives)) for one in padded] == [2, 2]
        assert {passage[0] for passage in padded[0].negatives} == {"3", "4"}


def test_a_query_for_which_all_random_passages_are_answers_leaves_the_others_alone() -> None:
    spare = {("1", n): f"part {n}" for n in range(1, 9)}
    known = ("9", 0)
    first, second = Example("how", ("1", 0)), Example("why", ("2", 0))
    found = with_spare(spare, first, second)
    assert [one.query for one in found.padded(found.all, count=2, seed=0)] == ["why"]
    found = with_spare(spare, dataclasses.replace(first, negatives=(known,)), second)
    assert found.padded(found.all, count=2, seed=0)[0].negatives == (known, known)
    alone = with_spare(spare, first)
    assert [one.negatives for one in alone.padded(alone.all, count=2, seed=0)] == [()]


def test_a_random_passage_with_the_text_of_an_answer_is_no_negative() -> None:
    spare = {("5", 0): "an answer", ("6", 0): "an answer", ("7", 0): "a negative", ("8", 0): "other"}
    found = with_spare(spare, Example("how", ("1", 0), (("9", 0),)))
    for seed in range(10):
        (one,) = found.padded(found.all, count=2, seed=seed)
        assert one.negatives == (("9", 0), ("8", 0))


def test_passages_are_taken_in_turn_from_any_place() -> None:
    assert "".join(passages.from_place("abcd", 2)) == "cdab"
    assert "".join(passages.from_place("abcd", 7)) == "dabc"
    assert list(passages.from_place("", 3)) == []


def test_only_whole_words_are_cut_out() -> None:
    texts = {("1", 0): "concatenate the cat, not cats: cat", ("2", 0): "c++ and c++11", ("3", 0): "Straße (neu)"}
    queries = ("cat", "c++", "(neu)")
    examples = tuple(Example(query, passage) for query, passage in zip(queries, texts, strict=True))
    cut = TrainingExamples(examples, texts, (), (), 0, is_sample=False).without_quotes()
    assert cut.texts == {("1", 0): "concatenate the  , not cats:  ", ("2", 0): "  and c++11", ("3", 0): "Straße  "}


def test_a_pair_whose_passage_is_nothing_but_the_query_is_left_out_and_counted() -> None:
    found = with_spare({}, Example("an  Answer", ("1", 0)), Example("another", ("2", 0)))
    cut = dataclasses.replace(found, gone=1).without_quotes()
    assert ([one.query for one in cut.all], cut.gone) == (["another"], 2)


def test_a_query_is_cut_out_in_any_case_across_lines_and_before_text_without_spaces() -> None:
    texts = {("1", 0): "More about The\n  Cat here", ("2", 0): "犬が走る。猫が寝る。鳥が鳴く。"}
    examples = (Example("the cat", ("1", 0)), Example("猫が寝る。", ("2", 0)))
    cut = TrainingExamples(examples, texts, (), (), 0, is_sample=False).without_quotes()
    assert cut.texts == {("1", 0): "More about   here", ("2", 0): "犬が走る。 鳥が鳴く。"}


def rows_and_queries() -> TrainingExamples:
    """Each row is asked for by its query, by the row after it, and by itself."""
    found = whole_encoder.found()
    similar = [
        Example(ROWS[n], ((f"{(n + 1) % COUNT:03}"), 0), row=f"{n:03}") for n in range(COUNT)
    ]  # fmt: skip
    same = [Example(ROWS[n], (f"{n:03}", 0), row=f"{n:03}") for n in range(COUNT)]
    return dataclasses.replace(found, all=(*found.all, *similar, *same))


def test_pairs_of_rows_only_teach_and_have_no_row_or_text_that_is_held_out() -> None:
    found = rows_and_queries()
    copy = Example(ROWS[0], ("copy", 0), row="other")  # another row with a text that is held out for some seeds
    found = dataclasses.replace(found, all=(*found.all, copy), texts=dict(found.texts) | {("copy", 0): ROWS[0]})
    for seed in range(5):
        prepared = whole_training.divided(found, EncoderTraining(held_out=0.3, seed=seed))
        held_out = {QUERIES.index(query) for query in prepared.held_out.queries}
        assert len(held_out) == 18
        trained = {int(one.row) for one in prepared.examples if one.row not in {None, "other"}}
        assert trained
        for one in prepared.examples:
            texts = {one.query, prepared.texts[one.positive]} - set(QUERIES)
            assert texts.isdisjoint(ROWS[number] for number in held_out)
        asked = {one.query for one in prepared.examples if one.row is None}
        assert len(asked) == COUNT - 18
        assert set(prepared.trained_on.queries) <= set(QUERIES)


def test_no_other_passage_of_a_held_out_row_is_taught() -> None:
    found = whole_encoder.found()
    texts = {(f"{n:03}", 1): f"the second part of {n}" for n in range(COUNT)}
    parts = [Example(text, passage, row=passage[0]) for passage, text in texts.items()]
    found = dataclasses.replace(found, all=(*found.all, *parts), texts=dict(found.texts) | texts)
    prepared = whole_training.divided(found, EncoderTraining(held_out=0.3))
    held_out = {f"{QUERIES.index(query):03}" for query in prepared.held_out.queries}
    taught = {one.row for one in prepared.examples if one.row is not None}
    assert taught == {f"{n:03}" for n in range(COUNT)} - held_out


def test_a_query_is_not_held_out_if_another_row_with_the_text_of_its_answer_is_trained_on() -> None:
    found = whole_encoder.found()
    texts = {passage: ROWS[int(passage[0]) // 2] for passage in found.texts}
    for seed in range(5):
        prepared = whole_training.divided(dataclasses.replace(found, texts=texts), EncoderTraining(seed=seed))
        held_out = {QUERIES.index(query) // 2 for query in prepared.held_out.queries}
        assert len(held_out) == COUNT // 10
        assert held_out.isdisjoint(QUERIES.index(one.query) // 2 for one in prepared.examples)
        assert len(set(prepared.groups)) == len(held_out)


def test_held_out_rows_are_no_random_negatives() -> None:
    found = whole_encoder.found()
    bare = dataclasses.replace(found, all=tuple(dataclasses.replace(one, negatives=()) for one in found.all))
    options = EncoderTraining(loss="teacher", negatives=4, held_out=0.3)
    prepared = whole_training.divided(bare, options)
    held_out = {f"{QUERIES.index(query):03}" for query in prepared.held_out.queries}
    assert held_out.isdisjoint(key for one in prepared.examples for key, _ in one.negatives)


def test_a_training_is_recognized_by_texts_of_rows_that_are_longer_than_a_query_can_be() -> None:
    found = whole_encoder.found()
    row = Example("word " * MOST_CHARACTERS, ("long", 0), row="long")
    found = dataclasses.replace(found, all=(*found.all, row), texts={**found.texts, row.positive: row.query})
    options = EncoderTraining()
    prepared = whole_training.divided(found, options)
    static = StaticEmbedding(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), embedding_dim=4)  # noqa: S106
    base = BaseEncoder(HashedEncoder(4), SentenceTransformer(modules=[static], device="cpu"))
    described = whole_training._training(base, prepared, [], options=options, teacher=None)
    shorter = dataclasses.replace(prepared, examples=prepared.examples[:-1])
    assert described["rows"] != whole_training._training(base, shorter, [], options=options, teacher=None)["rows"]


@pytest.mark.parametrize("loss", ["cosent", "cosine", "teacher"])
def test_losses_with_scores_refuse_pairs_of_rows(loss: str) -> None:
    options = EncoderTraining(loss=loss)  # type: ignore[arg-type]
    with pytest.raises(errors.QueryError, match="cannot learn from pairs of rows"):
        whole_training._given([Pair("how", "1", 0.5), RowPair("1", "2")], options)
