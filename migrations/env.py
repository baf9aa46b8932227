"""Alembic's environment: runs the migrations on the connection it is given.

The views are dropped before and made again after the migrations, in the same transaction, so that
they always match the tables and the code.
"""

from alembic import context
from sqlalchemy import Connection, text

from schemas import operations
from schemas.views import VIEWS

connection: Connection = context.config.attributes["connection"]


def drop_views() -> None:
    for name in VIEWS:
        connection.execute(text(f"DROP VIEW IF EXISTS {name}"))


def create_views() -> None:
    for name, select in VIEWS.items():
        connection.execute(text(f"CREATE VIEW {name} AS {select}"))


context.configure(
    connection=connection,
    target_metadata=operations.outbox.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
)
if context.config.attributes.get("migrate", True):
    drop_views()
    context.run_migrations()
    # They fit the newest tables only: a database on its way back has none.
    if context.get_context().get_current_revision() == context.get_head_revision():
        create_views()
else:
    context.run_migrations()
