"""What the wheel carries, beside the modules."""

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests import documents


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in the built wheel."""
    [path] = WheelBuilder(str(documents.ROOT)).build(
        directory=str(tmp_path_factory.mktemp("dist")), versions=["standard"]
    )
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("folder", ["pg_semantic", "migrations"])
def test_the_wheel_has_every_file_of_the_package_and_of_the_history(wheel: set[str], folder: str) -> None:
    root = documents.ROOT / folder
    files = {path.relative_to(root) for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    prefix = Path("pg_semantic") if folder == "pg_semantic" else Path("pg_semantic") / "migrations"
    assert files
    assert {str(prefix / file) for file in files} <= wheel


def test_the_wheel_has_what_the_pages_are_made_of(wheel: set[str]) -> None:
    page = "pg_semantic/service/pages"
    assert {f"{page}/templates/base.html", f"{page}/static/page.css", f"{page}/static/htmx.min.js"} <= wheel
    assert {f"{page}/static/htmx.LICENSE", f"{page}/static/SOURCES.md"} <= wheel


def test_the_wheel_says_that_it_is_typed_and_has_the_licence(wheel: set[str]) -> None:
    assert "pg_semantic/py.typed" in wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    assert not any("test" in name.lower() for name in wheel)
