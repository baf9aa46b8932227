"""The rules about the rows, each provoked: what `mediaweave doctor --deep` says of a database."""

from pathlib import Path

import pytest
from finished_job import PAST, finish_job
from query_plans import nested_scans, recorded
from sqlalchemy import text

from pipeline.config import Settings
from pipeline.db.engine import Database
from pipeline.db.invariants import RULES, Limits, Violation, check_invariants


@pytest.fixture
def finished(database: Database) -> Database:
    finish_job(database, assets=2)
    return database


def change(database: Database, *statements: str) -> None:
    with database.transaction() as connection:
        for statement in statements:
            connection.execute(text(statement))


def look(database: Database, *, settled: bool = False) -> list[Violation]:
    with database.reading() as connection:
        return check_invariants(connection, settled=settled)


def test_a_finished_database_breaks_no_rule(finished: Database) -> None:
    assert look(finished) == []
    assert look(finished, settled=True) == []


OPEN_JOB = "UPDATE job SET state = 'running', finished_at = NULL"
FAILED_ITEM = (
    "UPDATE job_item SET state = 'failed', failed_run_id = 23, error_class = 'E', "
    "error_text = 't' WHERE location_id = 2"
)
OPEN_ITEM = "UPDATE job_item SET state = 'running' WHERE location_id = 2"
QUEUE_CAPTION = "UPDATE stage_run SET state = 'queued' WHERE id = 23"
UNDO_CAPTION = (
    "DELETE FROM head WHERE stage_run_id = 23",
    "DELETE FROM caption WHERE stage_run_id = 23",
)
WORKER = (
    "INSERT INTO worker (owner, queues, slots, version, started_at, seen_at) "
    f"VALUES ('h/1', 'device,cpu', 2, '1', '{PAST}', '{PAST}')"
)


def second_job(state: str = "running", **columns: str) -> list[str]:
    names = "".join(f", {name}" for name in columns)
    values = "".join(f", {value}" for value in columns.values())
    return [
        (
            "INSERT INTO job (id, name, priority, profile, sources, plan, state, files_skipped, "
            f"submitted_at{names}) VALUES (2, 'n', 0, 'offline', '[]', '{{}}', '{state}', 0, "
            f"'{PAST}'{values})"
        ),
        (
            "INSERT INTO job_item (job_id, location_id, asset_id, ingest_run_id, state) "
            "VALUES (2, 2, 2, 20, 'running')"
        ),
    ]


