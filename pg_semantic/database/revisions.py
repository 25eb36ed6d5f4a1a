"""The revisions of the schema `semantic` in this package. Their code is in ``migrations/``, and Alembic runs it."""

import functools
from pathlib import Path

from pg_semantic import errors


def folder() -> Path:
    """Returns the folder ``migrations``: inside the package in a wheel, next to it in an editable install."""
    package = Path(__file__).parent.parent
    shipped = package / "migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


@functools.cache
def known() -> tuple[str, ...]:
    """Returns every revision, oldest first.

    They are read from file names, so a worker doesn't need Alembic.

    Raises:
        errors.NotInstalled: The installed package lacks the folder.
    """
    found = tuple(sorted(file.name.partition("_")[0] for file in (folder() / "versions").glob("[0-9]*_*.py")))
    if not found:
        raise errors.NotInstalled(
            f"The package is incomplete: it has no revisions in {folder() / 'versions'}. Install it again, as a folder "
            "(not as a zip file)."
        )
    return found


def require_known(revision: str) -> None:
    """Checks that this package knows a revision.

    Raises:
        errors.NotInstalled: Only a newer package has it.
    """
    if revision not in known():
        raise errors.NotInstalled(
            f"The schema `semantic` is at revision {revision}, but this version of pg_semantic knows revisions "
            f"up to {known()[-1]}: install the version that upgraded it, or a newer one (pip install --upgrade "
            "pg-semantic-index)."
        )


def require_newest(revision: str) -> None:
    """Checks that a revision is the one that this package works with.

    Raises:
        errors.NotInstalled: It is older, or newer.
    """
    require_known(revision)
    if revision != known()[-1]:
        raise errors.NotInstalled(
            f"The schema `semantic` is at revision {revision}, but this version of pg_semantic needs {known()[-1]}: "
            "run `pg-semantic db upgrade`."
        )
