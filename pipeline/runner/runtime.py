"""Everything one process needs to do the work, built once from the settings."""

from pipeline.config import Settings
from pipeline.db.engine import Database, open_database
from pipeline.db.jobs import PlanCache
from pipeline.media import MediaLimits
from pipeline.models.pool import ModelPool
from pipeline.plan.profiles import model_entry
from pipeline.runner.bugs import Bugs
from pipeline.runner.fetching import MediaFetcher
from pipeline.runner.pace import Pace
from pipeline.runner.turns import Turns
from pipeline.storage.artifacts import ArtifactStore
from pipeline.storage.s3 import S3Settings
from pipeline.storage.scratch import ScratchSpace
from pipeline.storage.stores import Stores


class Runtime:
    """Database, stores and models of one process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database: Database = open_database(settings.database_url)
        self.stores = Stores(S3Settings(**settings.s3.model_dump()))
        self.artifacts = ArtifactStore(
            settings.artifacts_uri, self.stores, cache_dir=settings.scratch_path / "artifacts"
        )
        self.scratch = ScratchSpace(settings.scratch_path / "media", settings.scratch_max_bytes)
        self.fetcher = MediaFetcher(self.stores, self.scratch)
        self.models = ModelPool(
            device=settings.device,
            lookup=lambda name: model_entry(name, settings),
            memory_bytes=settings.model_memory_bytes,
            batch_wait_seconds=settings.batch_wait_seconds,
        )
        self.plans = PlanCache()
        self.turns = Turns()
        self.bugs = Bugs()
        self.pace = Pace()
        media = settings.media
        self.limits = MediaLimits(
            wall_seconds=media.wall_seconds,
            cpu_seconds=media.cpu_seconds,
            memory_bytes=media.memory_bytes,
            max_pixels=media.max_pixels,
            max_duration_seconds=media.max_duration_seconds,
            hardware_decoding=media.hardware_decoding,
        )

    def close(self) -> None:
        self.models.close()
        self.database.close()
