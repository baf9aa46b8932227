"""In what bytes subtitle files come, and in which language they are."""

import codecs
import json
from pathlib import Path

import pytest

from pipeline.media import MediaLimits
from pipeline.media.subtitles.encodings import decode_text
from pipeline.media.subtitles.language import language_of_texts
from pipeline.media.subtitles.sidecars import Sidecar, read_bytes, read_text

#: Real files with known truth; where they are not, their test is skipped.
SHARED = Path(__file__).resolve().parents[4] / "shared" / "media"

TEXTS = {
    "gb18030": ["甚至出现交易几乎停滞的情况", "换一首歌", "砸自己的脚", "你好"],
    "big5": ["我們今天要去台北看電影，你想一起來嗎？", "謝謝你的幫助", "小心！"],
    "cp932": ["今日は東京へ行きます。一緒に行きませんか？", "ありがとう", "警察を呼べ！"],
    "cp949": ["오늘 우리는 서울에 갑니다. 같이 갈래요?", "감사합니다"],
    "cp1252": [
        "Grüße aus Köln",
        "Les deux autres sont situés au bord de la mer jaune.",
        "¿Qué estás haciendo mañana por la mañana, señor?",
        "Jeg vil gerne have en øl, tak. Hvad siger du til det?",
    ],
    "cp1250": ["Dziękuję bardzo, proszę usiąść. Jesteś głodny?", "Příliš žluťoučký kůň"],
    "cp1251": ["Сегодня мы едем в Москву. Хотите поехать с нами?", "Что это такое?"],
    "koi8-r": ["Сегодня мы едем в Москву. Хотите поехать с нами?"],
    "cp1253": ["Σήμερα πάμε στην Αθήνα. Θέλεις να έρθεις μαζί μας;", "Ευχαριστώ"],
    "cp1254": ["Bugün İstanbul'a gidiyoruz, bizimle gelmek ister misin?"],
    "cp1255": ["שלום, מה שלומך היום?"],
    "cp1256": ["مرحبا، كيف حالك اليوم؟"],
}
SHORT = [(encoding, text) for encoding, texts in TEXTS.items() for text in texts]


def as_srt(text: str, newline: str = "\r\n") -> str:
    return newline.join(["1", "00:00:01,000 --> 00:00:02,000", text, ""])


@pytest.mark.parametrize(("encoding", "text"), SHORT)
def test_short_texts_without_any_hint(encoding: str, text: str) -> None:
    assert decode_text(as_srt(text).encode(encoding)) == (as_srt(text), encoding)


@pytest.mark.parametrize("text", [texts[0] for texts in TEXTS.values()])
@pytest.mark.parametrize(
    ("mark", "codec", "name"),
    [
        (b"", "utf-8", "utf-8"),
        (codecs.BOM_UTF8, "utf-8", "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
        (b"", "utf-16-le", "utf-16-le"),
        (b"", "utf-16-be", "utf-16-be"),
    ],
)
def test_unicode(text: str, mark: bytes, codec: str, name: str) -> None:
    assert decode_text(mark + as_srt(text).encode(codec)) == (as_srt(text), name)


def test_the_language_of_the_file_decides_where_it_can() -> None:
    spoken = "Спасибо"

    assert decode_text(spoken.encode("cp1251"), "ru") == (spoken, "cp1251")
    assert decode_text(spoken.encode("utf-8"), "ru") == (spoken, "utf-8")


def test_serbian_in_latin_letters() -> None:
    text = "Đino, dođavola. Neće da izađe odatle. Šta ćemo sada? Čekaj me ovde."

    assert decode_text(text.encode("cp1250")) == (text, "cp1250")


def test_bytes_that_are_no_text() -> None:
    text, encoding = decode_text(b"ok \xff\xfe\xfa broken \xc3( bytes")

    assert (text.endswith("bytes"), encoding) == (True, "cp1252")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("We are going to the mountains tomorrow, and nobody knows when we shall be back. Bye.",
         "en"),
        ("Wir fahren morgen in die Berge, und niemand weiß, wann wir alle zurückkommen werden. Los",
         "de"),
        ("我们明天要去山里，没有人知道什么时候回来。请带上外套、水和旧地图，", "zh"),
        ("明日は山へ行きますが、いつ帰るかは誰にもわかりません。上着を持って。", "ja"),
        ("Too short", None),
        ("12:30 ... 4 5 6", None),
    ],
)  # fmt: skip
def test_the_language_of_a_text(text: str, language: str | None) -> None:
    assert language_of_texts([text]) == language


def shared_files() -> list[dict[str, object]]:
    if not (SHARED / "manifest.json").exists():
        return []
    listed = json.loads((SHARED / "manifest.json").read_text(encoding="utf-8"))["files"]
    return [file for file in listed if file["file"].endswith((".srt", ".vtt", ".ass"))]


@pytest.mark.parametrize("file", shared_files(), ids=lambda file: file["file"])
def test_real_files(file: dict[str, object]) -> None:
    path = SHARED / str(file["file"])
    truth = file["ground_truth"]
    assert isinstance(truth, dict)
    sidecar = Sidecar(name=path.name, path=path)
    limits = MediaLimits()
    notes: list[str] = []

    found = read_text(sidecar, read_bytes(sidecar, limits, notes), limits, notes, frame_rate=None)

    assert found is not None
    assert found.parsed is not None
    texts = [cue.text for cue in found.parsed.cues]
    assert len(texts) == truth.get("cues", len(texts)) > 0
    assert texts == truth.get("texts", texts)
    assert set(truth.get("good_cues", ())) <= set(texts)
    if "language" in truth:
        assert language_of_texts(texts) == truth["language"]
    if "encoding" in truth and not all(text.isascii() for text in texts):
        # Latin-1 is what cp1252 has without the letters that it adds.
        stated = "cp1252" if truth["encoding"] == "latin-1" else truth["encoding"]
        assert codecs.lookup(found.encoding).name == codecs.lookup(stated).name


def test_utf8_with_a_damaged_byte_stays_utf8() -> None:
    data = ("naïve café " * 20).encode() + b"\xff"

    text, encoding = decode_text(data)

    assert (text[:10], encoding) == ("naïve café", "utf-8")


def test_utf32_mark() -> None:
    assert decode_text(codecs.BOM_UTF32_LE + "hé".encode("utf-32-le")) == ("hé", "utf-32")
