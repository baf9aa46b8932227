"""Subtitles: of streams and of files beside the media."""

from collections.abc import Iterator

from conformance.outcomes import Case

from pipeline.media.subtitles.encodings import decode_text
from schemas.records import Cue

#: The container's clock may begin a few milliseconds before the picture.
_TIME_TOLERANCE_MS = 20
_BITMAPS = ("pgs", "dvd", "dvb", "xsub")
#: What comes out when an encoding was taken for another, and letters that no text has.
_GARBLED = ("\ufffd", "Ã", "â€", "\x00")


def check_cues(case: Case) -> Iterator[str]:
    """Texts, times, languages, number."""
    result = case.outcome.result
    if result is None:
        return
    if case.entry.is_sidecar:
        ours = [cue for cue in result.cues if cue.sidecar == case.path.name]
        yield from _check_sidecar(case, ours)
        yield from _disordered(ours)
    elif case.entry.expect == "decode":
        yield from _check_streams(case, list(result.cues))


def _disordered(cues: list[Cue]) -> Iterator[str]:
    times = [(cue.start_ms, cue.end_ms) for cue in cues]
    if times != sorted(times):
        yield "the cues are not in order of time"
    empty = [cue for cue in cues if not 0 <= cue.start_ms < cue.end_ms or not cue.text.strip()]
    if empty:
        yield f"cues without length or text: {empty[:3]}"


def _check_streams(case: Case, cues: list[Cue]) -> Iterator[str]:
    """Another decoder's subtitle streams, and those that the manifest names."""
    tracks = case.entry.truth.get("subtitle_tracks", ())
    streams = [
        (index, stream)
        for index, stream in enumerate(case.entry.observed.get("streams", ()))
        if stream["type"] == "subtitle"
    ]
    for number, (index, stream) in enumerate(streams):
        ours = [cue for cue in cues if cue.stream_index == index]
        yield from _disordered(ours)
        track = tracks[number] if number < len(tracks) else {}
        named = case.entry.truth.get("subtitle_codec", track.get("codec", stream["codec"] or ""))
        sources = case.outcome.result.cue_sources if case.outcome.result else ()
        is_bitmap = any(word in named for word in _BITMAPS)
        # Pictures of text are cues when OCR has read them.
        is_pictured = any(s.stream_index == index and s.is_bitmap and s.cue_count for s in sources)
        if not ours and not (is_bitmap and is_pictured):
            yield f"no cue of subtitle stream {index} ({named})"
        if not is_bitmap and len(ours) > max(1, stream["frames"]):
            yield f"{len(ours)} cues of stream {index}, which has {stream['frames']}"
        if named == "subrip" and len(ours) != stream["frames"]:
            yield f"{len(ours)} cues of stream {index}, not {stream['frames']}"
        if track:
            yield from _check_track(case, ours, track.get("lang"))


def _check_track(case: Case, cues: list[Cue], language: str | None) -> Iterator[str]:
    """A film's tracks say what is spoken, when it is spoken."""
    speech = case.entry.truth["speech"]
    if [cue.text for cue in cues] != [span["text"] for span in speech]:
        yield f"the cues say {[cue.text for cue in cues]}"
        return
    for cue, span in zip(cues, speech, strict=True):
        for found_ms, seconds in ((cue.start_ms, span["start"]), (cue.end_ms, span["end"])):
            if abs(found_ms - seconds * 1000) > _TIME_TOLERANCE_MS:
                yield f"{cue.text!r} is at {found_ms} ms, not at {seconds} s"
    # Two letters of the three: eng → en, deu → de.
    if language is not None and any((cue.language or "") != language[:2] for cue in cues):
        yield f"the language is {language}, not {cues[0].language}"


def _check_sidecar(case: Case, cues: list[Cue]) -> Iterator[str]:
    truth, observed, found = case.entry.truth, case.entry.observed, [cue.text for cue in cues]
    if "texts" in truth and found != truth["texts"]:
        yield f"the cues say {found}, not {truth['texts']}"
    yield from (f"{good!r} is missing" for good in truth.get("good_cues", ()) if good not in found)
    count = truth.get("cues")
    if count is None and case.entry.expect == "decode":
        # Arrows are counted in bytes, so only where text is ASCII-like.
        count = observed["arrows"] or observed["cues_ffmpeg"]
    if count is not None and len(cues) != count:
        yield f"{count} cues, not {len(cues)}"
    if case.entry.expect == "decode":
        yield from (f"garbled: {text!r}" for text in found if any(s in text for s in _GARBLED))
    language = truth.get("language")
    if language and any(cue.language not in {None, language} for cue in cues):
        yield f"the language is {language}, not {cues[0].language}"
    sources = case.outcome.result.cue_sources if case.outcome.result else ()
    for source in (source for source in sources if source.sidecar == case.path.name):
        if source.cue_count != len(found) or source.encoding is None:
            yield f"{len(found)} cues, but their source says {source}"
    if "encoding" in truth:
        yield from _check_encoding(case, found, truth["encoding"])


def _check_encoding(case: Case, found: list[str], encoding: str) -> Iterator[str]:
    """Every line stands in the file, read in the encoding that it is in."""
    whole = case.path.read_bytes().decode(encoding).replace("\r\n", "\n")
    lines = [line for text in found for line in text.splitlines()]
    missing = [line for line in lines if line not in _plain(whole)]
    if missing:
        taken, _ = decode_text(case.path.read_bytes())
        where = next((n for n, pair in enumerate(zip(whole, taken, strict=False))
                      if pair[0] != pair[1]), 0)  # fmt: skip
        yield (
            f"{len(missing)} of {len(lines)} lines are not in the {encoding} text, "
            f"such as {missing[0]!r} for {whole[where : where + 20]!r}"
        )


def _plain(text: str) -> str:
    for tag in ("<i>", "</i>", "<b>", "</b>", "<u>", "</u>"):
        text = text.replace(tag, "")
    return text
