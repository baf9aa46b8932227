"""Subtitle files in many encodings and forms."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from conformance.room import Entry

PathOf = Callable[[str], Path]
Recipe = tuple[Entry, Callable[[Path, PathOf], None]]

_GERMAN = ("Die Straße war früher schöner.", "Über Nacht ist alles grün geworden.")
_POLISH = ("Źródło leży za górą, pójdźmy tędy.", "Wąż już śpi, więc bądź cicho.")
_RUSSIAN = ("Всё смешалось в доме Облонских.", "Жена узнала, что муж был в связи.")
_CHINESE = ("甚至出现交易几乎停滞的情况", "今天的天气很好，我们去公园散步吧。")
_DAMAGED = """1
00:00:05,000 --> 00:00:01,000
the end before the start

2
-1:00:00,000 --> 00:00:02,000
negative

3
00:00:06,000 --> 00:00:07,000
good cue
"""


def recipes() -> Iterator[Recipe]:
    for name, texts, encoding in (
        ("de.utf8", _GERMAN, "utf-8"),
        ("de.bom", _GERMAN, "utf-8-sig"),
        ("de.utf16", _GERMAN, "utf-16"),
        ("de.cp1252", _GERMAN, "cp1252"),
        ("pl", _POLISH, "cp1250"),
        ("ru", _RUSSIAN, "cp1251"),
        ("zh", _CHINESE, "gb18030"),
        ("zh-TW", ("這是一個測試", "今天天氣很好"), "big5"),
        ("zh.utf16", _CHINESE, "utf-16-le"),
    ):
        yield _srt(name, texts, encoding)
    yield from _forms()
    truth = {"good_cues": ["good cue"]}
    yield (
        Entry(file="subtitles/damaged.srt", expect="partial", truth=truth),
        lambda path, path_of: path.write_text(_DAMAGED),
    )


def _srt(name: str, texts: tuple[str, ...], encoding: str) -> Recipe:
    truth: dict[str, Any] = {"encoding": encoding, "cues": len(texts), "texts": list(texts)}
    entry = Entry(file=f"subtitles/film.{name}.srt", expect="decode", truth=truth)
    blocks = [
        f"{number}\n00:00:0{number},000 --> 00:00:0{number},900\n{text}\n"
        for number, text in enumerate(texts, 1)
    ]
    data = "\n".join(blocks).encode(encoding)
    return entry, lambda path, path_of: path.write_bytes(data)


def _forms() -> Iterator[Recipe]:
    whole = {
        "film.vtt": "WEBVTT\r\n\r\nNOTE made here\r\n\r\n"
        "00:01.000 --> 00:02.000 align:start\r\n<v Ann>First</v> &amp; last\r\n",
        "film.ass": "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\i1}First & last\n",
        "numberless.srt": "00:00:01,000 --> 00:00:02,000\nFirst & last\n",
    }
    for name, text in whole.items():
        truth = {"cues": 1, "texts": ["First & last"]}
        yield (
            Entry(file=f"subtitles/{name}", expect="decode", truth=truth),
            lambda path, path_of, text=text: path.write_bytes(text.encode()),
        )
