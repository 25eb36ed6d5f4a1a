"""``python -m pg_semantic.cli``, where the command is not on the PATH."""

from pg_semantic.cli import run

run()