#: What is done to a finished database, and what is said of it: the rule, the count, one example,
#: and a word of the advice.
CASES = [
    (
        "running_without_lease", 1, "stage run 23", "SET state = 'queued'",
        ["UPDATE stage_run SET state = 'running', lease_owner = 'h/1' WHERE id = 23"],
    ),
    (
        "lease_without_running", 2, "stage run 13", "lease_token = NULL",
        ["UPDATE stage_run SET lease_token = 'x' WHERE id IN (13, 23)"],
    ),
    (
        "attempt_not_counted", 1, "stage run 23", "report",
        ["UPDATE stage_run SET attempt = 0 WHERE id = 23"],
    ),
    (
        "too_many_attempts", 1, "stage run 23", "max_attempts",
        ["UPDATE stage_run SET attempt = 4, finished_at = '2999-01-01 00:00:00' WHERE id = 23"],
    ),
    (
        "succeeded_incomplete", 1, "stage run 22", "report",
        ["UPDATE stage_run SET outputs = NULL WHERE id = 22"],
    ),
    (
        "failed_without_reason", 1, "stage run 23", "error_class = 'ContractError'",
        ["UPDATE stage_run SET state = 'failed', error_class = 'E' WHERE id = 23"],
    ),
    (
        "run_of_nothing", 1, "stage run 1", "mediaweave submit",
        ["UPDATE stage_run SET job_id = NULL WHERE id = 1"],
    ),
    (
        "waiting_for_ever", 1, "stage run 23", "not_before = CURRENT_TIMESTAMP",
        ["UPDATE stage_run SET state = 'waiting' WHERE id = 23"],
    ),
    (
        "held_by_cancelled_job", 1, "stage run 23", "SET state = 'cancelled'",
        [QUEUE_CAPTION, f"UPDATE job SET state = 'cancelled', cancelled_at = '{PAST}'"],
    ),
    (
        "lease_expired", 1, "stage run 23", "mediaweave dispatcher",
        [
            ("UPDATE stage_run SET state = 'running', lease_token = 't', lease_owner = 'h/1', "
            f"lease_expires_at = '{PAST}' WHERE id = 23")
        ],
    ),
    (
        "waiting_overdue", 1, "stage run 23", "mediaweave dispatcher",
        [f"UPDATE stage_run SET state = 'waiting', not_before = '{PAST}' WHERE id = 23"],
    ),
    (
        "published_unclaimed", 2, "stage run 13", "another broker",
        [
            OPEN_JOB,
            f"UPDATE stage_run SET state = 'queued', published_at = '{PAST}' WHERE id = 13",
            ("UPDATE stage_run SET state = 'queued', published_at = '2999-01-01 00:00:00', "
            "republished = 5 WHERE id = 23"),
        ],
    ),
    (
        "queue_without_worker", 1, "queue io", "mediaweave worker --queues io",
        [OPEN_JOB, QUEUE_CAPTION, WORKER],
    ),
    (
        "unfinished_run", 1, "stage run 23", "mediaweave worker",
        [QUEUE_CAPTION],
    ),
    (
        "stuck_item", 1, "job 1 location 2", "mediaweave jobs cancel 1",
        [OPEN_JOB, OPEN_ITEM],
    ),
    (
        "held_by_paused_job",
        1,
        "job 2 location 2",
        "jobs list --state paused",
        [
            OPEN_JOB,
            OPEN_ITEM,
            QUEUE_CAPTION,
            *second_job(),
            f"UPDATE job SET paused_at = '{PAST}' WHERE id = 1",
        ],
    ),
    (
        "item_of_closed_job", 1, "job 1 location 2", "WHERE job_id = 1",
        [OPEN_ITEM],
    ),
    (
        "item_without_outcome", 2, "job 1 location 1", "job 1",
        [
            "UPDATE job_item SET asset_id = NULL WHERE location_id = 1",
            "UPDATE job_item SET state = 'failed' WHERE location_id = 2",
        ],
    ),
    (
        "item_failed_without_failure", 1, "job 1 location 2", "job 1",
        [FAILED_ITEM],
    ),
    ("unfinished_item", 1, "job 1 location 2", "mediaweave jobs show 1", [OPEN_ITEM]),
    (
        "job_not_listed", 1, "job 1", "mediaweave jobs cancel 1",
        ["UPDATE job SET state = 'expanding', finished_at = NULL"],
    ),
    ("job_not_closed", 1, "job 1", "mediaweave jobs cancel 1", [OPEN_JOB]),
    ("job_end_unknown", 1, "job 1", "report", ["UPDATE job SET finished_at = NULL"]),
    ("job_state_wrong", 1, "job 1", "mediaweave jobs show 1", ["UPDATE job SET state = 'failed'"]),
    (
        "cancel_unfinished", 1, "job 1", "mediaweave jobs cancel 1",
        [OPEN_JOB, f"UPDATE job SET cancelled_at = '{PAST}'"],
    ),
    ("unfinished_job", 1, "job 1", "mediaweave jobs show 1", [OPEN_JOB]),
    (
        "event_unsent", 1, "event 7", "error_text FROM outbox WHERE id IN (7)",
        [
            f"INSERT INTO outbox (id, topic, body, created_at) VALUES (7, 't', '{{}}', '{PAST}')",
            ("INSERT INTO outbox (id, topic, body, created_at, sent_at) "
            f"VALUES (8, 't', '{{}}', '{PAST}', '{PAST}')"),
        ],
    ),
    (
        "schedule_overdue", 1, "schedule nightly", "mediaweave dispatcher",
        [
            ("INSERT INTO schedule (id, name, cron, time_zone, message, enabled, next_fire_at) "
            f"VALUES (1, 'nightly', '0 1 * * *', 'UTC', '{{}}', true, '{PAST}'), "
            f"(2, 'off', '0 1 * * *', 'UTC', '{{}}', false, '{PAST}')")
        ],
    ),
    (
        "head_of_wrong_run", 2, "asset 2 stage fuse", "DELETE FROM head WHERE asset_id = 2",
        [
            "UPDATE stage_run SET state = 'cancelled' WHERE id = 23",
            "UPDATE head SET stage_run_id = 12 WHERE stage_run_id = 22",
        ],
    ),
    (
        "head_missing", 1, "asset 2 stage caption", "heads are set",
        ["DELETE FROM head WHERE stage_run_id = 23"],
    ),
    (
        "done_without_results", 1, "job 1 location 2", "job 1",
        ["DELETE FROM head WHERE asset_id = 2"],
    ),
    (
        "rows_of_unfinished_run", 2, "stage run 13", "report",
        ["UPDATE stage_run SET state = 'cancelled' WHERE id IN (13, 22)"],
    ),
    (
        "rows_of_other_asset", 1, "stage run 22", "report",
        ["UPDATE tag SET asset_id = 1 WHERE asset_id = 2"],
    ),
    (
        "input_not_succeeded", 1, "stage run 23", "report",
        ["UPDATE stage_run SET state = 'cancelled' WHERE id = 22"],
    ),
    (
        "input_changed", 1, "stage run 22", "report",
        ["""UPDATE stage_run SET outputs = '{"shots": "others"}' WHERE id = 21"""],
    ),
]  # fmt: skip


