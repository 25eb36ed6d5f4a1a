"""Runs our own history on the connection that `pg_semantic.database.migrate` hands over."""

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
