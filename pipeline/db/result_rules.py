"""Rules about what was made: heads, the rows of results, and what they were made from."""

from pipeline.db.rule import REPORT, Rule

RULES = (
    Rule(
        name="head_of_wrong_run",
        sql="""
            SELECT h.asset_id AS asset, h.stage AS stage
            FROM head h JOIN stage_run r ON r.id = h.stage_run_id
            WHERE r.state <> 'succeeded' OR r.asset_id IS NULL OR r.asset_id <> h.asset_id
               OR r.stage <> h.stage
        """,
        wrong="Analysts are shown stage runs that have not succeeded, or are of something else",
        advice="hide them: DELETE FROM head WHERE asset_id = {id} and that stage; then submit the "
        "asset's source again, which shows what is right",
    ),
    Rule(
        name="head_missing",
        # A later stage of a job that was cancelled is nobody's to show.
        sql="""
            SELECT DISTINCT r.asset_id AS asset, r.stage AS stage
            FROM stage_run r
            WHERE r.state = 'succeeded' AND r.stage NOT IN ('expand', 'ingest')
              AND NOT EXISTS (
                    SELECT 1 FROM head h WHERE h.asset_id = r.asset_id AND h.stage = r.stage)
              AND EXISTS (
                    SELECT 1 FROM job_item i
                    WHERE i.asset_id = r.asset_id AND i.state = 'done'
                      AND i.job_id >= COALESCE(r.job_id, 0))
        """,
        wrong="Finished assets have stages of which nothing is shown to analysts",
        advice="submit the asset's source again: nothing is repeated, and the heads are set",
    ),
    Rule(
        name="done_without_results",
        sql="""
            SELECT i.job_id AS job, i.location_id AS location
            FROM job_item i
            WHERE i.state = 'done'
              AND NOT EXISTS (SELECT 1 FROM head h WHERE h.asset_id = i.asset_id)
        """,
        wrong="Items are done and nothing of their asset is shown to analysts",
        advice="submit the sources of job {id} again",
    ),
    Rule(
        name="rows_of_unfinished_run",
        # The subqueries end at their first row: each is one look into an index.
        sql="""
            SELECT r.id AS stage_run
            FROM stage_run r
            WHERE r.state <> 'succeeded' AND r.started_at IS NOT NULL
              AND COALESCE(
                    (SELECT 1 FROM shot x WHERE x.stage_run_id = r.id LIMIT 1),
                    (SELECT 1 FROM keyframe x WHERE x.stage_run_id = r.id LIMIT 1),
                    (SELECT 1 FROM stretch x WHERE x.stage_run_id = r.id LIMIT 1),
                    (SELECT 1 FROM sound x WHERE x.stage_run_id = r.id LIMIT 1),
                    (SELECT 1 FROM sound_event x WHERE x.stage_run_id = r.id LIMIT 1),
                    (SELECT 1 FROM cue_source x WHERE x.stage_run_id = r.id LIMIT 1),
                    (SELECT 1 FROM cue x WHERE x.stage_run_id = r.id LIMIT 1),
                    (SELECT 1 FROM tag x WHERE x.stage_run_id = r.id LIMIT 1),
                    (SELECT 1 FROM classification x WHERE x.stage_run_id = r.id LIMIT 1),
                    (SELECT 1 FROM caption x WHERE x.stage_run_id = r.id LIMIT 1),
                    (SELECT 1 FROM embedding x WHERE x.stage_run_id = r.id LIMIT 1),
                    (SELECT 1 FROM artifact x WHERE x.stage_run_id = r.id LIMIT 1)) IS NOT NULL
        """,
        wrong="Stage runs that have not succeeded have result rows",
        advice=REPORT,
    ),
    Rule(
        name="rows_of_other_asset",
        sql="""
            SELECT DISTINCT x.stage_run_id AS stage_run
            FROM (SELECT stage_run_id, asset_id FROM shot WHERE stage_run_id > :newest
                  UNION ALL
                  SELECT stage_run_id, asset_id FROM keyframe WHERE stage_run_id > :newest
                  UNION ALL
                  SELECT stage_run_id, asset_id FROM stretch WHERE stage_run_id > :newest
                  UNION ALL
                  SELECT stage_run_id, asset_id FROM sound WHERE stage_run_id > :newest
                  UNION ALL
                  SELECT stage_run_id, asset_id FROM sound_event WHERE stage_run_id > :newest
                  UNION ALL
                  SELECT stage_run_id, asset_id FROM cue_source WHERE stage_run_id > :newest
                  UNION ALL
                  SELECT stage_run_id, asset_id FROM cue WHERE stage_run_id > :newest
                  UNION ALL
                  SELECT stage_run_id, asset_id FROM tag WHERE stage_run_id > :newest
                  UNION ALL
                  SELECT stage_run_id, asset_id FROM classification WHERE stage_run_id > :newest
                  UNION ALL
                  SELECT stage_run_id, asset_id FROM caption WHERE stage_run_id > :newest
                  UNION ALL
                  SELECT stage_run_id, asset_id FROM embedding WHERE stage_run_id > :newest) x
            JOIN stage_run r ON r.id = x.stage_run_id
            WHERE r.asset_id IS NULL OR r.asset_id <> x.asset_id
        """,
        wrong="Result rows name another asset than the stage run that made them",
        advice=REPORT,
    ),
    Rule(
        name="input_not_succeeded",
        sql="""
            SELECT DISTINCT p.stage_run_id AS stage_run
            FROM stage_run_input p
            JOIN stage_run r ON r.id = p.stage_run_id
            JOIN stage_run u ON u.id = p.input_run_id
            WHERE p.stage_run_id > :newest
              AND (u.state <> 'succeeded' OR u.asset_id IS NULL OR u.asset_id <> r.asset_id)
        """,
        wrong="Stage runs were made from runs that have not succeeded, or of another asset",
        advice=REPORT,
    ),
    Rule(
        name="input_changed",
        sql={
            "sqlite": """
                SELECT DISTINCT p.stage_run_id AS stage_run
                FROM stage_run_input p
                JOIN stage_run r ON r.id = p.stage_run_id
                JOIN stage_run u ON u.id = p.input_run_id
                JOIN json_each(r.inputs) e
                WHERE p.stage_run_id > :newest AND e.type = 'object'
                  AND json_extract(e.value, '$."' || u.stage || '"')
                      <> COALESCE(json_extract(u.outputs, '$."' || e.key || '"'), '')
            """,
            "postgresql": """
                SELECT DISTINCT p.stage_run_id AS stage_run
                FROM stage_run_input p
                JOIN stage_run r ON r.id = p.stage_run_id
                JOIN stage_run u ON u.id = p.input_run_id
                CROSS JOIN LATERAL jsonb_each(r.inputs) e
                WHERE p.stage_run_id > :newest AND jsonb_typeof(e.value) = 'object'
                  AND e.value ->> u.stage <> COALESCE(u.outputs ->> e.key, '')
            """,
        },
        wrong="Stage runs were made from outputs that their input runs do not have",
        advice=REPORT,
    ),
)
