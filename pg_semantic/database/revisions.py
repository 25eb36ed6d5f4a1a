"""Which revisions of our own schema this package has; what they do is in ``migrations/`` and Alembic's to run."""

import functools
from pathlib import Path

from pg_semantic import errors


def folder() -> Path:
    """The folder ``migrations``: inside the package in a wheel, beside it in an editable install."""
    package = Path(__file__).parent
    shipped = package / "migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


@functools.cache
def known() -> tuple[str, ...]:
    """Every revision, oldest first, read from the names of their files: a worker needs no Alembic to know them."""
    return tuple(sorted(file.name.partition("_")[0] for file in (folder() / "versions").glob("[0-9]*_*.py")))


def require_known(revision: str) -> None:
    """Raises `errors.NotInstalled` for a revision that only a newer package has."""
    if revision not in known():
        raise errors.NotInstalled(
            f"The schema `semantic` is at revision {revision}, and this version of pg_semantic knows it up to "
            f"{known()[-1]}: install the version that upgraded it, or a newer one (pip install --upgrade "
            "pg-semantic-index)."
        )


def require_newest(revision: str) -> None:
    """Raises `errors.NotInstalled` unless this is the revision that the package works with."""
    require_known(revision)
    if revision != known()[-1]:
        raise errors.NotInstalled(
            f"The schema `semantic` is at revision {revision}, and this version of pg_semantic needs {known()[-1]}: "
            "run `pg-semantic db upgrade`."
        )
