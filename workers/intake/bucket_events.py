"""A message with events of buckets, from whatever carried it, to where it has its effect."""

from pipeline.errors import InvalidMessageError
from pipeline.runner.arrivals import apply
from pipeline.runner.runtime import Runtime
from schemas.bucket_events import parse_bucket_message


def handle_bucket_message(runtime: Runtime, body: bytes) -> None:
    """Apply the events in a message; to be acknowledged afterwards. May be called again with it.

    Raises:
        InvalidMessageError: it is no bucket event; nothing was done.
        ConfigurationError: a rule of the settings is wrong.
        DatabaseUnavailableError: try again; what was done already is not done twice.
    """
    try:
        events = parse_bucket_message(body)
    except ValueError as error:
        raise InvalidMessageError(f"this is no bucket event: {error}") from error
    apply(runtime, events)
