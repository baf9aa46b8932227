import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from media_factory import make_png_claiming, make_video
from PIL import Image as PillowImage

from pipeline.errors import (
    InvalidMediaError,
    MediaLimitError,
    ObjectNotFoundError,
    ResourceExhaustedError,
    UnsupportedMediaError,
)
from pipeline.media import MediaLimits, SplitParams, SplitResult, probe_media, split_media
from pipeline.media.sniff import ALLOWED_DEMUXERS
from schemas.records import MediaInfo

Splitter = Callable[..., SplitResult]


@pytest.fixture
def counting_server() -> Iterator[tuple[str, list[str]]]:
    """A loopback address, and the paths that were asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_missing_file(tmp_path: Path, limits: MediaLimits) -> None:
    with pytest.raises(ObjectNotFoundError, match="no file"):
        probe_media(tmp_path / "absent.mp4", work_dir=tmp_path, limits=limits)


def test_directory(tmp_path: Path, limits: MediaLimits) -> None:
    with pytest.raises(InvalidMediaError, match="not a regular file"):
        probe_media(tmp_path, work_dir=tmp_path, limits=limits)


def test_empty_file(tmp_path: Path, limits: MediaLimits) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()

    with pytest.raises(InvalidMediaError, match=r"^the file is empty$"):
        probe_media(path, work_dir=tmp_path, limits=limits)


def test_text_named_as_video(tmp_path: Path, limits: MediaLimits) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("Dear diary, today nothing moved.\n")

    with pytest.raises(UnsupportedMediaError, match=r"text, not media.*Dear diary"):
        probe_media(path, work_dir=tmp_path, limits=limits)


def test_random_bytes(tmp_path: Path, limits: MediaLimits) -> None:
    path = tmp_path / "noise.mp4"
    path.write_bytes(bytes((n * 197 + n // 7) % 256 for n in range(5000)))

    with pytest.raises(InvalidMediaError, match="not readable as video, sound or a picture"):
        probe_media(path, work_dir=tmp_path, limits=limits)


def test_mp4_without_its_index(tmp_path: Path, limits: MediaLimits) -> None:
    path = make_video(tmp_path / "cut.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(InvalidMediaError, match="moov atom not found"):
        probe_media(path, work_dir=tmp_path, limits=limits)


def test_mp4_with_a_box_of_absurd_size(tmp_path: Path, limits: MediaLimits) -> None:
    path = tmp_path / "absurd.mp4"
    brand = b"\0\0\0\x18ftypisom\0\0\0\0isommp42"
    path.write_bytes(brand + b"\0\0\0\1free" + b"\xff" * 8)

    with pytest.raises(InvalidMediaError, match="not readable"):
        probe_media(path, work_dir=tmp_path, limits=limits)


def test_mp4_cut_after_its_index(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "cut.mp4", sound=False, extra=["-movflags", "+faststart"])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(InvalidMediaError, match=r"truncated: its header states 4\.0 s"):
        split(path)


def test_mkv_cut_in_half(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "cut.mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(InvalidMediaError, match=r"truncated: .* can be decoded: .*ended"):
        split(path)


def test_nothing_is_left_after_an_error(
    tmp_path: Path, work_dir: Path, limits: MediaLimits
) -> None:
    path = make_video(tmp_path / "cut.mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    info = probe_media(path, work_dir=tmp_path, limits=limits).info

    with pytest.raises(InvalidMediaError):
        split_media(
            path, info=info, params=SplitParams(), sidecars=(), work_dir=work_dir, limits=limits
        )

    assert list(work_dir.iterdir()) == []


def test_video_without_a_decodable_frame(tmp_path: Path, split: Splitter) -> None:
    path = make_video(tmp_path / "zeroed.mp4", sound=False)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    path.write_bytes(data)

    with pytest.raises(InvalidMediaError, match="no frame of the video can be decoded"):
        split(path)


def test_picture_with_a_lying_header(tmp_path: Path, limits: MediaLimits) -> None:
    path = make_png_claiming(tmp_path / "bomb.png", width=60000, height=60000)

    with pytest.raises(MediaLimitError, match="100000000 pixels"):
        probe_media(path, work_dir=tmp_path, limits=limits)


def test_picture_beyond_a_small_limit(tmp_path: Path) -> None:
    PillowImage.new("RGB", (100, 100)).save(tmp_path / "a.png")

    with pytest.raises(MediaLimitError, match="more than 9000 pixels"):
        probe_media(tmp_path / "a.png", work_dir=tmp_path, limits=MediaLimits(max_pixels=9000))


def test_truncated_picture(tmp_path: Path, limits: MediaLimits) -> None:
    path = tmp_path / "cut.jpg"
    PillowImage.effect_noise((300, 300), 50).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    info = probe_media(path, work_dir=tmp_path, limits=limits).info

    with pytest.raises(InvalidMediaError, match="damaged or cut off"):
        split_media(
            path, info=info, params=SplitParams(), sidecars=(), work_dir=tmp_path, limits=limits
        )


def test_colours_of_a_palette_that_is_missing(tmp_path: Path, split: Splitter) -> None:
    path = tmp_path / "a.png"
    PillowImage.new("P", (30, 20)).save(path)
    data = path.read_bytes()
    at = data.index(b"PLTE") - 4
    path.write_bytes(data[:at] + data[at + 12 + int.from_bytes(data[at : at + 4], "big") :])

    with pytest.raises(InvalidMediaError, match="damaged or cut off"):
        split(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_pixels": 1000}, "320x180 pixels"),
        ({"max_duration_seconds": 3}, "more than the limit of 3 s"),
        ({"max_streams": 1}, "2 streams"),
    ],
)
def test_video_beyond_limits(tmp_path: Path, changed: dict[str, int], message: str) -> None:
    path = make_video(tmp_path / "video.mp4")

    with pytest.raises(MediaLimitError, match=message):
        probe_media(path, work_dir=tmp_path, limits=MediaLimits(**changed))


def test_duration_is_bounded_whatever_the_header_said(
    tmp_path: Path, work_dir: Path, limits: MediaLimits
) -> None:
    path = make_video(tmp_path / "video.mp4")
    info = probe_media(path, work_dir=tmp_path, limits=limits).info

    with pytest.raises(MediaLimitError, match="lasts longer than the limit of 3 s"):
        split_media(
            path, info=info, params=SplitParams(), sidecars=(), work_dir=work_dir,
            limits=MediaLimits(max_duration_seconds=3),
        )  # fmt: skip


@pytest.mark.parametrize("target", ["http", "file"])
def test_playlist_named_as_video_reaches_nothing(
    tmp_path: Path, work_dir: Path, limits: MediaLimits,
    counting_server: tuple[str, list[str]], target: str,
) -> None:  # fmt: skip
    base, asked = counting_server
    secret = make_video(tmp_path / "other_tenant.ts")
    address = f"{base}/segment.ts" if target == "http" else str(secret)
    path = tmp_path / "innocent.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{address}\n#EXT-X-ENDLIST\n")

    with pytest.raises(UnsupportedMediaError, match="playlist"):
        probe_media(path, work_dir=tmp_path, limits=limits)
    with pytest.raises(InvalidMediaError):
        # Even where the caller insists that it is a video.
        split_media(
            path, info=a_video(), params=SplitParams(), sidecars=(), work_dir=work_dir,
            limits=limits,
        )  # fmt: skip

    assert asked == []


def a_video() -> MediaInfo:
    return MediaInfo(
        kind="video", container="mov", duration_ms=4000, width_px=320, height_px=180,
        frame_rate=25.0, streams=(),
    )  # fmt: skip


def test_demuxers_that_open_other_files_are_not_allowed() -> None:
    forbidden = {"hls", "dash", "concat", "sdp", "image2", "rtsp", "applehttp", "lavfi", "tty"}

    assert forbidden.isdisjoint(ALLOWED_DEMUXERS.split(","))


@pytest.mark.parametrize(
    "name",
    [
        "-rf.mp4",
        "$(id).mp4",
        "%2e%2e%2fescape.mp4",
        "frame%03d.mp4",
        "pipe|name.mp4",
        "concat:a|b.mp4",
        "two\nlines.mp4",
        "name with 'quotes\".mp4",
        "\u202egpj.mp4",
        "x" * 251 + ".mp4",
        "é" * 125 + "x.mp4",
        "-i.mp4",
        "file:input",
        "http:127.0.0.1.mp4",
    ],
)
def test_odd_names(tmp_path: Path, split: Splitter, name: str) -> None:
    path = make_video(tmp_path / "plain.mp4", frames_per_shot=(5,), sound=False)

    result = split(path.rename(tmp_path / name))

    assert [(shot.start_ms, shot.end_ms) for shot in result.shots] == [(0, 200)]


def test_decoding_beyond_the_cpu_limit(tmp_path: Path, work_dir: Path) -> None:
    path = endless(tmp_path)
    limits = MediaLimits(cpu_seconds=1, wall_seconds=60)
    info = probe_media(path, work_dir=tmp_path, limits=limits).info

    with pytest.raises(ResourceExhaustedError, match="CPU time"):
        split_media(
            path, info=info, params=SplitParams(), sidecars=(), work_dir=work_dir, limits=limits
        )

    assert list(work_dir.iterdir()) == []


def test_decoding_beyond_the_time_limit(tmp_path: Path, work_dir: Path) -> None:
    path = endless(tmp_path)
    limits = MediaLimits(cpu_seconds=60, wall_seconds=1)
    info = probe_media(path, work_dir=tmp_path, limits=limits).info

    with pytest.raises(ResourceExhaustedError, match="took longer than 1 s"):
        split_media(
            path, info=info, params=SplitParams(), sidecars=(), work_dir=work_dir, limits=limits
        )

    assert list(work_dir.iterdir()) == []


def test_decoding_beyond_the_memory_limit(tmp_path: Path, work_dir: Path) -> None:
    PillowImage.new("RGB", (8000, 8000)).save(tmp_path / "large.bmp")
    # Libraries take 400 MiB of it, the picture 190.
    limits = MediaLimits(memory_bytes=512 * 1024**2)
    info = probe_media(tmp_path / "large.bmp", work_dir=tmp_path, limits=limits).info

    with pytest.raises(ResourceExhaustedError, match="memory"):
        split_media(
            tmp_path / "large.bmp", info=info, params=SplitParams(), sidecars=(),
            work_dir=work_dir, limits=limits,
        )  # fmt: skip


def test_writing_beyond_the_output_limit(tmp_path: Path, work_dir: Path) -> None:
    path = make_video(tmp_path / "video.mp4", frames_per_shot=(500,))
    info = probe_media(path, work_dir=tmp_path, limits=MediaLimits()).info

    with pytest.raises(ResourceExhaustedError):
        split_media(
            path, info=info, params=SplitParams(), sidecars=(), work_dir=work_dir,
            limits=MediaLimits(output_bytes=20_000),
        )  # fmt: skip


def endless(tmp_path: Path) -> Path:
    """A small file that takes seconds to decode."""
    return make_video(
        tmp_path / "endless.mkv", frames_per_shot=(100_000,), patterns=("color=blue",),
        rate="1000", size="16x16", sound=False, codec=("-c:v", "mpeg4"),
    )  # fmt: skip
