"""Words of clusters: they distinguish them, and have a form that stands in their texts."""

from pg_semantic.search import cluster_terms

KNOWN = {"ships": "ship", "ship": "ship", "harbour": "harbour", "engine": "engine", "violin": "violin", "rare": "rare"}


def test_the_words_that_are_more_frequent_in_a_cluster_distinguish_it() -> None:
    texts = ["harbour ships", "Harbour ships", "harbour ship", "harbour engine", "harbour engine", "harbour violin"]
    assert cluster_terms.terms(texts, [0, 0, 0, 1, 1, 1], KNOWN) == [("ships",), ("engine",)]


def test_no_word_is_of_two_clusters_and_a_cluster_without_words_has_none() -> None:
    texts = ["ship engine", "ship engine", "ship violin", "ship violin", "", "of the"]
    found = cluster_terms.terms(texts, [0, 0, 1, 1, 2, 2], KNOWN)
    words = [word for one in found[:2] for word in one]
    assert sorted(words) == ["engine", "ship", "violin"]
    assert found[2] == ()


def test_a_word_that_one_text_repeats_does_not_distinguish_its_cluster() -> None:
    texts = ["harbour " + "rare " * 50, "harbour", "harbour ship", "engine", "engine", "engine"]
    assert cluster_terms.terms(texts, [0, 0, 0, 1, 1, 1], KNOWN) == [("harbour",), ("engine",)]


def test_the_order_of_the_texts_does_not_matter() -> None:
    texts, clusters = ["ship engine", "ships engine", "violin engine", "violin harbour"], [0, 0, 1, 1]
    backward = cluster_terms.terms(texts[::-1], clusters[::-1], KNOWN)
    assert cluster_terms.terms(texts, clusters, KNOWN) == backward
