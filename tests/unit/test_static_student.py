"""A static student: its words, what it learns from, and that it learns."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from pg_semantic import errors
from pg_semantic.training import StaticTraining
from pg_semantic.training.pace import OnStep
from pg_semantic.training.static_student import bags, first_table, fit, held_out, spans, words
from pg_semantic.training.static_student.bags import Bags
from pg_semantic.training.static_student.fit import StudyTexts, TableRecipe
from pg_semantic.training.static_student.student import Student
from pg_semantic.training.time_limit import TimeLimit

BERT = normalizers.BertNormalizer(lowercase=True)
CORPUS = ["the lost charger of the laptop", "a charger for laptops and phones", "Größere Straßen, schön and schon"] * 5


def word_pieces() -> Tokenizer:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "tea", "##s", "Tea", "...", "#", "##", "é"]
    made = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(vocabulary)}, unk_token="[UNK]"))  # noqa: S106
    made.normalizer = BERT
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]"])
    return made


def byte_pairs() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=450, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    return made


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=100, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)  # noqa: S106
    made.train_from_iterator(CORPUS, trainer)
    return made


def test_pieces_of_words_are_taken_from_any_tokenizer_without_special_tokens() -> None:
    assert words.pieces(word_pieces(), BERT) == ["tea", "##s", "#", "e"]
    for teacher in (byte_pairs(), unigram()):
        normalize = words.normalizer(teacher)
        found = words.pieces(teacher, normalize)
        assert {"charger", "lost", "laptop", "the", "of", "for", "and"} & set(found)
        assert any(piece.startswith("##") for piece in found)
        assert not any("▁" in piece or "Ġ" in piece or "\ufffd" in piece for piece in found)
        assert not {"<s>", "<unk>", "##<s>", "##<unk>"} & set(found)
        assert found == list(dict.fromkeys(found))


def test_case_is_ignored_and_accents_only_if_the_encoder_ignores_them() -> None:
    assert words.normalizer(word_pieces()).normalize_str("Schön") == "schon"
    assert words.normalizer(unigram()).normalize_str("Schön") == "schön"


def test_a_word_is_taken_only_if_enough_different_rows_have_it() -> None:
    rows = [["alpha alpha alpha", "alpha beta"], ["Beta gamma"], ["beta, gamma_delta"], ["x" * 41]]
    assert words.frequent(rows, BERT, least_rows=3, most=10) == ["beta"]
    assert words.frequent(rows, BERT, least_rows=2, most=10) == ["beta", "gamma"]
    assert words.frequent(rows, BERT, least_rows=2, most=1) == ["beta"]
    assert "x" * 41 not in words.frequent(rows, BERT, least_rows=1, most=10)


def test_the_tokenizer_prefers_whole_words_and_divides_the_others() -> None:
    made = words.tokenizer([words.UNKNOWN, "tea", "##s", "teapot"], BERT, most_tokens=4)
    assert made.encode("Teapot teas, tea").tokens == ["teapot", "tea", "##s", "[UNK]"]


def test_bags_are_taken_and_joined_as_texts_would_be() -> None:
    made = words.tokenizer([words.UNKNOWN, *"abcdef"], BERT, most_tokens=None)
    one, two = bags.of(made, ["a b", "", "c"]), bags.of(made, ["d e f"])
    both = bags.joined([one, two])
    assert [texts(both)[n] for n in range(4)] == [[1, 2], [], [3], [4, 5, 6]]
    assert texts(both.take(np.array([3, 1, 0, 3]))) == [[4, 5, 6], [], [1, 2], [4, 5, 6]]
    assert len(bags.of(made, [])) == 0


def texts(bag: Bags) -> list[list[int]]:
    return [bag.ids[start:end].tolist() for start, end in itertools.pairwise(bag.starts)]


def test_a_projection_keeps_the_directions_in_which_vectors_differ() -> None:
    random = np.random.default_rng(0)
    vectors = first_table.unit((random.normal(size=(200, 3)) @ random.normal(size=(3, 16))).astype(np.float32))
    project = first_table.projection(vectors, 3)
    np.testing.assert_allclose(project.T @ project, np.eye(3), atol=1e-5)
    np.testing.assert_allclose((vectors @ project) @ (vectors @ project).T, vectors @ vectors.T, atol=1e-5)
    np.testing.assert_array_equal(first_table.projection(vectors, 16), np.eye(16))


def test_frequent_words_weigh_less_at_first_and_unknown_ones_nothing() -> None:
    lengths = np.linalg.norm(first_table.make(np.ones((4, 8), np.float32), np.array([0, 1000, 10, 0])), axis=1)
    assert lengths[0] == 0
    assert 0 < lengths[1] < lengths[2] < lengths[3] == pytest.approx(1)


def test_sentences_come_from_all_chunks_before_any_gives_another() -> None:
    chunks = [
        "First sentence of many here. Second sentence of many here.\nThird one of many, too.",
        "short",
        "not asked",
    ]
    found = spans.choose(chunks, np.array([0, 1]), count=3, seed=0)
    assert found.chunks.tolist()[:2] in ([0, 1], [1, 0])
    assert found.texts[found.chunks.tolist().index(1)] == "short"
    assert found.texts[2] in chunks[0]
    assert found.texts == spans.choose(chunks, np.array([0, 1]), count=3, seed=0).texts
    assert {spans.choose(chunks, np.array([0]), count=1, seed=seed).texts for seed in range(9)} > {found.texts[2:]}


def test_the_nearest_chunks_are_those_of_other_rows() -> None:
    chunks = np.eye(14, dtype=np.float32)
    found = held_out.nearest(chunks[:2] + 0.1, chunks, own=np.array([0, 1]), rows=np.repeat(np.arange(7), 2))
    assert found.shape == (2, 10)
    assert not {0, 1} & set(found[0].tolist())
    assert not {2, 3} & set(found[1].tolist())
    assert 1 in found[1]


class Taught:
    """Texts of random words, and vectors that a table made, of which the first table to learn is a noisy copy."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.true = random.normal(size=(60, 16)).astype(np.float32)
        self.first = self.true + random.normal(size=(60, 16)).astype(np.float32)
        ids = random.integers(0, 60, size=(900, 8))
        self.texts, self.others = (
            Bags(part.ravel(), np.arange(0, part.size + 1, 8)) for part in (ids[:800], ids[800:])
        )

    def student(self, table: NDArray[np.float32], texts: Bags) -> NDArray[np.float32]:
        means = table[texts.ids].reshape(-1, 8, 16).mean(axis=1)
        return first_table.unit(means)

    def measure(self, table: NDArray[np.float32]) -> float:
        return float((self.student(table, self.others) * self.student(self.true, self.others)).sum(axis=1).mean())

    def fit(
        self, limit: TimeLimit | None = None, *, on_step: OnStep = lambda *_: None, **recipe: float
    ) -> fit.FittedTable:
        return fit.fit(
            self.first,
            StudyTexts(self.texts, self.student(self.true, self.texts)),
            recipe=TableRecipe(**{"epochs": 8, "batch": 50, "learning_rate": 0.1} | recipe),  # type: ignore[arg-type]
            measure=self.measure,
            limit=limit or TimeLimit(None),
            on_step=on_step,
        )


