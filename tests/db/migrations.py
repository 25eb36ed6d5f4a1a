"""An application's own Alembic environment, in a folder of its own, and its commands run in this process."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

_ENV = """
import asyncio

from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine

from pg_semantic import alembic_plugin

alembic_plugin.register()

attributes = context.config.attributes
options = {"target_metadata": attributes["metadata"], **attributes["options"]}


def run(**how):
    context.configure(**how, **options)
    with context.begin_transaction():
        context.run_migrations()


async def run_on(url):
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(lambda synchronous: run(connection=synchronous))
    await engine.dispose()


if context.is_offline_mode():
    run(url="postgresql+psycopg://", dialect_opts={"paramstyle": "named"})
elif attributes["driver"] is not None:
    asyncio.run(run_on(attributes["engine"].url.set(drivername="postgresql+" + attributes["driver"])))
else:
    with attributes["engine"].connect() as connection:
        run(connection=connection)
"""

_SCRIPT = '''
"""${message}"""

from alembic import op
import sqlalchemy as sa

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
'''


@dataclass
class Application:
    """An application with a database, a folder of migrations, and mapped classes that change."""

    engine: sa.Engine
    folder: Path
    metadata: sa.MetaData | list[sa.MetaData]
    options: dict[str, Any]
    driver: str | None = None  # of an async environment

    def autogenerate(self) -> str:
        """The text of a new migration, written by Alembic."""
        script = command.revision(self._config(), autogenerate=True, message="change")
        assert script is not None
        assert not isinstance(script, list)
        return Path(script.path).read_text("utf-8")

    def migrate(self) -> str:
        """Writes a migration and runs it; its text."""
        text = self.autogenerate()
        self.upgrade()
        return text

    def upgrade(self, revision: str = "head") -> None:
        """Runs migrations."""
        command.upgrade(self._config(), revision)

    def downgrade(self, revision: str = "base") -> None:
        """Takes migrations back."""
        command.downgrade(self._config(), revision)

    def check(self) -> None:
        """Raises when another migration is needed."""
        command.check(self._config())

    def head(self) -> str:
        """The newest migration."""
        return str(ScriptDirectory.from_config(self._config()).get_current_head())

    def offline(self, revisions: str, *, down: bool = False) -> str:
        """The SQL of migrations, for a person to run."""
        output = io.StringIO()
        run = command.downgrade if down else command.upgrade
        run(self._config(output), revisions, sql=True)
        return output.getvalue()

    def _config(self, output: io.StringIO | None = None) -> Config:
        attributes = {"engine": self.engine, "metadata": self.metadata, "options": self.options, "driver": self.driver}
        config = Config(attributes=attributes, output_buffer=output, stdout=io.StringIO())
        config.set_main_option("script_location", str(self.folder))
        config.set_main_option("file_template", "%%(rev)s")
        return config


def begin(engine: sa.Engine, folder: Path) -> Application:
    """An application that has no tables and no migrations yet."""
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(_ENV)
    (folder / "script.py.mako").write_text(_SCRIPT)
    return Application(engine, folder, sa.MetaData(), {})
