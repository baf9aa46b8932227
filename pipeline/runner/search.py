"""Search: shots by the words in them, and by what they are about."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import select, text

from pipeline.db.results import vector_of
from pipeline.plan.profiles import profile_named
from pipeline.runner.runtime import Runtime
from schemas.tables import embedding, head

#: Less alike than this (cosine) is noise, measured on unrelated sentences.
MIN_SIMILARITY = 0.2
#: Vectors compared at a time: 64 MB of float32 at 384 dimensions.
CHUNK = 40_000


def search(runtime: Runtime, query: str, *, limit: int) -> list[dict[str, Any]]:
    """The best shots first. ``score``: cosine similarity of meaning, raised above all that lack
    the words where a cue or tag of the shot has them; ``match`` says which of the two it was.
    """
    by_shot: dict[tuple[int, int], dict[str, Any]] = {}
    for hit in [*_by_meaning(runtime, query, limit), *_by_words(runtime, query, limit)]:
        key = (hit["asset_id"], hit["start_ms"])
        known = by_shot.get(key)
        if known is None:
            by_shot[key] = hit
        else:
            known["score"] = round(known["score"] + hit["score"], 3)
            known["match"] = f"{known['match']}, {hit['match']}"
    best = sorted(by_shot.values(), key=lambda hit: (-hit["score"], hit["uri"], hit["start_ms"]))
    return best[:limit]


def _by_words(runtime: Runtime, query: str, limit: int) -> list[dict[str, Any]]:
    pattern = (
        "%" + query.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    )
    found = text(
        """
        SELECT s.asset_id, s.uri, s.shot_index, s.start_ms, s.end_ms,
               MIN(c.origin || ': ' || c.text) AS "match"
        FROM v_cues c
        JOIN v_shots s ON s.asset_id = c.asset_id
         AND (c.start_ms < s.end_ms AND s.start_ms < c.end_ms
              OR (s.start_ms = s.end_ms AND c.start_ms = s.start_ms))
        WHERE LOWER(c.text) LIKE :pattern ESCAPE '\\'
        GROUP BY s.asset_id, s.uri, s.shot_index, s.start_ms, s.end_ms
        UNION ALL
        SELECT t.asset_id, t.uri, t.shot_index, t.start_ms, t.end_ms, 'tag: ' || t.label
        FROM v_tags t
        WHERE LOWER(t.label) = :query
        LIMIT :count
        """
    )
    values = {"pattern": pattern, "query": query.lower(), "count": limit}
    with runtime.database.reading() as connection:
        rows = connection.execute(found, values).mappings()
        return [_hit(row, score=1.0, match=row["match"]) for row in rows]


def _by_meaning(runtime: Runtime, query: str, limit: int) -> list[dict[str, Any]]:
    profile = profile_named(runtime.settings.profile, runtime.settings)
    name = profile.models["text"]
    model: Any = runtime.models.model(name)
    (wanted,) = runtime.models.submit(name, [query])
    nearest: list[tuple[float, int, int]] = []
    vectors = (
        select(embedding.c.asset_id, embedding.c.shot_index, embedding.c.vector)
        .join(head, head.c.stage_run_id == embedding.c.stage_run_id)
        .where(embedding.c.space == model.space)
    )
    with runtime.database.streaming() as connection:
        result = connection.execution_options(yield_per=CHUNK).execute(vectors)
        for rows in result.partitions(CHUNK):
            scores = np.stack([vector_of(row.vector) for row in rows]) @ wanted
            for position in np.argsort(-scores)[:limit]:
                row = rows[position]
                nearest.append((float(scores[position]), row.asset_id, row.shot_index))
            nearest = sorted(nearest, reverse=True)[:limit]
        shots = [
            (score, _shot(connection, asset_id, shot_index))
            for score, asset_id, shot_index in nearest
            if score >= MIN_SIMILARITY
        ]
    return [_hit(shot, score=score, match="meaning") for score, shot in shots if shot is not None]


def _shot(connection: Any, asset_id: int, shot_index: int) -> Mapping[str, Any] | None:
    """``None``: the asset was split anew, and its meaning not yet worked out again."""
    query = text("SELECT * FROM v_shots WHERE asset_id = :asset AND shot_index = :shot")
    row: Mapping[str, Any] | None = (
        connection.execute(query, {"asset": asset_id, "shot": shot_index}).mappings().first()
    )
    return row


def _hit(row: Mapping[Any, Any], *, score: float, match: str) -> dict[str, Any]:
    return {
        "score": round(score, 3),
        "asset_id": row["asset_id"],
        "uri": row["uri"],
        "shot_index": row["shot_index"],
        "start_ms": row["start_ms"],
        "end_ms": row["end_ms"],
        "match": match,
    }
