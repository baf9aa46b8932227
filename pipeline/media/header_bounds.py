"""What the headers of media may hold. Runs in the child only."""

from av.container import InputContainer
from av.stream import AttachmentStream

from pipeline.errors import MediaLimitError
from pipeline.media.limits import MediaLimits


def check_headers(container: "InputContainer", limits: MediaLimits) -> None:
    """Bound what a demuxer has read into memory and keeps there.

    Raises:
        MediaLimitError: too many streams, attached files or chapters, or too much in them.
    """
    streams = list(container.streams)
    attached = [s.data for s in streams if isinstance(s, AttachmentStream)]
    chapters = container.chapters()
    contexts = [s.codec_context for s in streams if s.codec_context is not None]
    header_bytes = sum(map(len, attached)) + sum(len(c.extradata or b"") for c in contexts)
    texts = [container.metadata, *(s.metadata for s in streams), *(c["metadata"] for c in chapters)]
    chars = sum(len(key) + len(value) for text in texts for key, value in text.items())
    for count, what, name in (
        (len(streams) - len(attached), "streams", "max_streams"),
        (len(attached), "attached files", "max_attachments"),
        (len(chapters), "chapters", "max_chapters"),
        (header_bytes, "bytes of attached files and codec headers", "max_header_bytes"),
        (chars, "characters of metadata", "max_metadata_chars"),
    ):
        limit = getattr(limits, name)
        if count > limit:
            raise MediaLimitError(
                f"the file has {count} {what}, more than the limit of {limit}; take them out or "
                f"raise {name}"
            )
