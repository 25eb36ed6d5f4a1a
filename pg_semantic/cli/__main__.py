"""Runs the command as ``python -m pg_semantic.cli``, for when ``pg-semantic`` is not on the PATH."""

from pg_semantic.cli import run

run()
