"""Rules about jobs, their items, and what waits to be sent or to fire."""

from pipeline.db.rule import REPORT, Rule
from schemas.tables import job, job_item

ITEMS = (
    Rule(
        name="stuck_item",
        sql="""
            SELECT i.job_id AS job, i.location_id AS location
            FROM job j JOIN job_item i ON i.job_id = j.id
            WHERE j.state = 'running' AND j.cancelled_at IS NULL
              AND i.state IN ('pending', 'running')
              AND NOT EXISTS (
                    SELECT 1 FROM stage_run r LEFT JOIN job k ON k.id = r.job_id
                    WHERE r.asset_id = i.asset_id AND r.stage <> 'ingest'
                      AND (r.state = 'running'
                           OR (r.state IN ('waiting', 'queued') AND k.state <> 'cancelled')))
              AND NOT EXISTS (
                    SELECT 1 FROM stage_run r LEFT JOIN job k ON k.id = r.job_id
                    WHERE r.id = i.ingest_run_id
                      AND (r.state = 'running'
                           OR (r.state IN ('waiting', 'queued') AND k.state <> 'cancelled')))
        """,
        wrong="Items of running jobs wait, and nothing is queued, waiting or running for them",
        advice="`mediaweave jobs cancel {id}`, and `mediaweave submit` its sources again: what is "
        "done is not repeated",
    ),
    Rule(
        name="held_by_paused_job",
        severity="late",
        sql="""
            SELECT i.job_id AS job, i.location_id AS location
            FROM job j JOIN job_item i ON i.job_id = j.id
            WHERE j.state = 'running' AND j.cancelled_at IS NULL AND j.paused_at IS NULL
              AND i.state IN ('pending', 'running')
              AND NOT EXISTS (
                    SELECT 1 FROM stage_run r JOIN job k ON k.id = r.job_id
                    WHERE r.asset_id = i.asset_id AND r.stage <> 'ingest'
                      AND (r.state = 'running'
                           OR (r.state IN ('waiting', 'queued') AND k.paused_at IS NULL)))
              AND NOT EXISTS (
                    SELECT 1 FROM stage_run r JOIN job k ON k.id = r.job_id
                    WHERE r.id = i.ingest_run_id
                      AND (r.state = 'running'
                           OR (r.state IN ('waiting', 'queued') AND k.paused_at IS NULL)))
              AND (EXISTS (
                    SELECT 1 FROM stage_run r JOIN job k ON k.id = r.job_id
                    WHERE r.asset_id = i.asset_id AND r.stage <> 'ingest'
                      AND r.state IN ('waiting', 'queued') AND k.paused_at IS NOT NULL)
                   OR EXISTS (
                    SELECT 1 FROM stage_run r JOIN job k ON k.id = r.job_id
                    WHERE r.id = i.ingest_run_id
                      AND r.state IN ('waiting', 'queued') AND k.paused_at IS NOT NULL))
        """,
        wrong="Items wait for work that is counted as that of another job, which is paused",
        advice="run again in a minute: a dispatcher hands such work over; if this stays, resume "
        "the paused job (`mediaweave jobs list --state paused`)",
    ),
    Rule(
        name="item_of_closed_job",
        sql="""
            SELECT i.job_id AS job, i.location_id AS location
            FROM job j JOIN job_item i ON i.job_id = j.id
            WHERE j.state IN ('done', 'failed', 'cancelled') AND i.state IN ('pending', 'running')
        """,
        wrong="Items are open although their job has ended",
        advice="UPDATE job_item SET state = 'cancelled' WHERE job_id = {id} AND state IN "
        "('pending', 'running'); then `mediaweave submit` its sources again",
    ),
    Rule(
        name="item_without_outcome",
        table=job_item,
        sql="""
            (state = 'done' AND asset_id IS NULL)
            OR (state = 'failed' AND (failed_run_id IS NULL OR error_class IS NULL))
        """,
        wrong="Items are done without an asset, or failed without a stage run and a reason",
        advice="`mediaweave submit` the sources of job {id} again",
    ),
    Rule(
        name="item_failed_without_failure",
        sql="""
            SELECT i.job_id AS job, i.location_id AS location
            FROM job_item i JOIN stage_run r ON r.id = i.failed_run_id
            WHERE i.state = 'failed' AND r.job_id = i.job_id AND r.state <> 'failed'
        """,
        wrong="Items have failed with a stage run of their job that has not failed",
        advice="`mediaweave submit` the sources of job {id} again",
    ),
    Rule(
        name="unfinished_item",
        table=job_item,
        only_settled=True,
        sql="state IN ('pending', 'running')",
        wrong="Items are neither done, failed nor cancelled",
        advice="`mediaweave jobs show {id}` says what they wait for",
    ),
)

