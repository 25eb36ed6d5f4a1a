"""The revisions of our own schema as files: which there are, and that those of a release never change."""

import hashlib
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from pg_semantic import errors
from pg_semantic.database import revisions

VERSIONS = revisions.folder() / "versions"
FILES = sorted(file for file in VERSIONS.rglob("*") if file.suffix in {".py", ".sql"})
NAMES = [file.relative_to(revisions.folder()).as_posix() for file in FILES]
LISTED = (revisions.folder() / "SHA256SUMS").read_text("utf-8")
RELEASED = {name: digest for digest, name in (line.split() for line in LISTED.splitlines())}


def test_the_names_of_the_files_say_what_alembic_reads_in_them() -> None:
    config = Config()
    config.set_main_option("script_location", str(revisions.folder()).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    assert revisions.known() == tuple(reversed([revision.revision for revision in script.walk_revisions()]))
    assert script.get_heads() == [revisions.known()[-1]]


@pytest.mark.parametrize("name", NAMES)
def test_a_revision_is_as_it_was_listed(name: str) -> None:
    digest = hashlib.sha256((revisions.folder() / name).read_bytes()).hexdigest()
    assert RELEASED.get(name) == digest, (
        f"migrations/{name} is not as migrations/SHA256SUMS lists it. Databases have run a released revision as it "
        "was: leave it so, and write a new revision. One that is in no release yet is listed by `make checksums`."
    )


def test_no_revision_that_was_listed_is_gone() -> None:
    assert RELEASED.keys() == set(NAMES)


def test_a_package_without_revisions_says_that_it_is_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revisions, "folder", lambda: tmp_path)
    revisions.known.cache_clear()
    with pytest.raises(errors.NotInstalled, match="incomplete: it has no revisions in"):
        revisions.known()
    monkeypatch.undo()
    revisions.known.cache_clear()


def test_no_newer_revision_will_do_and_the_message_says_how_to_get_there() -> None:
    revisions.require_newest(revisions.known()[-1])
    with pytest.raises(errors.NotInstalled, match=r"at revision 9999.*install the version that upgraded it"):
        revisions.require_newest("9999")
