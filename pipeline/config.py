"""Settings: ``MEDIAWEAVE_*`` variables, then ``mediaweave.toml``, then the defaults below.

Built once at the entry point by :func:`load_settings` and passed on; nothing else reads the
environment.
"""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from pipeline.errors import ConfigurationError

EMBEDDED_BROKER = "memory://localhost/"


class S3Options(BaseModel):
    """Where the S3 store is; credentials come from the usual AWS chain, never from here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool | None = None
    connect_timeout_seconds: float = Field(5, gt=0)
    read_timeout_seconds: float = Field(30, gt=0)
    max_attempts: int = Field(4, ge=1)
    range_bytes: int = Field(16 << 20, ge=1 << 20)
    range_connections: int = Field(4, ge=1, le=64)


class MediaOptions(BaseModel):
    """Bounds on what one file may cost the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wall_seconds: int = Field(7200, gt=0)
    cpu_seconds: int = Field(3600, gt=0)
    #: A child's libraries reserve 400 MiB of it.
    memory_bytes: int = Field(2 << 30, ge=1 << 29)
    max_pixels: int = Field(100_000_000, gt=0)
    max_duration_seconds: int = Field(12 * 3600, gt=0)
    max_file_bytes: int = Field(100 << 30, gt=0)
    #: Whether a CUDA device decodes video where there is one.
    hardware_decoding: bool = True


class ModelOptions(BaseModel):
    """A model of the user's own, or another revision or copy of a known one of that name.

    ``implementation``: image-text, image-text-labels, caption, vlm-caption, question, vlm-question,
    speech, sentence, audio-classes, audio-text, audio-text-labels or fuser. ``path``: a folder, or
    a hub repository (which then needs its ``revision``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    implementation: str
    path: str
    revision: str | None = None
    licence: str = "unknown"
    options: dict[str, str | int | bool] = Field(default_factory=dict)


class ProfileOptions(BaseModel):
    """A profile: starts from ``extends`` and replaces models and parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    extends: str = "offline"
    models: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, dict[str, Any]] = Field(default_factory=dict)


class IntakeOptions(BaseModel):
    """Where ``mediaweave intake`` takes messages from; what is ``None`` is not listened to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Queue (RabbitMQ) or stream (Redis) of the broker with job messages.
    jobs_queue: str | None = "jobs"
    #: Queue, or stream, of the broker with the events of buckets.
    events_queue: str | None = None
    #: URLs of SQS queues, through the endpoint and credentials of the AWS chain.
    sqs_jobs_url: str | None = None
    sqs_events_url: str | None = None
    sqs_endpoint_url: str | None = None
    #: ``host:port`` to serve ``POST /v1/jobs`` on, and the tokens that clients may show.
    http_listen: str | None = None
    http_tokens: tuple[SecretStr, ...] = ()
    #: Longest message taken.
    max_message_bytes: int = Field(1 << 20, ge=1024)


class RuleOptions(BaseModel):
    """What happens with objects that appear in a bucket.

    ``sweep``: a cron expression; at these times the prefix is listed and what no event told of is
    submitted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket: str
    prefix: str = ""
    #: Ends of keys, in any case; empty: every extension of media.
    suffixes: tuple[str, ...] = ()
    profile: str | None = None
    priority: int = Field(0, ge=-100, le=100)
    labels: tuple[str, ...] | None = None
    sweep: str | None = None
    time_zone: str = "UTC"


class EventOptions(BaseModel):
    """What mediaweave tells the world."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: ``assets``: of every finished asset and job; ``jobs``: of jobs only; ``none``.
    level: Literal["none", "jobs", "assets"] = "assets"
    #: Topic exchange (RabbitMQ) or stream (Redis) of the broker.
    exchange: str = "mediaweave.events"
    #: Host names that jobs may name webhooks on; the first is no more trusted than the last.
    webhook_hosts: tuple[str, ...] = ()
    webhook_secret: SecretStr | None = None
    webhook_attempts: int = Field(8, ge=1)
    webhook_timeout_seconds: float = Field(10, gt=0)


class Settings(BaseSettings):
    """All settings of mediaweave. Field ``x`` is the variable ``MEDIAWEAVE_X``."""

    model_config = SettingsConfigDict(
        env_prefix="MEDIAWEAVE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data_dir: Path = Path("mediaweave-data")
    database: str | None = None
    artifacts: str | None = None
    broker: str = EMBEDDED_BROKER
    scratch_dir: Path | None = None
    scratch_max_bytes: int = Field(50 << 30, ge=0)

    profile: str = "offline"
    profiles: dict[str, ProfileOptions] = Field(default_factory=dict)
    models: dict[str, ModelOptions] = Field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    device: str = "cpu"
    #: Stage runs worked on at once by one process.
    concurrency: int = Field(default_factory=lambda: max(2, os.cpu_count() or 1), ge=1)
    threads_per_model: int = Field(1, ge=1)
    #: What the weights of the models of one process may take together, on its device; those unused
    #: for longest are unloaded for others. ``None``: no model is ever unloaded.
    model_memory_bytes: int | None = Field(None, ge=1)
    #: How long a batch that is not full waits for items of other assets.
    batch_wait_seconds: float = Field(0.005, ge=0, le=10)
    #: Where models keep what they derive from their weights; ``None``: the user's cache folder.
    cache_dir: Path | None = None
    #: Whether models that are not on this machine may be fetched from a hub.
    hub_downloads: bool = False

    lease_seconds: float = Field(60, gt=0)
    max_attempts: int = Field(3, ge=1)
    retry_seconds: float = Field(5, ge=0)
    #: A published message whose stage run nobody claimed in this time is published again; each
    #: further time after twice as long.
    republish_seconds: float = Field(300, gt=0)
    #: Messages kept in the broker per queue and worker slot; the rest waits in the database.
    queue_depth: int = Field(2, ge=1)
    #: How long a stopping worker lets running stages finish before it gives them back.
    shutdown_seconds: float = Field(10, ge=0)
    #: A stage run without any progress for so long is given up, and its process replaced.
    stall_seconds: float = Field(1800, gt=0)
    #: Resident memory at which a worker process is replaced; ``None``: no limit.
    worker_memory_bytes: int | None = Field(None, ge=1 << 28)

    s3: S3Options = S3Options()
    media: MediaOptions = MediaOptions()
    intake: IntakeOptions = IntakeOptions()
    events: EventOptions = EventOptions()
    rules: dict[str, RuleOptions] = Field(default_factory=dict)

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_dir.absolute() / 'mediaweave.db'}"

    @property
    def is_broker_embedded(self) -> bool:
        return self.broker.startswith("memory:")

    @property
    def artifacts_uri(self) -> str:
        return self.artifacts or str(self.data_dir.absolute() / "artifacts")

    @property
    def scratch_path(self) -> Path:
        return (self.scratch_dir or self.data_dir / "scratch").absolute()

    @property
    def fusers_path(self) -> Path:
        """Where trained fusers are kept: a folder for each name, in it one for each revision."""
        return self.data_dir.absolute() / "fusers"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, toml_file=Path("mediaweave.toml"))
        return init_settings, env_settings, toml


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; ``overrides`` that are ``None`` are not given.

    Raises:
        ConfigurationError: naming each setting that is wrong and why.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise ConfigurationError(f"a setting is wrong: {problems}") from error
    except (ValueError, OSError) as error:
        # Malformed TOML, or a structured variable that is not JSON.
        raise ConfigurationError(f"the settings cannot be read: {error}") from error
