"""Assets by what people call them."""

from sqlalchemy import Connection

from pipeline.db import queries
from pipeline.storage.local import normalise_uri


def assets_named(connection: Connection, given: str) -> tuple[list[int], str]:
    """Ids by id, digits of the sha256, uri or path; and the uri that was looked for."""
    if found := queries.find_assets(connection, given):
        return found, given
    uri = normalise_uri(given)
    return queries.find_assets(connection, uri), uri
