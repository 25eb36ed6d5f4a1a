"""Runs the revisions of the schema `semantic` on the connection that `pg_semantic.database.migrate` passes in."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="history",
    version_table_schema="semantic",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
