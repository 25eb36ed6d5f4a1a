"""Functions and operators that others put into the schema of pgvector: no transaction of ours calls them."""

import dataclasses

import pytest
import sqlalchemy as sa

from pg_semantic.generations import lifecycle
from pg_semantic.index.spec import Lexical
from pg_semantic.operations import repair, verify
from pg_semantic.registry import Generation
from tests.db.copies import OTHER
from tests.db.library import execute, generation_of, rows, sync

# Functions that suit arguments of ours better than those of the server, which take "any", any array, or text.
_FUNCTIONS = (
    "concat_ws(text, text)",
    "concat_ws(varchar, text)",
    "concat_ws(text, text, text)",
    "concat_ws(varchar, text, text)",
    "btrim(text, varchar)",
    "btrim(varchar, varchar)",
    "convert_to(text, varchar)",
    "sha256(text)",
    "jsonb_build_array(text, text)",
    "format(text, text)",
    "format(text, name)",
    "set_config(varchar, varchar, boolean)",
    "set_config(text, varchar, boolean)",
    "current_setting(varchar, boolean)",
    "cardinality(text[])",
    "array_remove(text[], text)",
    "unnest(text[])",
    "unnest(integer[])",
    "unnest(varchar[])",
    "to_regclass(varchar)",
    "quote_ident(name)",
    "quote_ident(varchar)",
    "make_interval(integer)",
    "octet_length(varchar)",
)
_OPERANDS = (
    ("text", "varchar"),
    ("varchar", "text"),
    ("varchar", "varchar"),
    ("name", "varchar"),
    ("regclass", "oid"),
    ("oid", "regclass"),
    ("regclass", "regclass"),
    ("bigint", "varchar"),
)
_OPERATORS = ("=", "<>", "<", ">", "<=", ">=")


@pytest.fixture
def hostile(articles: sa.Engine) -> tuple[sa.Engine, Generation]:
    """Three articles, and a schema of pgvector in which everybody may create."""
    text = (
        "INSERT INTO article VALUES (1, 'a harbour', 'ships', 'en'), (2, 'a lantern', NULL, 'en'), (3, '', 'oil', 'en')"
    )
    execute(articles, text)
    live = generation_of(articles)
    for function in _FUNCTIONS:
        plant(articles, function, "text")
    for left, right in _OPERANDS:
        for number, operator in enumerate(_OPERATORS):
            plant(articles, f"operator_{number}({left}, {right})", "boolean")
            execute(
                articles,
                f"CREATE OPERATOR public.{operator} "
                f"(LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = public.operator_{number})",
            )
    return articles, live


def plant(engine: sa.Engine, function: str, returns: str) -> None:
    body = "BEGIN RAISE EXCEPTION 'a function of somebody else ran'; END"
    execute(engine, f"CREATE FUNCTION public.{function} RETURNS {returns} LANGUAGE plpgsql AS $${body}$$")


def test_a_worker_calls_the_functions_of_the_server_alone(hostile: tuple[sa.Engine, Generation]) -> None:
    engine, live = hostile
    assert sync(engine).rows == 3
    assert verify.verify(engine, live).clean
    execute(engine, "UPDATE public.article_semantic SET content = 'other' WHERE id = 1")
    repair.repair(engine, live)
    sync(engine)
    assert verify.verify(engine, live).clean
    lifecycle.begin(engine, live, dataclasses.replace(live.spec, encoder=OTHER, lexical=Lexical()))
    sync(engine)
    built = "SELECT CAST(indexrelid AS regclass) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
    named = rows(engine, f"{built} WHERE relname LIKE 'article_semantic%vector_idx' OR relname LIKE '%lexemes_idx'")
    assert len(named) == 4
    for table in ("article_semantic", "article_semantic__next"):
        kept = rows(engine, f"SELECT id, content FROM public.{table} ORDER BY id")
        assert kept == [(1, "a harbour\n\nships"), (2, "a lantern"), (3, "oil")]
    lifecycle.switch(engine, live.name)
    assert rows(engine, "SELECT id FROM public.article_semantic_search('lantern', 3, 'lexical')") == [(2,)]
