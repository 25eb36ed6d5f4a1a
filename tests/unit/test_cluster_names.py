"""Names of clusters: words that distinguish them, in a form that stands in their texts."""

from pg_semantic.service.pages import cluster_names

KNOWN = {"ships": "ship", "ship": "ship", "harbour": "harbour", "engine": "engine", "violin": "violin", "rare": "rare"}


def test_the_words_that_are_more_frequent_in_a_cluster_name_it() -> None:
    texts = ["harbour ships", "Harbour ships", "harbour ship", "harbour engine", "harbour engine", "harbour violin"]
    assert cluster_names.names(texts, [0, 0, 0, 1, 1, 1], KNOWN) == ["ships", "engine"]


def test_no_word_is_in_two_names_and_a_cluster_without_words_has_a_number() -> None:
    texts = ["ship engine", "ship engine", "ship violin", "ship violin", "", "of the"]
    found = cluster_names.names(texts, [0, 0, 1, 1, 2, 2], KNOWN)
    words = [word for name in found[:2] for word in name.split(", ")]
    assert sorted(words) == ["engine", "ship", "violin"]
    assert found[2] == "cluster 3"


def test_a_word_that_one_text_repeats_does_not_name_its_cluster() -> None:
    texts = ["harbour " + "rare " * 50, "harbour", "harbour ship", "engine", "engine", "engine"]
    assert cluster_names.names(texts, [0, 0, 0, 1, 1, 1], KNOWN) == ["harbour", "engine"]


def test_the_order_of_the_texts_does_not_matter() -> None:
    texts, clusters = ["ship engine", "ships engine", "violin engine", "violin harbour"], [0, 0, 1, 1]
    backward = cluster_names.names(texts[::-1], clusters[::-1], KNOWN)
    assert cluster_names.names(texts, clusters, KNOWN) == backward
