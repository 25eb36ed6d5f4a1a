"""Alembic writes the migrations of semantic indexes: a plugin for autogenerate in an application's own environment.

Two lines in ``env.py``, before ``context.configure``::

    from pg_semantic import alembic_plugin

    alembic_plugin.register()

From then on ``alembic revision --autogenerate`` compares the semantic indexes that ``target_metadata`` declares with
those of the database, and writes these operations; ``alembic check`` reports them:

``op.create_semantic_index(name, table, columns, *, key, encoder, dimensions, chunking, storage, hnsw, lexical)``
    makes the chunk table, the receipt table, the triggers and the entry in the registry. Vectors are a worker's work.

``op.drop_semantic_index(name, table)``
    removes all of it, with the vectors; the table that it is of stays as it is.

``op.alter_semantic_index(name, table, columns, *, was, ...)``
    begins to build a second copy, as the arguments say, beside the live one; ``was`` has the values that were others.
    `pg-semantic generation switch` makes it the live one once it is complete.

``op.revert_semantic_index(name, table, columns, *, was, ...)``
    takes that back; it has the arguments of the operation that it undoes.

All of them take a ``schema`` where the table's is stated. A migration has every value written out and imports nothing
of the application, so that it means the same for ever. The operations run online and offline (``--sql``), within the
migration's transaction. The database needs the schema ``semantic`` (`pg-semantic db upgrade`).

What Alembic would say of our tables by itself is left out, whatever the environment includes: those of the MetaData,
the copies that are only in the database, and the schema ``semantic``. Its own settings are respected: a schema that
Alembic does not look at, or a table that ``include_name`` or ``include_object`` leaves out, has no semantic index
dropped; both are asked about the source and about the chunk table.

Nothing is registered as the module is imported. ``register`` uses the name ``alembic.autogenerate.pg_semantic``, which
``autogenerate_plugins`` of ``context.configure`` includes unless it is told otherwise.
"""

from pg_semantic.alembic_plugin.registration import register, setup

__all__ = ["register", "setup"]
