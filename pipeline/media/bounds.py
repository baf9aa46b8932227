"""Sentences for bounds that the child and its parent both watch."""

from pipeline.errors import MediaLimitError, ResourceExhaustedError
from pipeline.media.limits import MediaLimits


def too_many_bytes(limits: MediaLimits) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"splitting the media wrote more than {limits.output_bytes} bytes; split it or raise "
        "output_bytes"
    )


def too_many_files(limits: MediaLimits) -> MediaLimitError:
    return MediaLimitError(
        f"splitting the media wrote more than {limits.max_output_files} files, one for each shot; "
        "split it or raise max_output_files"
    )


def too_many_messages(limits: MediaLimits) -> MediaLimitError:
    return MediaLimitError(
        f"the decoder wrote more than {limits.max_message_bytes} bytes of messages about the "
        "media; it is damaged beyond use"
    )


def too_large_reply(limits: MediaLimits) -> MediaLimitError:
    return MediaLimitError(
        f"the shots, keyframes and cues of the media fill more than {limits.max_reply_bytes} "
        "bytes; split it or raise max_reply_bytes"
    )
