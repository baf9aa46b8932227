import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from stand_in_children import BeChild, children_running

from pipeline.media import (
    MediaLimits,
    SidecarFile,
    SplitParams,
    SplitResult,
    launcher,
    probe_media,
    split_media,
)

#: Far more than any test needs, far less than a hanging test run.
LIMITS = MediaLimits(cpu_seconds=60, wall_seconds=120, probe_seconds=60)

Splitter = Callable[..., SplitResult]


@pytest.fixture
def limits() -> MediaLimits:
    return LIMITS


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.fixture
def split(tmp_path: Path) -> Splitter:
    """Probe and split, in a fresh directory; checks that only what the result names is left."""

    def run(
        path: Path,
        *,
        params: SplitParams | None = None,
        sidecars: Sequence[SidecarFile] = (),
        limits: MediaLimits = LIMITS,
    ) -> SplitResult:
        work_dir = Path(tempfile.mkdtemp(dir=tmp_path))
        result = split_media(
            path,
            info=probe_media(path, work_dir=tmp_path, limits=limits).info,
            params=params or SplitParams(),
            sidecars=sidecars,
            work_dir=work_dir,
            limits=limits,
        )
        named = {keyframe.path for keyframe in result.keyframes}
        if result.audio_path is not None:
            named.add(result.audio_path)
        if result.cue_pictures_path is not None:
            named.add(result.cue_pictures_path)
        assert set(work_dir.iterdir()) == named
        return result

    return run


@pytest.fixture
def be_child(monkeypatch: pytest.MonkeyPatch) -> Iterator[BeChild]:
    """Have children run this command from now on."""
    with ExitStack() as stack:

        def be(command: Sequence[str]) -> None:
            stack.close()
            made = stack.enter_context(closing(children_running(command)))
            monkeypatch.setattr(launcher, "children", made)

        yield be
