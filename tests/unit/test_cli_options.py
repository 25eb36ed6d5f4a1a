"""Options that several commands share: what they accept, before anything connects to a database."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pg_semantic import cli
from pg_semantic.cli import options
from pg_semantic.training import Pair


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "index", "--judgements"),
        ("generation", "compare", "index", "--judgements"),
        ("generation", "switch", "index", "--if-better", "--judgements"),
        ("mine", "index", "--out", "mined.jsonl", "--pairs"),
        ("tune", "index", "--judgements"),
        ("train", "queries", "index", "--out", "new", "--judgements"),
        ("train", "static", "index", "--out", "new", "--judgements"),
        ("split", "index", "--held-out", "held.jsonl", "--judgements"),
    ],
    ids=" ".join,
)
def test_a_split_is_refused_without_a_folder_that_has_splits(tmp_path: Path, command: tuple[str, ...]) -> None:
    file, split = tmp_path / "judged.csv", "--split-of" if command[0] == "split" else "--split"
    file.write_text("query,key\nhow,1\n")
    done = CliRunner().invoke(cli.app, [*command, str(file), split, "dev"])
    assert done.exit_code == 2
    assert f"{split} dev names qrels of a BEIR folder" in " ".join(done.stderr.replace("│", " ").split())


def test_the_split_of_a_folder_is_the_given_or_the_usual_one(tmp_path: Path) -> None:
    assert options.split_of(tmp_path, "dev", usual="test") == "dev"
    assert options.split_of(tmp_path, None, usual="test") == "test"
    assert options.split_of(None, None, usual="train") == "train"


@pytest.mark.parametrize("name", ["pairs.csv", "PAIRS.CSV", "Pairs.Tsv"])
def test_the_case_of_a_suffix_does_not_matter(tmp_path: Path, name: str) -> None:
    mark = "\t" if name.endswith("Tsv") else ","
    (tmp_path / name).write_text(f"query{mark}key\nhow{mark}1\n")
    assert options.read_pairs(tmp_path / name) == [Pair("how", "1")]
