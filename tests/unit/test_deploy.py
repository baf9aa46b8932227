"""What operators copy is valid."""

from pathlib import Path

import pytest

from pipeline.config import load_settings
from pipeline.plan.profiles import resolve_plan
from schemas.messages import JobMessage

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_example_settings_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mediaweave.toml").write_text((DEPLOY / "mediaweave.toml").read_text())
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.artifacts_uri == "s3://mediaweave-artifacts/v1"
    plan = resolve_plan(JobMessage(sources=("s3://bucket/prefix",)), settings)
    assert plan.profile == "archive"
    assert plan.stages["split"].parameters["min_shot_ms"] == 500
    assert plan.stages["fuse"].parameters["tag_threshold"] == 0.3
