"""What a database holds, without ids, times and places: two runs on the same media compare."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, select

from schemas import tables

#: Tables whose rows belong to one stage run.
RESULTS = (
    tables.shot,
    tables.keyframe,
    tables.cue,
    tables.tag,
    tables.classification,
    tables.sound_event,
    tables.caption,
    tables.embedding,
    tables.artifact,
)
_LEFT_OUT = {"stage_run_id", "asset_id"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """``assets``: sha256 → facts; ``runs``: (sha256, stage, fingerprint) → all that the run made;
    ``heads``: (sha256, stage) → fingerprint; ``failed``: file name → class of the error."""

    assets: Mapping[str, Any]
    runs: Mapping[tuple[str, str, str], Any]
    heads: Mapping[tuple[str, str], str]
    failed: Mapping[str, str]

    def only(self, sha256s: set[str]) -> "Content":
        """The part about some assets."""
        return Content(
            assets={sha: facts for sha, facts in self.assets.items() if sha in sha256s},
            runs={key: made for key, made in self.runs.items() if key[0] in sha256s},
            heads={key: mark for key, mark in self.heads.items() if key[0] in sha256s},
            failed=self.failed,
        )


def read_content(connection: Connection) -> Content:
    """Everything about assets, in a form that any other database must equal."""
    sha_of = {row.id: row.sha256 for row in connection.execute(select(tables.asset))}
    runs = [
        row
        for row in connection.execute(
            select(tables.stage_run).where(
                tables.stage_run.c.asset_id.is_not(None), tables.stage_run.c.stage != "ingest"
            )
        )
        if row.state == "succeeded"
    ]
    rows = _rows_by_run(connection)
    models = _models_by_run(connection)
    made: dict[tuple[str, str, str], Any] = {}
    for run in runs:
        key = (sha_of[run.asset_id], run.stage, run.fingerprint)
        assert key not in made, f"two runs of {key}"
        made[key] = {
            "outputs": run.outputs,
            "notes": run.notes,
            "models": models[run.id],
            **rows.pop(run.id, {}),
        }
    assert not rows, f"rows of runs that did not succeed: {sorted(rows)}"
    marks = {run.id: run.fingerprint for run in runs}
    return Content(
        assets=_assets(connection),
        runs=made,
        heads={
            (sha_of[row.asset_id], row.stage): marks[row.stage_run_id]
            for row in connection.execute(select(tables.head))
        },
        failed=_failed(connection),
    )


def _rows_by_run(connection: Connection) -> dict[int, dict[str, list[Any]]]:
    names = {
        "label_id": _names(connection, tables.label),
        "taxonomy_id": _names(connection, tables.taxonomy),
    }
    found: dict[int, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for table in RESULTS:
        for row in connection.execute(select(table)).mappings():
            values = {
                name: names[name][value] if name in names else value
                for name, value in row.items()
                if name not in _LEFT_OUT
            }
            if "uri" in values:
                values["uri"] = values["uri"].rpartition("/")[2]
            found[row["stage_run_id"]][table.name].append(tuple(sorted(values.items())))
    return {
        run_id: {name: sorted(rows, key=repr) for name, rows in of_run.items()}
        for run_id, of_run in found.items()
    }


def _names(connection: Connection, table: Table) -> dict[int, str]:
    return {row.id: row.name for row in connection.execute(select(table))}


def _models_by_run(connection: Connection) -> dict[int, list[Any]]:
    link, model = tables.stage_run_model, tables.model
    query = select(link.c.stage_run_id, link.c.role, model.c.name, model.c.revision).join(
        model, model.c.id == link.c.model_id
    )
    found: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(query.order_by(link.c.role)):
        found[row.stage_run_id].append((row.role, row.name, row.revision))
    return found


def _assets(connection: Connection) -> dict[str, Any]:
    streams: dict[int, list[Any]] = defaultdict(list)
    query = select(tables.stream).order_by(tables.stream.c.stream_index)
    for row in connection.execute(query).mappings():
        streams[row["asset_id"]].append({k: v for k, v in row.items() if k != "asset_id"})
    sidecars: dict[int, list[Any]] = defaultdict(list)
    joined = select(tables.location.c.asset_id, tables.sidecar.c.name, tables.sidecar.c.sha256)
    joined = joined.join(tables.sidecar, tables.sidecar.c.location_id == tables.location.c.id)
    for row in connection.execute(joined):
        sidecars[row.asset_id].append((row.name, row.sha256))
    return {
        row["sha256"]: {
            **{k: v for k, v in row.items() if k not in ("id", "ingested_at", "lock_count")},
            "streams": streams[row["id"]],
            "sidecars": sorted(sidecars[row["id"]]),
        }
        for row in connection.execute(select(tables.asset)).mappings()
    }


def _failed(connection: Connection) -> dict[str, str]:
    item, place = tables.job_item, tables.location
    query = (
        select(place.c.uri, item.c.error_class)
        .select_from(item)
        .join(place, place.c.id == item.c.location_id)
        .where(item.c.state == "failed")
    )
    return {row.uri.rpartition("/")[2]: row.error_class for row in connection.execute(query)}
