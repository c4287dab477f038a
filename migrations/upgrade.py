"""Alembic as a function: what ``cutwork db upgrade``, ``cutwork up`` and the tests call."""

from importlib.resources import files

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text

from cutwork import database, schema


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the tables to ``revision``. Safe to run from several machines at once."""
    with engine.begin() as connection:
        command.upgrade(_config(connection), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take the tables back to ``revision``; ``base`` drops them, jobs and all."""
    with engine.begin() as connection:
        command.downgrade(_config(connection), revision)
        if revision == "base":
            connection.execute(text(f"DROP TABLE IF EXISTS {schema.VERSION_TABLE}"))


def differences(engine: Engine) -> list[str]:
    """What the tables have, or lack, against the models; empty when they agree.

    Raises:
        DatabaseNotReady: the tables are not at this program's revision.
    """
    database.ensure_ready(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_name": lambda name, kind, _parents: (
                    kind != "table" or (name or "").startswith("cutwork_")
                ),
                "include_object": lambda made, *_: (
                    engine.dialect.name in made.info.get("only", engine.dialect.name)
                ),
                "version_table": schema.VERSION_TABLE,
            },
        )
        return [str(difference) for difference in compare_metadata(context, schema.metadata)]


def _config(connection: object) -> Config:
    config = Config()
    # A path, not "cutwork:migrations": that form fails in an editable install.
    config.set_main_option("script_location", str(files("cutwork.migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