JOBS = (
    Rule(
        name="job_not_listed",
        sql="""
            SELECT j.id AS job FROM job j
            WHERE j.state = 'expanding' AND j.cancelled_at IS NULL
              AND NOT EXISTS (
                    SELECT 1 FROM stage_run r
                    WHERE r.job_id = j.id AND r.stage = 'expand'
                      AND r.state IN ('waiting', 'queued', 'running'))
        """,
        wrong="The sources of jobs are still to be listed, and nobody will",
        advice="`mediaweave jobs cancel {id}`, and submit it again",
    ),
    Rule(
        name="job_not_closed",
        sql="""
            SELECT j.id AS job FROM job j
            WHERE j.state = 'running' AND j.cancelled_at IS NULL
              AND NOT EXISTS (
                    SELECT 1 FROM job_item i
                    WHERE i.job_id = j.id AND i.state IN ('pending', 'running'))
        """,
        wrong="Jobs are running although all their items have ended",
        advice="a dispatcher closes it within seconds; else `mediaweave jobs cancel {id}` does, "
        "and its results stay",
    ),
    Rule(
        name="job_end_unknown",
        table=job,
        sql="""
            (state IN ('done', 'failed') AND finished_at IS NULL)
            OR (state IN ('expanding', 'running') AND finished_at IS NOT NULL)
        """,
        wrong="Jobs have ended without a time, or have a time and not ended",
        advice=REPORT,
    ),
    Rule(
        name="job_state_wrong",
        sql="""
            SELECT j.id AS job FROM job j
            WHERE (j.state = 'done'
                   AND EXISTS (SELECT 1 FROM job_item i
                               WHERE i.job_id = j.id AND i.state = 'failed'))
               OR (j.state = 'failed' AND j.error_text IS NULL
                   AND NOT EXISTS (SELECT 1 FROM job_item i
                                   WHERE i.job_id = j.id AND i.state = 'failed'))
        """,
        wrong="Jobs are done with failed items, or failed without a reason",
        advice="`mediaweave jobs show {id}` lists its items; submit its sources again",
    ),
    Rule(
        name="cancel_unfinished",
        severity="late",
        sql="""
            SELECT id AS job FROM job
            WHERE state IN ('expanding', 'running') AND cancelled_at IS NOT NULL
              AND cancelled_at < :minutes_ago
        """,
        wrong="Jobs were cancelled minutes ago, and their items are still open",
        advice="a dispatcher completes it; if none is at work, `mediaweave jobs cancel {id}` does",
    ),
    Rule(
        name="unfinished_job",
        table=job,
        only_settled=True,
        sql="state IN ('expanding', 'running')",
        wrong="Jobs are not closed",
        advice="`mediaweave jobs show {id}` says what they wait for",
    ),
)

OPERATIONS = (
    Rule(
        name="event_unsent",
        severity="late",
        sql="""
            SELECT id AS event FROM outbox
            WHERE sent_at IS NULL AND failed_at IS NULL
              AND COALESCE(not_before, created_at) < :hour_ago
        """,
        wrong="Events have waited for an hour to be sent",
        advice="start `mediaweave worker` or `mediaweave dispatcher`; if one is at work, SELECT "
        "error_text FROM outbox WHERE id IN ({ids}) says what keeps it",
    ),
    Rule(
        name="schedule_overdue",
        severity="late",
        sql="""
            SELECT name AS schedule FROM schedule WHERE enabled AND next_fire_at < :minutes_ago
        """,
        wrong="Schedules did not fire when they should have",
        advice="no scheduler is at work: start `mediaweave worker` or `mediaweave dispatcher`",
    ),
)

RULES = (*ITEMS, *JOBS, *OPERATIONS)
