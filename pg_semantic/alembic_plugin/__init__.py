"""A plugin with which Alembic's autogenerate writes migrations for semantic indexes, in your own environment.

Put two lines in ``env.py``, before ``context.configure``::

    from pg_semantic import alembic_plugin

    alembic_plugin.register()

``alembic revision --autogenerate`` then compares the semantic indexes that ``target_metadata`` declares with those in
the database, and writes these operations; ``alembic check`` reports them:

``op.create_semantic_index(name, table, columns, *, key, encoder, dimensions, chunking, storage, hnsw, lexical)``
    creates the chunk table, the receipt table, the triggers and the registry entry. A worker makes the vectors.

``op.drop_semantic_index(name, table)``
    removes all of it, vectors included. Your table keeps its columns and rows.

``op.alter_semantic_index(name, table, columns, *, was, ...)``
    starts to build a second copy, described by the arguments, next to the live one. ``was`` holds the old value of each
    argument that changed. `pg-semantic generation switch` makes the copy live once it is complete.

``op.revert_semantic_index(name, table, columns, *, was, ...)``
    undoes an ``alter_semantic_index`` that had the same arguments.

All of them take a ``schema`` if the declaration states one. A migration writes out every value and imports nothing from
your application, so its meaning never changes. The operations run online and offline (``--sql``), in the transaction of
the migration. The database needs the schema ``semantic`` (`pg-semantic db upgrade`).

Alembic itself doesn't compare the tables of semantic indexes, whatever your environment includes: those of the
MetaData, the copies that exist only in the database, and the schema ``semantic``. Your settings are respected. No index
is dropped if Alembic doesn't look at its schema, or if ``include_name`` or ``include_object`` excludes its table; the
filters are called for both the source and the chunk table.

Importing this module registers nothing. ``register`` uses the name ``alembic.autogenerate.pg_semantic``, which
``autogenerate_plugins`` of ``context.configure`` includes by default.
"""

from pg_semantic.alembic_plugin.registration import register, setup

__all__ = ["register", "setup"]
