"""Subtitles that are pictures, from the file to the view, read by the real OCR model."""

from pathlib import Path

from jobs import Process
from media_factory import make_video, run_ffmpeg
from subtitle_media import make_pgs


def test_pictures_of_subtitles_become_cues(tmp_path: Path, process: Process) -> None:
    video = make_video(tmp_path / "plain.mp4", frames_per_shot=(50,), sound=False)
    sup = make_pgs(tmp_path / "film.sup", [(200, 900, "HELLO WORLD"), (1000, 1700, "GOODBYE")])
    media = tmp_path / "media"
    media.mkdir()
    run_ffmpeg(
        "-i", video, "-copyts", "-i", sup, "-map", "0", "-map", "1", "-c", "copy",
        "-metadata:s:s:0", "language=eng", media / "film.mkv",
    )  # fmt: skip

    process.run(str(media))

    cues = process.sql(
        "SELECT start_ms, end_ms, text, language, stream_index, confidence > 0.7 AS sure "
        "FROM v_cues WHERE origin = 'subtitle' ORDER BY start_ms"
    )
    common = {"language": "en", "stream_index": 1, "sure": 1}
    assert cues == [
        {"start_ms": 200, "end_ms": 900, "text": "HELLO WORLD", **common},
        {"start_ms": 1000, "end_ms": 1700, "text": "GOODBYE", **common},
    ]
    assert process.sql("SELECT is_bitmap, cue_count, format FROM v_cue_sources") == [
        {"is_bitmap": 1, "cue_count": 2, "format": "hdmv_pgs_subtitle"}
    ]
