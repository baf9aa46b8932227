"""Every error mediaweave raises on purpose.

One tree, so that the runner can decide from the class alone what to do with a failed stage run:

* :class:`InvalidMediaError` and its kin: the input is at fault. Never retried for the same bytes.
* :class:`TransientError`: the world is at fault. Retried with backoff.
* :class:`ResourceExhaustedError`: too little memory, time or disk. Retried, smaller where possible.
* :class:`ContractError`: our code is at fault. Loud.

The class name is what analysts see in ``v_stage_runs.error_class``, so renaming one is a breaking
change. The message is one sentence for a person: what, where, and what to do. Every error here is
built from plain strings, so that it pickles.
"""


class PipelineError(Exception):
    """Base of all errors of mediaweave."""


class InvalidMediaError(PipelineError):
    """The bytes are not media that can be analysed (empty, truncated, not what the name says)."""


class UnsupportedMediaError(InvalidMediaError):
    """Media of a kind that mediaweave does not read."""


class MediaLimitError(InvalidMediaError):
    """Media beyond a configured bound (pixels, duration, streams)."""


class SourceError(PipelineError):
    """What was submitted cannot be read from where it was said to be."""


class ObjectNotFoundError(SourceError):
    """The bucket, key or file does not exist."""


class AccessDeniedError(SourceError):
    """The store refused the credentials or the permission."""


class TransientError(PipelineError):
    """A dependency failed in a way that may pass: network, throttling, a store that is down."""


class StoreUnavailableError(TransientError):
    """An object store could not be reached."""


class DatabaseUnavailableError(TransientError):
    """The database could not be reached."""


class BrokerUnavailableError(TransientError):
    """The message broker could not be reached."""


class ResourceExhaustedError(PipelineError):
    """Memory, time or disk ran out while working."""


class ConfigurationError(PipelineError):
    """Settings, arguments or the installation are wrong; the message says what to change."""


class ModelUnavailableError(ConfigurationError):
    """A model cannot be loaded; the message says which file or package is missing."""


class InvalidMessageError(ConfigurationError):
    """A submitted message does not follow its schema."""


class AttemptLostError(ResourceExhaustedError):
    """A worker died or stalled in the middle of the work."""


class ContractError(PipelineError):
    """Two parts of mediaweave disagree: a bug. The message shows the values that were seen."""


def is_retried(error: PipelineError) -> bool:
    """Whether the runner tries again by itself, after a pause."""
    return isinstance(error, TransientError | ResourceExhaustedError)


def is_reopened(error_class: str | None) -> bool:
    """Whether submitting the same bytes again is worth another try, given ``error_class`` of the
    stored failure: bad media stays bad, everything else may have been mended since."""
    return error_class not in names_of(InvalidMediaError) - names_of(MediaLimitError)


def names_of(root: type[PipelineError]) -> set[str]:
    """The class names, as stored, of an error and of its kin."""
    return {root.__name__}.union(*(names_of(kind) for kind in root.__subclasses__()))