def test_every_rule_is_provoked_here() -> None:
    assert {case[0] for case in CASES} == {rule.name for rule in RULES}
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_every_rule_is_explained_to_the_operator() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    sections = page.split("### ")
    for rule in RULES:
        section = next(part for part in sections if f"`{rule.name}`" in part)
        wanted = "Rules: `wrong`" if rule.severity == "broken" else "Rules: `note`"
        assert rule.only_settled or section.startswith(wanted), rule.name


@pytest.mark.parametrize(
    ("name", "count", "example", "advice", "statements"), CASES, ids=[case[0] for case in CASES]
)
def test_what_is_broken_is_found_with_what_to_do(
    finished: Database,
    name: str,
    count: int,
    example: str,
    advice: str,
    statements: list[str],
) -> None:
    change(finished, *statements)
    rule = next(rule for rule in RULES if rule.name == name)
    found = {violation.name: violation for violation in look(finished, settled=True)}
    violation = found[name]
    assert violation.count == count
    assert example in violation.examples
    assert violation.text.startswith(f"{rule.wrong}: {count} (")
    assert example in violation.text
    assert advice in violation.advice
    assert violation.severity == rule.severity
    assert (name in {violation.name for violation in look(finished)}) != rule.only_settled


def test_what_is_under_way_breaks_no_rule(finished: Database) -> None:
    """Every state that work passes through; only a settled database must not show it."""
    change(
        finished,
        OPEN_JOB,
        OPEN_ITEM,
        QUEUE_CAPTION,
        *UNDO_CAPTION,
        "UPDATE stage_run SET outputs = NULL, attempt = 0, published_at = NULL WHERE id = 23",
        WORKER.replace("device,cpu", "io").replace(PAST, "2999-01-01 00:00:00"),
    )
    assert look(finished) == []
    for steps in (
        ["UPDATE stage_run SET published_at = '2999-01-01 00:00:00' WHERE id = 23"],
        [
            (
                "UPDATE stage_run SET state = 'running', attempt = 3, lease_token = 't', "
                "lease_owner = 'h/1', lease_expires_at = '2999-01-01 00:00:00' WHERE id = 23"
            )
        ],
        [
            (
                "UPDATE stage_run SET state = 'waiting', attempt = 1, lease_token = NULL, "
                "lease_owner = NULL, lease_expires_at = NULL, not_before = '2999-01-01 00:00:00' "
                "WHERE id = 23"
            )
        ],
    ):
        change(finished, *steps)
        assert look(finished) == []
    assert {violation.name for violation in look(finished, settled=True)} == {
        "unfinished_run",
        "unfinished_item",
        "unfinished_job",
    }


def test_an_item_that_waits_for_its_ingest_is_not_stuck(finished: Database) -> None:
    change(
        finished,
        OPEN_JOB,
        "UPDATE job_item SET state = 'pending', asset_id = NULL WHERE location_id = 2",
        "UPDATE stage_run SET state = 'waiting', not_before = '2999-01-01 00:00:00' WHERE id = 20",
    )
    assert look(finished) == []
    change(finished, "UPDATE stage_run SET state = 'cancelled' WHERE id = 20")
    assert [violation.name for violation in look(finished)] == ["stuck_item"]


