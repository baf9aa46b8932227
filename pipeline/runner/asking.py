"""Asking a question about an asset: its keyframes and words go to the profile's model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from pipeline.db import queries, results
from pipeline.errors import ConfigurationError, ObjectNotFoundError
from pipeline.fusion.showing import keyframes_to_show, text_of_span
from pipeline.media import load_image
from pipeline.models.base import Answer, QuestionRequest
from pipeline.plan.profiles import model_entry, profile_named
from pipeline.runner.named_assets import assets_named
from pipeline.runner.runtime import Runtime
from schemas.records import Cue, Keyframe, Shot
from schemas.tables import head

#: Keyframes shown to a model that looks at several.
MAX_IMAGES = 8
MAX_QUESTION = 1000
#: Words this far from the time asked about go into the prompt, within the same shot.
NEAR_MS = 30_000

_STAGES_WITH_CUES = ("split", "speech", "ocr")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What is known of an asset, as the heads of its stages have it."""

    asset_id: int
    uri: str
    shots: Sequence[Shot]
    keyframes: Sequence[Keyframe]
    cues: Sequence[Cue]


def ask(runtime: Runtime, asset: str, question: str, *, at_ms: int | None) -> dict[str, Any]:
    """What the profile's model answers, with all that it was shown.

    ``asset``: an id, a uri or path, or a sha256 or its beginning. ``at_ms``: the shot at this time
    is shown, by its keyframes nearest to it; ``None``: keyframes spread over the asset. Nothing is
    stored.

    Raises:
        ConfigurationError: the profile has no model for questions; the question is empty or too
            long; there is no such asset, or several; it has no such time, or no keyframe there.
        ModelUnavailableError: the model cannot be loaded.
    """
    question = " ".join(question.split())
    if not question or len(question) > MAX_QUESTION:
        raise ConfigurationError(
            f"the question has {len(question)} characters: ask something, in up to {MAX_QUESTION}"
        )
    name = _model_name(runtime)
    with runtime.database.reading() as connection:
        content = _content(connection, asset)
    span, candidates = _candidates(content, at_ms)
    model: Any = runtime.models.model(name)
    count = min(MAX_IMAGES, model.max_images)
    if at_ms is not None:
        nearest = sorted(candidates, key=lambda keyframe: abs(keyframe.at_ms - at_ms))
        shown = sorted(nearest[:count], key=lambda keyframe: keyframe.at_ms)
    else:
        shown = keyframes_to_show(candidates, count)
    words = text_of_span(*span, content.cues)
    request = QuestionRequest(
        images=tuple(load_image(runtime.artifacts.local_path(k.sha256)) for k in shown),
        question=question,
        transcript=words.transcript,
        screen_text=words.screen_text,
    )
    answer: Answer = runtime.models.submit(name, [request])[0]
    return {
        "asset_id": content.asset_id,
        "uri": content.uri,
        "question": question,
        "answer": answer.text,
        "confidence": None if answer.confidence is None else round(answer.confidence, 3),
        "model": model.info.name,
        "model_revision": model.info.revision,
        "keyframes": [
            {
                "shot_index": keyframe.shot_index,
                "at_ms": keyframe.at_ms,
                "uri": runtime.artifacts.uri(keyframe.sha256),
            }
            for keyframe in shown
        ],
        "transcript": words.transcript,
        "screen_text": words.screen_text,
    }


def _model_name(runtime: Runtime) -> str:
    settings = runtime.settings
    name = profile_named(settings.profile, settings).models.get("question")
    if name is None:
        raise ConfigurationError(
            f"the profile {settings.profile!r} has no model that answers questions: use "
            '--profile hub, or name one in a profile of yours (models.question = "blip-vqa-base")'
        )
    task = model_entry(name, settings).info.task
    if task != "question":
        raise ConfigurationError(
            f"profile {settings.profile!r} names {name} for 'question': that takes a model for "
            f"question, {name} is one for {task}"
        )
    return name


def _content(connection: Connection, asset: str) -> _Content:
    found, uri = assets_named(connection, asset)
    if not found:
        tried = queries.failed_ingests(connection, uri)
        reason = (tried and tried[-1]["error_text"]) or "`mediaweave run` brings it there"
        raise ObjectNotFoundError(f"{asset} is not in the database: {reason}")
    if len(found) > 1:
        ids = ", ".join(map(str, found[:5]))
        raise ConfigurationError(f"{asset} means {len(found)} assets ({ids}): name one by its id")
    runs = {
        row.stage: row.stage_run_id
        for row in connection.execute(select(head).where(head.c.asset_id == found[0]))
    }
    places = results.locations_of(connection, found[0])
    uri = places[0].uri if places else f"asset {found[0]}"
    if "split" not in runs:
        raise ConfigurationError(f"{uri} has not been split yet: `mediaweave run` does it")
    return _Content(
        asset_id=found[0],
        uri=uri,
        shots=results.read_shots(connection, runs["split"]),
        keyframes=results.read_keyframes(connection, runs["split"]),
        cues=[
            cue
            for stage in _STAGES_WITH_CUES
            if stage in runs
            for cue in results.read_cues(connection, runs[stage])
        ],
    )


def _candidates(content: _Content, at_ms: int | None) -> tuple[tuple[int, int], Sequence[Keyframe]]:
    """The span asked about, and its keyframes."""
    if not content.keyframes:
        raise ConfigurationError(f"{content.uri} has no keyframes: there is nothing to look at")
    end_ms = content.shots[-1].end_ms
    if at_ms is None:
        return (0, end_ms), content.keyframes
    if at_ms > end_ms:
        raise ConfigurationError(
            f"{at_ms / 1000:.3f} s is beyond the end of {content.uri}, which lasts "
            f"{end_ms / 1000:.3f} s"
        )
    # The very end belongs to the last shot.
    shot = next((s for s in content.shots if s.start_ms <= at_ms < s.end_ms), content.shots[-1])
    keyframes = [k for k in content.keyframes if k.shot_index == shot.shot_index]
    if not keyframes:
        raise ConfigurationError(
            f"the shot of {content.uri} at {at_ms / 1000:.3f} s has no keyframe: ask about another "
            "time"
        )
    start_ms = max(shot.start_ms, at_ms - NEAR_MS)
    return (start_ms, min(shot.end_ms, at_ms + NEAR_MS)), keyframes
