"""Many small files, all different, of every kind; a broken one and a doubled one among them."""

import shutil
from pathlib import Path

from media_factory import make_sound, make_srt, make_video
from PIL import Image as PillowImage


def make_media(
    folder: Path, *, pictures: int = 3, sounds: int = 1, clips: int = 1, broken: int = 1
) -> Path:
    """``p-000.png``, ``s-000.wav``, ``c-000.mp4`` with a subtitle file beside it, ``x-000.png``
    that is no picture, and ``p-again.png`` with the content of ``p-000.png``."""
    folder.mkdir(parents=True)
    for number in range(pictures):
        colour = (number % 256, number // 256, 99)
        PillowImage.new("RGB", (16, 16), colour).save(folder / f"p-{number:03}.png")
    if pictures:
        shutil.copyfile(folder / "p-000.png", folder / "p-again.png")
    for number in range(sounds):
        make_sound(folder / f"s-{number:03}.wav", seconds=0.3, frequency_hz=300 + number)
    for number in range(clips):
        clip = folder / f"c-{number:03}.mp4"
        make_video(clip, frames_per_shot=(5 + number, 5), size="64x48")
        make_srt(clip.with_suffix(".en.srt"), [("00:00:00,000", "00:00:00,200", f"line {number}")])
    for number in range(broken):
        (folder / f"x-{number:03}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([number] * 50))
    return folder