def test_a_table_learns_the_vectors_of_texts_and_texts_that_it_never_saw_profit() -> None:
    taught = Taught()
    before, fitted = taught.measure(taught.first), taught.fit()
    assert fitted.measured == pytest.approx(taught.measure(fitted.table))
    assert fitted.measured > 0.93 > before + 0.1


def test_the_same_seed_gives_the_same_table() -> None:
    taught = Taught()
    assert taught.fit().table.tobytes() == taught.fit().table.tobytes()
    assert taught.fit().table.tobytes() != taught.fit(seed=1).table.tobytes()


def test_the_best_epoch_is_taken() -> None:
    taught = Taught()
    measured = iter([0.5, 0.9, 0.7])
    tables: list[bytes] = []

    def measure(table: NDArray[np.float32]) -> float:
        tables.append(table.tobytes())
        return next(measured)

    taught.measure = measure  # type: ignore[method-assign]
    fitted = taught.fit(epochs=3)
    assert (fitted.epochs, fitted.measured, fitted.table.tobytes()) == (2, 0.9, tables[1])


class Clock:
    """A clock that moves by a second whenever it is read."""

    def __init__(self) -> None:
        self.seconds: Iterator[int] = itertools.count()

    def __call__(self) -> float:
        return float(next(self.seconds))


def test_a_short_time_makes_fewer_epochs_and_one_that_is_too_short_is_refused() -> None:
    taught = Taught()
    limited = taught.fit(TimeLimit(30, clock=Clock()), epochs=50)
    assert 1 <= limited.epochs < 30
    with pytest.raises(errors.ConfigurationError, match=r"^seconds=3 is too short: one epoch takes about"):
        taught.fit(TimeLimit(3, clock=Clock()), epochs=50)


@pytest.mark.parametrize("seconds", [130, 150, 220, 400])
def test_time_is_left_to_measure_the_student_once_more(seconds: float) -> None:
    now, taught = [0.0], Taught()
    measure = taught.measure

    def slow_measure(table: NDArray[np.float32]) -> float:
        now[0] += 30
        return measure(table)

    def on_step(_done: int, _planned: int) -> None:
        now[0] += 1

    taught.measure = slow_measure  # type: ignore[method-assign]
    limit = TimeLimit(seconds, clock=lambda: now[0])
    taught.fit(limit, on_step=on_step)
    slow_measure(taught.first)
    assert now[0] <= seconds
    with pytest.raises(errors.ConfigurationError, match="is too short: one epoch"):
        taught.fit(TimeLimit(110, clock=lambda: now[0]), on_step=on_step)


def test_a_student_is_loaded_by_sentence_transformers_and_has_the_same_vectors() -> None:
    made = words.tokenizer([words.UNKNOWN, *"abcdef"], BERT, most_tokens=3)
    student = Student(made, np.random.default_rng(0).normal(size=(7, 8)).astype(np.float32))
    asked = ["a b", "c", "f e d c b a", ""]
    np.testing.assert_allclose(student.transformer().encode(asked), student.encode(asked), atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dimensions": 7},
        {"least_rows": 1},
        {"chunks": 0},
        {"spans": 0},
        {"epochs": 0},
        {"words": -1},
        {"seconds": 0},
        {"vocabulary": "both"},
    ],
)
def test_options_out_of_range_are_refused_by_name(wrong: dict[str, object]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(errors.ConfigurationError, match=rf"^{name}={value!r} "):
        StaticTraining(**wrong)  # type: ignore[arg-type]
