"""Rules about stage runs: leases, attempts, and that somebody takes what is due."""

from pipeline.db.rule import REPORT, Rule
from schemas.tables import stage_run

RULES = (
    Rule(
        name="running_without_lease",
        table=stage_run,
        sql="""
            state = 'running'
            AND (lease_token IS NULL OR lease_owner IS NULL OR lease_expires_at IS NULL)
        """,
        wrong="Stage runs are running without a whole lease, so nobody would take them back",
        advice="queue them: UPDATE stage_run SET state = 'queued', lease_token = NULL, "
        "lease_owner = NULL, lease_expires_at = NULL, published_at = NULL WHERE id IN ({ids})",
    ),
    Rule(
        name="lease_without_running",
        table=stage_run,
        sql="""
            state <> 'running'
            AND (lease_token IS NOT NULL OR lease_owner IS NOT NULL
                 OR lease_expires_at IS NOT NULL)
        """,
        wrong="Stage runs that are not running have a lease",
        advice="take it away: UPDATE stage_run SET lease_token = NULL, lease_owner = NULL, "
        "lease_expires_at = NULL WHERE state <> 'running' AND id IN ({ids})",
    ),
    Rule(
        name="attempt_not_counted",
        table=stage_run,
        sql="attempt < 0 OR (attempt = 0 AND state IN ('running', 'succeeded', 'failed'))",
        wrong="Stage runs were worked on without an attempt being counted",
        advice=REPORT,
    ),
    Rule(
        name="too_many_attempts",
        table=stage_run,
        sql="""
            attempt > :max_attempts
            AND (state IN ('waiting', 'queued', 'running') OR finished_at > :day_ago)
        """,
        wrong="Stage runs were begun more often than max_attempts allows",
        advice="if max_attempts was lowered within a day this passes; else set it alike for all "
        "workers and dispatchers",
    ),
    Rule(
        name="succeeded_incomplete",
        table=stage_run,
        sql="""
            state = 'succeeded'
            AND (outputs IS NULL OR finished_at IS NULL
                 OR (asset_id IS NULL AND stage <> 'expand'))
        """,
        wrong="Stage runs have succeeded without outputs, an end or an asset",
        advice=REPORT,
    ),
    Rule(
        name="failed_without_reason",
        table=stage_run,
        sql="""
            state = 'failed'
            AND (error_class IS NULL OR error_text IS NULL OR finished_at IS NULL)
        """,
        wrong="Stage runs have failed and nothing says when or why",
        advice="UPDATE stage_run SET error_class = 'ContractError', error_text = 'unknown', "
        "finished_at = CURRENT_TIMESTAMP WHERE id IN ({ids}); then `mediaweave retry "
        "--error-class ContractError`",
    ),
    Rule(
        name="run_of_nothing",
        table=stage_run,
        sql="""
            (stage = 'expand' AND job_id IS NULL)
            OR (stage = 'ingest' AND location_id IS NULL)
            OR (stage NOT IN ('expand', 'ingest') AND asset_id IS NULL)
            OR (state IN ('waiting', 'queued', 'running') AND job_id IS NULL)
        """,
        wrong="Stage runs name no job, location or asset to work for, so nobody starts them",
        advice="end them: UPDATE stage_run SET state = 'cancelled', finished_at = "
        "CURRENT_TIMESTAMP WHERE state IN ('waiting', 'queued') AND id IN ({ids}); then "
        "`mediaweave submit` the sources again",
    ),
    Rule(
        name="waiting_for_ever",
        table=stage_run,
        sql="state = 'waiting' AND not_before IS NULL",
        wrong="Stage runs wait, and nothing says until when",
        advice="UPDATE stage_run SET not_before = CURRENT_TIMESTAMP WHERE id IN ({ids})",
    ),
    Rule(
        name="held_by_cancelled_job",
        sql="""
            SELECT r.id AS stage_run
            FROM job j JOIN stage_run r ON r.job_id = j.id
            WHERE j.state = 'cancelled' AND j.cancelled_at IS NOT NULL
              AND r.state IN ('waiting', 'queued')
        """,
        wrong="Stage runs are queued for a job that was cancelled, so nobody starts them",
        advice="UPDATE stage_run SET state = 'cancelled', published_at = NULL, finished_at = "
        "CURRENT_TIMESTAMP WHERE state IN ('waiting', 'queued') AND id IN ({ids})",
    ),
    Rule(
        name="lease_expired",
        severity="late",
        sql="""
            SELECT id AS stage_run FROM stage_run
            WHERE state = 'running' AND lease_expires_at < :lease_lost
        """,
        wrong="Stage runs of dead workers were not taken back",
        advice="no dispatcher is at work: start `mediaweave worker` or `mediaweave dispatcher`; "
        "it takes them back within 10 seconds",
    ),
    Rule(
        name="waiting_overdue",
        severity="late",
        sql="""
            SELECT id AS stage_run FROM stage_run
            WHERE state = 'waiting' AND not_before < :minutes_ago
        """,
        wrong="Stage runs wait although their pause was over minutes ago",
        advice="no dispatcher is at work: start `mediaweave worker` or `mediaweave dispatcher`; "
        "it queues them within 10 seconds",
    ),
    Rule(
        name="published_unclaimed",
        severity="late",
        sql="""
            SELECT r.id AS stage_run
            FROM stage_run r JOIN job j ON j.id = r.job_id
            WHERE r.state = 'queued' AND r.published_at IS NOT NULL
              AND ((r.republished = 0 AND r.published_at < :message_lost) OR r.republished >= 5)
              AND j.paused_at IS NULL AND j.cancelled_at IS NULL
        """,
        wrong="Stage runs were given to the broker long ago, and no worker took them",
        advice="what the broker lost is published again by itself; if this stays, the workers are "
        "all busy with long work, or take messages from another broker: compare their settings",
    ),
    Rule(
        name="queue_without_worker",
        severity="late",
        sql="""
            SELECT q.queue
            FROM (SELECT 'io' AS queue UNION ALL SELECT 'cpu' UNION ALL SELECT 'device') q
            WHERE NOT EXISTS (
                    SELECT 1 FROM worker w
                    WHERE w.seen_at > :minute_ago
                      AND ',' || w.queues || ',' LIKE '%,' || q.queue || ',%')
              AND EXISTS (
                    SELECT 1 FROM stage_run r JOIN job j ON j.id = r.job_id
                    WHERE r.queue = q.queue AND r.state = 'queued' AND r.published_at IS NULL
                      AND r.created_at < :minute_ago
                      AND j.paused_at IS NULL AND j.cancelled_at IS NULL
                    UNION ALL
                    SELECT 1 FROM stage_run r JOIN job j ON j.id = r.job_id
                    WHERE r.queue = q.queue AND r.state = 'queued' AND r.published_at IS NOT NULL
                      AND r.created_at < :minute_ago
                      AND j.paused_at IS NULL AND j.cancelled_at IS NULL)
        """,
        wrong="Work is queued, and no worker takes it",
        advice="start one: `mediaweave worker --queues {ids}`",
    ),
    Rule(
        name="unfinished_run",
        table=stage_run,
        only_settled=True,
        sql="state IN ('waiting', 'queued', 'running')",
        wrong="Stage runs are not finished",
        advice="start `mediaweave worker` and wait until it has nothing to do",
    ),
)