def test_work_of_a_job_that_was_cancelled_leaves_an_item_stuck(finished: Database) -> None:
    change(finished, OPEN_JOB, OPEN_ITEM, QUEUE_CAPTION, *UNDO_CAPTION, *second_job())
    change(finished, "UPDATE stage_run SET created_at = '2999-01-01 00:00:00'")
    assert look(finished) == []
    change(
        finished,
        f"UPDATE job SET state = 'cancelled', cancelled_at = '{PAST}', finished_at = '{PAST}' "
        "WHERE id = 1",
        "UPDATE job_item SET state = 'cancelled' WHERE job_id = 1",
    )
    found = {violation.name: violation.examples for violation in look(finished)}
    assert found == {
        "stuck_item": ("job 2 location 2",),
        "held_by_cancelled_job": ("stage run 23",),
    }
    change(finished, "UPDATE stage_run SET job_id = 2 WHERE id = 23")
    assert look(finished) == []


def test_a_failure_that_a_later_job_tries_again_is_no_contradiction(finished: Database) -> None:
    change(
        finished,
        "UPDATE job SET state = 'failed' WHERE id = 1",
        FAILED_ITEM,
        "UPDATE stage_run SET state = 'failed', error_class = 'E', error_text = 't', "
        "outputs = NULL WHERE id = 23",
        *UNDO_CAPTION,
    )
    assert look(finished, settled=True) == []
    change(
        finished,
        *second_job(),
        "UPDATE stage_run SET state = 'queued', job_id = 2, attempt = 0, "
        "created_at = '2999-01-01 00:00:00' WHERE id = 23",
    )
    assert look(finished) == []


def test_results_of_a_cancelled_job_need_not_be_shown(finished: Database) -> None:
    """What was at work when a later job was cancelled ends, for nobody."""
    change(
        finished,
        *second_job("cancelled", finished_at=f"'{PAST}'", cancelled_at=f"'{PAST}'"),
        "UPDATE job_item SET state = 'cancelled' WHERE job_id = 2",
        "DELETE FROM head WHERE stage_run_id = 23",
        "UPDATE stage_run SET job_id = 2 WHERE id = 23",
    )
    assert look(finished, settled=True) == []


def test_counts_stop_where_counting_costs_and_examples_are_few(database: Database) -> None:
    finish_job(database, assets=1100)
    change(database, OPEN_JOB, "UPDATE job_item SET state = 'running' WHERE location_id > 1")
    found = {violation.name: violation for violation in look(database, settled=True)}
    assert found["stuck_item"].count == 1000
    assert "at least 1000 (" in found["stuck_item"].text
    assert len(found["stuck_item"].examples) == 5
    assert found["unfinished_item"].count == 1099
    assert found["unfinished_item"].text.endswith(", …)")


def test_limits_are_those_of_the_settings(finished: Database) -> None:
    settings = Settings(max_attempts=5, lease_seconds=7, republish_seconds=11)
    limits = Limits.of(settings)
    assert limits == Limits(max_attempts=5, lease_seconds=7, republish_seconds=11)
    assert Limits.of(Settings()) == Limits()
    change(
        finished,
        "UPDATE stage_run SET attempt = 5, finished_at = '2999-01-01 00:00:00' WHERE id = 23",
    )
    with finished.reading() as connection:
        assert check_invariants(connection, limits=limits) == []
        (violation,) = check_invariants(connection)
    assert violation.name == "too_many_attempts"


def test_a_large_database_is_not_looked_through_again_and_again(database: Database) -> None:
    finish_job(database, assets=12_500)  # 50,001 stage runs
    for statistics in ("SELECT 1", "ANALYZE"):
        change(database, statistics)
        if statistics == "SELECT 1" and not database.is_sqlite:
            continue  # PostgreSQL analyzes by itself, SQLite never does
        with recorded(database) as sent, database.reading() as connection:
            assert check_invariants(connection, settled=True) == []
        queries = [(sql, values) for sql, values in sent if "FROM" in sql]
        assert len(queries) >= len([rule for rule in RULES if rule.table is None])
        for sql, values in queries:
            assert nested_scans(database, sql, values) == [], sql


def test_a_nested_scan_would_be_seen(database: Database) -> None:
    finish_job(database, assets=5_000)
    change(database, "ANALYZE")
    for sql in (
        "SELECT a.id FROM stage_run a JOIN stage_run b ON b.attempt > a.attempt",
        (
            "SELECT id FROM asset a WHERE EXISTS "
            "(SELECT 1 FROM stage_run r WHERE r.attempt > a.size_bytes)"
        ),
    ):
        assert nested_scans(database, sql, ()) != []
