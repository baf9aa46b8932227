"""The main job, run once by the command line; models that are loaded once."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import servers
from command import Cli
from jobs import FinishedJob, Process

from pipeline.config import Settings
from pipeline.models.pool import ModelPool
from pipeline.plan.profiles import model_entry
from workers.demo.media import PROFILES, DemoMedia


@pytest.fixture(scope="session")
def finished(
    s3: servers.S3Server, demo_media: DemoMedia, tmp_path_factory: pytest.TempPathFactory
) -> FinishedJob:
    """``mediaweave run`` on the demo's bucket on a real S3 server, with the user's own labels."""
    bucket = s3.create_bucket()
    for path in sorted(demo_media.bucket.rglob("*")):
        if path.is_file():
            s3.client.upload_file(
                str(path), bucket, "demo/" + path.relative_to(demo_media.bucket).as_posix()
            )
    cli = Cli(
        folder=tmp_path_factory.mktemp("main-job"),
        settings={
            "MEDIAWEAVE_S3__ENDPOINT_URL": s3.endpoint_url,
            "MEDIAWEAVE_PROFILES": json.dumps(PROFILES),
        },
    )
    source = f"s3://{bucket}/demo"
    first = cli("run", source, "--labels", "a cat, a machine, food", "--json")
    return FinishedJob(cli=cli, source=source, first=first)


@pytest.fixture(scope="session")
def models() -> Iterator[ModelPool]:
    """Loaded once for all tests of this process."""
    pool = ModelPool(device="cpu", lookup=lambda name: model_entry(name, Settings()))
    yield pool
    pool.close()


@pytest.fixture
def process(tmp_path: Path, models: ModelPool) -> Iterator[Process]:
    settings = Settings(data_dir=tmp_path / "data", retry_seconds=0, profiles=PROFILES)
    made = Process(settings, models)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path, demo_media: DemoMedia) -> Callable[..., Path]:
    """Makes a folder of copies of demo files: ``folder("films/film.mp4", …)``."""

    def make(*names: str) -> Path:
        target = tmp_path / "media"
        target.mkdir(exist_ok=True)
        for name in names:
            shutil.copyfile(demo_media.bucket / name, target / Path(name).name)
        return target

    return make
