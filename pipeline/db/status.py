"""How a job gets on, in a few cheap counts."""

from sqlalchemy import Connection, func, select

from schemas.tables import asset, job_item, stage_run


def items_by_kind(
    connection: Connection, job_id: int
) -> list[tuple[str, str | None, bool | None, int]]:
    """Counts of the job's items: (item state, asset kind, has audio, count); kind and audio are
    ``None`` before the ingest."""
    query = (
        select(job_item.c.state, asset.c.kind, asset.c.has_audio, func.count())
        .select_from(job_item)
        .outerjoin(asset, asset.c.id == job_item.c.asset_id)
        .where(job_item.c.job_id == job_id)
        .group_by(job_item.c.state, asset.c.kind, asset.c.has_audio)
    )
    return [(row[0], row[1], row[2], row[3]) for row in connection.execute(query)]


def steps_of_open_items(connection: Connection, job_id: int) -> int:
    """Succeeded stage runs of the job's assets that are not finished yet."""
    query = (
        select(func.count())
        .select_from(job_item)
        .join(stage_run, stage_run.c.asset_id == job_item.c.asset_id)
        .where(
            job_item.c.job_id == job_id,
            job_item.c.state == "running",
            stage_run.c.job_id == job_id,
            stage_run.c.state == "succeeded",
        )
    )
    return int(connection.execute(query).scalar_one())
