"""The hub profile, end to end, on tiny checkpoints in local folders: random weights, real code."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobs import Process
from tiny_checkpoints import write_blip, write_sentence, write_siglip2
from tiny_sounds import WHISPER_SAYS, write_ast, write_whisper

from pipeline.config import ModelOptions, Settings
from pipeline.models.pool import ModelPool
from pipeline.plan.profiles import PROFILES, model_entry
from workers.demo.media import PROFILES as DEMO_PROFILES

WRITERS = {
    "vision": ("image-text", write_siglip2),
    "labels": ("image-text-labels", write_siglip2),
    "speech": ("speech", write_whisper),
    "sound": ("audio-classes", write_ast),
    "text": ("sentence", write_sentence),
    "caption": ("caption", write_blip),
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Process]:
    """A process whose hub models are the settings' own local folders, under the hub's names."""
    models = {}
    for role, (implementation, write) in WRITERS.items():
        folder = tmp_path / "models" / write.__name__
        if not folder.exists():
            folder.mkdir(parents=True)
            write(folder)
        models[PROFILES["hub"].models[role]] = ModelOptions(
            implementation=implementation,
            path=str(folder),
            licence="none",
            # Exporting takes seconds, and is tested elsewhere.
            options={"runtime": "torch"} if role in {"vision", "labels", "text"} else {},
        )
    settings = Settings(
        data_dir=tmp_path / "data", profile="hub", models=models, profiles=DEMO_PROFILES
    )
    pool = ModelPool(device="cpu", lookup=lambda name: model_entry(name, settings))
    process = Process(settings, pool)
    yield process
    process.close()
    pool.close()


def test_a_film_goes_through_all_hub_models(hub: Process, folder: Callable[..., Path]) -> None:
    film = folder("films/film.mp4")
    hub.run(str(film), labels=("cat", "rocket"))
    assert hub.sql("SELECT status FROM v_assets") == [{"status": "done"}]
    said = hub.sql("SELECT text, model FROM v_cues WHERE origin = 'speech'")
    assert said
    assert {row["model"] for row in said} == {"whisper-large-v3-turbo"}
    assert {row["text"] for row in said} == {words for words, _, _ in WHISPER_SAYS}
    captions = hub.sql("SELECT model, model_revision, text FROM v_captions")
    assert len(captions) == 5
    assert {row["model"] for row in captions} == {"blip-image-captioning-large"}
    used = hub.sql(
        "SELECT x.role, m.name FROM stage_run_model x JOIN model m ON m.id = x.model_id "
        "JOIN stage_run r ON r.id = x.stage_run_id WHERE r.stage = 'fuse' ORDER BY x.role"
    )
    assert {row["role"]: row["name"] for row in used} == {
        role: PROFILES["hub"].models[role] for role in ("labels", "text", "vision")
    }
    spaces = hub.sql("SELECT DISTINCT space FROM embedding")
    assert len(spaces) == 2, "the pictures' own space and the joint one"


def test_changed_weights_make_only_their_stage_stale(
    hub: Process, folder: Callable[..., Path], tmp_path: Path
) -> None:
    photo = folder("photos/lion.jpg")
    hub.run(str(photo))
    folder_of_blip = tmp_path / "models" / "write_blip"
    card = folder_of_blip / "generation_config.json"
    card.write_text(card.read_text().replace("{", "{ ", 1))
    newer = Process(
        hub.runtime.settings,
        ModelPool(device="cpu", lookup=lambda name: model_entry(name, hub.runtime.settings)),
    )
    assert newer.done_by(newer.run(str(photo))) == ["caption"]
    newer.runtime.models.close()
    newer.close()
