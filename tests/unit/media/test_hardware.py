"""Decoding on a device that is not there: the reason is logged, the result is the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from media_factory import make_video

from pipeline.media import MediaLimits, SplitParams, SplitResult, hardware, probe_media, scan_media

Splitter = Callable[..., SplitResult]


@pytest.fixture
def pretended_device(monkeypatch: pytest.MonkeyPatch) -> None:
    if hardware.has_cuda():
        pytest.skip("this machine has a CUDA device: nothing is pretended")
    monkeypatch.setattr(hardware, "has_cuda", lambda: True)


def contents(result: SplitResult) -> tuple[object, ...]:
    return (
        result.shots, [keyframe.path.read_bytes() for keyframe in result.keyframes], result.sound,
        result.audio_path and result.audio_path.read_bytes(), result.notes,
    )  # fmt: skip


def test_splitting_goes_on_without_the_device(
    tmp_path: Path, split: Splitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = make_video(tmp_path / "film.mp4")
    plain = contents(split(film))
    monkeypatch.setattr(hardware, "has_cuda", lambda: True)
    with structlog.testing.capture_logs() as logs:
        result = split(film)
    assert contents(result) == plain
    (entry,) = logs
    assert entry["event"] == "decoded_without_device"
    assert entry["log_level"] == "warning"
    assert entry["reason"]


@pytest.mark.usefixtures("pretended_device")
def test_scanning_goes_on_without_the_device(
    tmp_path: Path, limits: MediaLimits, work_dir: Path
) -> None:
    film = make_video(tmp_path / "film.mp4")
    info = probe_media(film, work_dir=tmp_path, limits=limits).info
    with structlog.testing.capture_logs() as logs:
        scan = scan_media(
            film, info=info, params=SplitParams(), index=0, count=2, work_dir=work_dir,
            limits=limits,
        )  # fmt: skip
    assert scan.path.stat().st_size > 1000
    assert [entry["event"] for entry in logs] == ["decoded_without_device"]


@pytest.mark.usefixtures("pretended_device")
def test_a_device_is_not_tried_where_the_settings_forbid_it(
    tmp_path: Path, split: Splitter
) -> None:
    film = make_video(tmp_path / "film.mp4", frames_per_shot=(10,), sound=False)
    with structlog.testing.capture_logs() as logs:
        result = split(film, limits=MediaLimits(hardware_decoding=False))
    assert len(result.shots) == 1
    assert logs == []
