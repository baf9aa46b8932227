"""The lock that orders whatever is done to an asset.

Who finishes a stage of an asset, submits it or cancels its items locks it first, so that two who do
so at once see each other's work. Each lock is counted: who finds that nobody had it since knows
that what it saw of the asset still stands.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from schemas.tables import asset

#: An update of no key: rows that refer to the asset may be written meanwhile.
LOCK = (
    update(asset)
    .where(asset.c.id == bindparam("asset"))
    .values(lock_count=asset.c.lock_count + 1)
    .returning(
        asset.c.id,
        asset.c.kind,
        asset.c.has_audio,
        asset.c.container,
        asset.c.duration_ms,
        asset.c.sha256,
        asset.c.lock_count,
    )
)


def lock_asset(connection: Connection, asset_id: int) -> Any:
    """Lock an asset until the transaction ends.

    Gives its id, what never changes of it (kind, has_audio, container, duration_ms, sha256), and
    its lock_count.
    """
    return connection.execute(LOCK, {"asset": asset_id}).one()


def lock_assets(connection: Connection, asset_ids: Sequence[int]) -> None:
    """Lock many assets, in the order of their ids."""
    if not asset_ids:
        return
    those = asset.c.id.in_(asset_ids)
    connection.execute(
        select(asset.c.id).where(those).order_by(asset.c.id).with_for_update(key_share=True)
    )
    connection.execute(update(asset).where(those).values(lock_count=asset.c.lock_count + 1))
