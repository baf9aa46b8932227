"""Brings a database to the schema of this version."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from pipeline.db import workers
from pipeline.db.engine import Database
from pipeline.db.runs import is_gone
from pipeline.errors import ConfigurationError

# Any constant: two processes that migrate one PostgreSQL database wait for each other.
_ADVISORY_LOCK = 0x6D77_6462


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def latest_revision() -> str:
    revision = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if revision is None:
        raise ConfigurationError("the installation has no migrations; install mediaweave again")
    return revision


def current_revision(database: Database) -> str | None:
    """The revision the database is at; ``None``: it has no tables of mediaweave yet."""
    with database.reading() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(database: Database) -> None:
    """Run the missing migrations, all in one transaction; safe to call from many processes.

    Raises:
        ConfigurationError: the database is of a newer version, holds tables of something else, or
            processes of the version before are at work on it.
    """
    with database.transaction() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        revision = MigrationContext.configure(connection).get_current_revision()
        script = ScriptDirectory.from_config(alembic_config())
        tables = set(inspect(connection).get_table_names())
        if revision is None and {"job", "asset", "worker"} & tables:
            raise ConfigurationError(
                f"the database {database.display_url} holds tables of something else; "
                "give mediaweave a database of its own"
            )
        if revision is not None and revision not in {
            migration.revision for migration in script.walk_revisions()
        }:
            raise ConfigurationError(
                f"the database {database.display_url} was made by a newer mediaweave "
                f"(revision {revision}); upgrade this installation"
            )
        # The first revision has no such table.
        if revision != script.get_current_head() and "worker" in tables:
            _refuse_beside_others(connection, database.display_url)
        command.upgrade(alembic_config(connection), "head")


def _refuse_beside_others(connection: Connection, display_url: str) -> None:
    """They would go on by the rules of their version."""
    count = sum(not is_gone(owner) for owner in workers.living(connection))
    if count:
        raise ConfigurationError(
            f"workers or dispatchers are at work on the database {display_url} ({count} seen): "
            "stop them, upgrade, and start them again; one that was killed counts for "
            f"{workers.SILENT_SECONDS:.0f} seconds more"
        )


def ensure_schema(database: Database) -> None:
    """Make a new database ready; an older one that others share is left to its operator.

    An embedded (SQLite) database has one user and is upgraded on the spot.

    Raises:
        ConfigurationError: as :func:`upgrade`, or saying which command upgrades the database.
        DatabaseUnavailableError: the database cannot be reached.
    """
    revision, latest = current_revision(database), latest_revision()
    if revision == latest:
        return
    known = {
        script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()
    }
    if revision in known and not database.is_sqlite:
        raise ConfigurationError(
            f"the database {database.display_url} is at revision {revision}, this mediaweave "
            f"needs {latest}: run `mediaweave database upgrade`"
        )
    upgrade(database)
