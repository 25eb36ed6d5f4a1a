"""Registers the operations and the comparison with Alembic."""

from alembic.autogenerate.render import renderers
from alembic.operations import Operations
from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority

from pg_semantic.alembic_plugin import compare, excluded_tables, operations, render

# Alembic's default for `autogenerate_plugins` is "alembic.autogenerate.*". Another name needs a third line in env.py.
_NAME = "alembic.autogenerate.pg_semantic"


def register() -> None:
    """Registers the plugin with Alembic. Later calls do nothing: ``env.py`` may run several times per process."""
    try:
        plugin = Plugin(_NAME)
    except ValueError:  # already registered
        return
    setup(plugin)


def setup(plugin: Plugin) -> None:
    """Sets up the plugin. Called by `register`, and by Alembic in `Plugin.setup_plugin_from_module`."""
    for kind in operations.KINDS:
        Operations.register_operation(kind.NAME)(kind)
        Operations.implementation_for(kind, replace=True)(operations.run)
        renderers.dispatch_for(kind, replace=True)(render.call)
    plugin.add_autogenerate_comparator(
        excluded_tables.hide, "schema", "pg_semantic_tables", qualifier="postgresql", priority=DispatchPriority.FIRST
    )
    plugin.add_autogenerate_comparator(
        compare.compare, "schema", "pg_semantic", qualifier="postgresql", priority=DispatchPriority.LAST
    )
