"""Files that try to have something else opened, and who notices if they succeed."""

import ctypes
import os
import shutil
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from media_factory import make_video

_IN_ACCESS, _IN_OPEN = 0x1, 0x20


class ReadWatch:
    """Notices when a file is opened or read, by anyone."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        added = libc.inotify_add_watch(self._descriptor, os.fsencode(path), _IN_ACCESS | _IN_OPEN)
        assert self._descriptor >= 0
        assert added >= 0

    def was_touched(self) -> bool:
        """Since the last time this was asked."""
        try:
            return bool(os.read(self._descriptor, 65536))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._descriptor)


class Listener:
    """A TCP and a UDP port of the same number on the loopback address that count who knocks."""

    def __init__(self) -> None:
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._udp.setblocking(False)
        self._calls = 0
        self.is_open = True
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            with connection:
                if not self.is_open:
                    return
                self._calls += 1

    def close(self) -> int:
        """How many connections and datagrams there were."""
        self.is_open = False
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._tcp.close()
        try:
            self._udp.recv(1)
        except BlockingIOError:
            return self._calls
        finally:
            self._udp.close()
        return self._calls + 1


def hls(target: str) -> bytes:
    return (f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{target}\n#EXT-X-ENDLIST\n").encode()


def ffconcat(target: str) -> bytes:
    return f"ffconcat version 1.0\nfile '{target}'\n".encode()


def dash(target: str) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000">'
        f"<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ).encode()


def sdp(target: str) -> bytes:
    port = target.rpartition(":")[2].partition("/")[0]
    return (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {port if port.isdigit() else 5004} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    ).encode()


def svg(target: str) -> bytes:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink">'
        f'<image x:href="{target}" width="9" height="9"/></svg>'
    ).encode()


def pls(target: str) -> bytes:
    return f"[playlist]\nNumberOfEntries=1\nFile1={target}\n".encode()


def reference_movie(target: str) -> bytes:
    """QuickTime: a movie that only says where the movie is."""
    where = target.encode() + b"\0"
    reference = _box(b"rdrf", struct.pack(">I4sI", 0, b"url ", len(where)) + where)
    return _box(b"ftyp", b"qt  \0\0\0\0qt  ") + _box(
        b"moov", _box(b"rmra", _box(b"rmda", reference))
    )


SCRIPTS: dict[str, Callable[[str], bytes]] = {
    "hls": hls, "ffconcat": ffconcat, "dash": dash, "sdp": sdp, "svg": svg, "pls": pls,
    "rmda": reference_movie,
}  # fmt: skip


def make_movie_with_data_elsewhere(path: Path, target: Path) -> Path:
    """QuickTime with a valid index whose samples lie in another file, which is made as well."""
    make_video(target, frames_per_shot=(5,), sound=False)
    data = target.read_bytes()
    name = str(target).replace("/", ":").encode()
    name += b"\0" * (len(name) % 2)
    alias = bytes(10) + bytes(1 + 27) + bytes(12) + bytes(1 + 63) + bytes(16)
    alias += struct.pack(">hh", -1, -1) + bytes(16)
    alias += struct.pack(">hH", 2, len(name)) + name + struct.pack(">hH", -1, 0)
    reference = _box(b"dref", struct.pack(">II", 0, 1) + _box(b"alis", bytes(4) + alias))
    path.write_bytes(_replaced(data, b"dref", reference))
    return path


def make_linked_matroska(path: Path, target: Path) -> Path:
    """Matroska that names the file which goes on where it ends."""
    plain = make_video(path.with_suffix(".plain.mkv"), frames_per_shot=(5,), sound=False)
    data = plain.read_bytes()
    name = target.name.encode()
    # NextFilename, as the first element of Info, whose size ffmpeg writes in eight bytes.
    link = b"\x3e\x83\xbb" + bytes([0x80 | len(name)]) + name
    # Its first mention is in the list of contents.
    info = b"\x15\x49\xa9\x66"
    at = data.index(info, data.index(info) + 4) + 4
    first = data[at]
    length = 8 - first.bit_length() + 1
    size = int.from_bytes(data[at : at + length], "big") & (1 << 7 * length) - 1
    grown = (size + len(link) | 1 << 7 * 8).to_bytes(8, "big")
    path.write_bytes(data[:at] + grown + link + data[at + length :])
    plain.unlink()
    shutil.copy(path, target)
    return path


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + kind + data


def _replaced(data: bytes, kind: bytes, box: bytes) -> bytes:
    """The boxes with the first one of a kind replaced, wherever it is."""
    parts, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        name, inner = data[at + 4 : at + 8], data[at + 8 : at + size]
        if name == kind:
            parts.append(box)
        elif name in {b"moov", b"trak", b"mdia", b"minf", b"dinf"}:
            parts.append(_box(name, _replaced(inner, kind, box)))
        else:
            parts.append(data[at : at + size])
        at += size
    return b"".join(parts)
