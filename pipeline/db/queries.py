"""Questions the command line asks: of the views, as any analyst would."""

import re
from typing import Any

from sqlalchemy import Connection, text

from pipeline.db.engine import Database
from pipeline.errors import ConfigurationError

Rows = list[dict[str, Any]]

_SHA256_PREFIX = re.compile(r"[0-9a-f]{8,63}")


def _rows(connection: Connection, query: str, **values: Any) -> Rows:
    return [dict(row) for row in connection.execute(text(query), values).mappings()]


def find_assets(connection: Connection, uri_or_id: str) -> list[int]:
    """Assets by id, by exact uri (any place that still holds one), or by sha256.

    Of a sha256 the first 8 digits will do where they are not decimal throughout.
    """
    # Longer numbers are no ids on any database.
    if uri_or_id.isdecimal() and len(uri_or_id) <= 18:
        query = "SELECT id FROM asset WHERE id = :key"
        return [row["id"] for row in _rows(connection, query, key=int(uri_or_id))]
    query = """
        SELECT id FROM asset WHERE sha256 = :key
        UNION
        SELECT asset_id FROM location WHERE uri = :key AND asset_id IS NOT NULL AND is_current
    """
    found = [row["id"] for row in _rows(connection, query, key=uri_or_id)]
    if not found and _SHA256_PREFIX.fullmatch(uri_or_id):
        query = "SELECT id FROM asset WHERE sha256 LIKE :key ORDER BY id"
        found = [row["id"] for row in _rows(connection, query, key=f"{uri_or_id}%")]
    return found


def asset_details(connection: Connection, asset_id: int) -> dict[str, Any]:
    """Everything the views say about one asset."""
    key = {"asset": asset_id}
    found = _rows(connection, "SELECT * FROM v_assets WHERE asset_id = :asset", **key)[0]
    found["locations"] = [
        row["uri"]
        for row in _rows(
            connection,
            "SELECT uri FROM location WHERE asset_id = :asset AND is_current ORDER BY id",
            **key,
        )
    ]
    for name, query in {
        "shots": "SELECT * FROM v_shots WHERE asset_id = :asset ORDER BY shot_index",
        "tags": "SELECT * FROM v_tags WHERE asset_id = :asset"
        " ORDER BY shot_index, score DESC, label",
        "classifications": "SELECT * FROM v_classifications WHERE asset_id = :asset"
        " ORDER BY shot_index, taxonomy",
        "captions": "SELECT * FROM v_captions WHERE asset_id = :asset ORDER BY shot_index",
        "cues": "SELECT * FROM v_cues WHERE asset_id = :asset"
        " ORDER BY start_ms, end_ms, origin, text",
        "sound_events": "SELECT * FROM v_sound_events WHERE asset_id = :asset"
        " ORDER BY start_ms, end_ms, label",
        "stage_runs": "SELECT * FROM v_stage_runs WHERE asset_id = :asset ORDER BY stage_run_id",
    }.items():
        found[name] = _rows(connection, query, **key)
    return found


def corrected_shots(connection: Connection) -> Rows:
    """Every shot of the assets that people have corrected, with those of its tags, as they stand
    after all corrections, that anybody has ever corrected anywhere: asset_id, start_ms, end_ms,
    label (NULL where there is none)."""
    return _rows(
        connection,
        """
        SELECT s.asset_id, s.start_ms, s.end_ms, t.label
        FROM v_shots s
        LEFT JOIN v_tags t ON t.asset_id = s.asset_id AND t.shot_index = s.shot_index
         AND t.label IN (SELECT n.name FROM label n JOIN correction x ON x.label_id = n.id)
        WHERE s.asset_id IN (SELECT asset_id FROM correction)
        ORDER BY s.asset_id, s.start_ms, t.label
        """,
    )


def failures(connection: Connection, job_id: int) -> Rows:
    """The failed stage runs behind a job's failed items: uri, stage, error_class, error_text."""
    return _rows(
        connection,
        """
        SELECT l.uri, r.stage, i.error_class, i.error_text
        FROM job_item i
        JOIN location l ON l.id = i.location_id
        JOIN stage_run r ON r.id = i.failed_run_id
        WHERE i.job_id = :job AND i.state = 'failed'
        ORDER BY l.uri
        """,
        job=job_id,
    )


def failed_ingests(connection: Connection, uri: str) -> Rows:
    """Why a place that has no asset has none."""
    return _rows(
        connection,
        """
        SELECT l.uri, r.stage, r.state, r.error_class, r.error_text
        FROM location l JOIN stage_run r ON r.location_id = l.id
        WHERE l.uri = :uri AND l.is_current AND r.asset_id IS NULL
        """,
        uri=uri,
    )


def jobs_table(connection: Connection, limit: int, state: str | None = None) -> Rows:
    """The newest jobs first, of any state or of one."""
    query = """
        SELECT * FROM v_jobs WHERE CAST(:state AS TEXT) IS NULL OR state = :state
        ORDER BY job_id DESC LIMIT :count
    """
    return _rows(connection, query, state=state, count=limit)


def job_stages(connection: Connection, job_id: int) -> Rows:
    """A job's stage runs: stage, state, error_class, how many."""
    query = """
        SELECT stage, state, error_class, COUNT(*) AS runs
        FROM stage_run WHERE job_id = :job
        GROUP BY stage, state, error_class ORDER BY MIN(id), state
    """
    return _rows(connection, query, job=job_id)


def job_row(connection: Connection, job_id: int) -> dict[str, Any]:
    """Raises ConfigurationError where there is no such job."""
    found = _rows(connection, "SELECT * FROM v_jobs WHERE job_id = :job", job=job_id)
    if not found:
        raise ConfigurationError(f"there is no job {job_id}; `mediaweave jobs list` lists them")
    return found[0]


def read_only(database: Database, query: str) -> Rows:
    """Run an analyst's query in a transaction that cannot write.

    Raises:
        ConfigurationError: the query is wrong, or tries to change something.
    """
    forbid = "PRAGMA query_only = ON" if database.is_sqlite else "SET TRANSACTION READ ONLY"
    driver = database.engine.raw_connection()
    try:
        cursor = driver.cursor()
        cursor.execute(forbid)
        # Sent as it is, without parameters: a colon or a percent sign in it is the analyst's own.
        if database.is_sqlite:
            cursor.execute(query)
        else:
            # A prepared statement is one statement: none can end the transaction and then write.
            cursor.execute(query, prepare=True)  # type: ignore[call-arg]
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []
    except (database.engine.dialect.loaded_dbapi.Error, Warning) as error:
        raise ConfigurationError(f"the query failed: {error}") from error
    finally:
        # query_only belongs to the connection: it must not go back to the pool.
        driver.invalidate()
