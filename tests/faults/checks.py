"""What must be true when everything has settled, whatever has happened before."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from faults.content import Content, read_content
from faults.injection import Fired
from sqlalchemy import Connection, select, text

from schemas import tables


def check_rows(
    connection: Connection,
    expected: Content,
    *,
    attempts: Mapping[int, int] | None,
    failed: Mapping[str, str],
    cancelled: bool,
    outdated: bool,
) -> None:
    """All rows are those of an undisturbed run; nothing is held, half done or counted wrongly.

    ``attempts``: how many a run must have had, by id; all others one. ``None``: not known. The
    other arguments are those of :meth:`faults.world.World.check`.
    """
    content = read_content(connection)
    files = _files(connection)
    broken = {name: kind for name, kind in expected.failed.items() if name in files}
    if cancelled:
        assert content.failed.items() <= {**broken, **failed}.items()
    else:
        assert content.failed == {**broken, **failed}
    ends = {"done", "failed", *(["cancelled"] if cancelled else [])}
    for job in _rows(connection, "SELECT * FROM v_jobs"):
        assert job["state"] in ends, job
        if job["state"] != "cancelled":
            assert (job["state"] == "failed") == bool(job["assets_failed"]), job
    wanted = expected.only(set(content.assets))
    assert content.assets == wanted.assets
    done = _done(connection)
    for key, mark in wanted.heads.items():
        assert content.heads.get(key) == (mark if key[0] in done else content.heads.get(key)), key
    for key, made in content.runs.items():
        assert key in wanted.runs or outdated, key
        assert made == wanted.runs.get(key, made), key
    assert not {key for key in wanted.runs if key[0] in done} - set(content.runs)
    items = _rows(
        connection,
        "SELECT l.uri, i.state, i.error_class, i.error_text FROM job_item i "
        "JOIN location l ON l.id = i.location_id",
    )
    for item in items:
        assert item["state"] in ("done", "failed", "cancelled"), item
        assert item["state"] != "failed" or (item["error_class"] and item["error_text"]), item
    runs = _rows(
        connection,
        "SELECT id, stage, state, attempt, lease_token, lease_owner, error_text FROM stage_run",
    )
    assert not [run for run in runs if run["lease_token"] or run["lease_owner"]]
    assert {run["state"] for run in runs} <= {"succeeded", "failed", "cancelled"}
    if attempts is not None:
        wrong = [
            run
            for run in runs
            if run["state"] != "cancelled" and run["attempt"] != attempts.get(run["id"], 1)
        ]
        assert not wrong, f"attempts other than {attempts}"


def _done(connection: Connection) -> set[str]:
    """sha256 of the assets that a job has finished."""
    query = (
        select(tables.asset.c.sha256)
        .join(tables.job_item, tables.job_item.c.asset_id == tables.asset.c.id)
        .where(tables.job_item.c.state == "done")
    )
    return set(connection.execute(query).scalars())


def _files(connection: Connection) -> set[str]:
    uris = connection.execute(select(tables.location.c.uri)).scalars()
    return {uri.rpartition("/")[2] for uri in uris}


def _rows(connection: Connection, query: str) -> list[Mapping[str, object]]:
    return [dict(row) for row in connection.execute(text(query)).mappings()]


def check_scratch(scratch: Path, temporary: Path) -> None:
    """Only whole files that are kept on purpose, nothing half written, no work folder."""
    left = [
        path
        for pattern in ("media/tmp/*", "**/.part-*", "**/new-*", "**/*.tmp")
        for path in scratch.glob(pattern)
    ]
    assert not left, "work folders in scratch"
    assert not list(temporary.iterdir()), "temporary files"


def artifacts_referred_to(connection: Connection) -> set[str]:
    """Digests of everything that must be stored, and nothing else."""
    columns = (tables.artifact.c.sha256, tables.keyframe.c.sha256, tables.sidecar.c.sha256)
    return {sha for each in columns for sha in connection.execute(select(each)).scalars()}


def attempts_of(happened: Sequence[Fired], *, deadly: Sequence[str]) -> dict[int, int]:
    """How many attempts every run must have had that was claimed by a process when that died;
    what had committed counts not, though its message came again."""
    deaths: Counter[int] = Counter()
    for fault in happened:
        if fault.action in deadly:
            deaths.update(fault.held)
    return {run_id: 1 + count for run_id, count in deaths.items()}
