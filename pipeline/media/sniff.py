"""What a file is by its first bytes; names and extensions are not believed."""

from pipeline.errors import UnsupportedMediaError

#: Demuxers that may touch submitted bytes: nothing that opens a second file (hls, dash, concat,
#: sdp, image2, …), no text.
ALLOWED_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,m4v,h264,hevc,"
    "vvc,av1,obu,ivf,ogg,asf,gif,mxf,dv,rm,nut,wav,w64,rf64,mp3,aac,flac,aiff,caf,au,amr,ac3,eac3,"
    "wv,tta,ape,dts,truehd"
)
ALLOWED_PROTOCOLS = "file,pipe"

#: Formats that may hold an animation which is to be unrolled before ffmpeg sees it.
ANIMATED_FORMATS = frozenset({"GIF", "WEBP", "PNG", "AVIF", "HEIF"})
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_STARTS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "JPEG2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "JPEGXL": (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
    # Olympus, Panasonic, Fujifilm, Sigma, Minolta; the RAW files of others look like TIFFs.
    "RAW": (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW ", b"FOVb", b"\0MRM"),
}
_BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}


def sniff_picture(head: bytes) -> str | None:
    """Pillow's name of the picture format, ``HEIF``, ``JPEGXL``, ``RAW``, or ``None`` for anything
    else. A RAW that is a TIFF at first sight counts as ``TIFF`` here."""
    for name, starts in _STARTS.items():
        if head.startswith(starts):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if head[6:14] == b"HEAPCCDR" or head[4:12] == b"ftypcrx ":
        return "RAW"
    if head[4:8] == b"ftyp":
        return _sniff_heif(head)
    return None


def _sniff_heif(head: bytes) -> str | None:
    size = min(int.from_bytes(head[:4], "big"), len(head))
    major = head[8:12]
    brands = {major} | {head[at : at + 4] for at in range(16, size - 3, 4)}
    if major not in _AVIF_BRANDS | _HEIF_BRANDS:
        return None
    return "AVIF" if brands & _AVIF_BRANDS else "HEIF"


def reject_text(head: bytes) -> None:
    """Refuse what is plainly text, with a better sentence than a demuxer's.

    Raises:
        UnsupportedMediaError: a playlist, a script, a page, a subtitle file, …
    """
    start = head[:1024]
    if b"\0" in start or any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in start):
        return
    try:
        text = start.decode("utf-8", "strict" if len(head) < 1024 else "ignore").lstrip("\ufeff")
    except UnicodeDecodeError:
        return
    if text.lstrip().startswith(("#EXTM3U", "[playlist]", "ffconcat", "v=0")):
        raise UnsupportedMediaError(
            "the file is a playlist that names other files, not media; submit the media itself"
        )
    first_line = text.strip().splitlines()[0][:40] if text.strip() else ""
    raise UnsupportedMediaError(f"the file is text, not media; it starts with {first_line!r}")
