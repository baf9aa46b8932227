from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from pipeline.training.labels import LabelledSpan, caption_of, labels_of, read_labels
from schemas.records import Shot


def file_of(folder: Path, *lines: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def shot(start_ms: int, end_ms: int) -> Shot:
    return Shot(shot_index=0, start_ms=start_ms, end_ms=end_ms)


def span(start_ms: int | None, end_ms: int | None, label: str | None = "goal") -> LabelledSpan:
    return LabelledSpan(uri="a", start_ms=start_ms, end_ms=end_ms, label=label, line=2)


def test_lines_are_read_with_their_times(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        "label,uri,start,end,who,caption",
        "goal,s3://b/match.mp4,01:02:03.5,62:04,ana,They  score.",
        '"free  kick, saved",/a b.mp4,,12.25,ana',
        ",/a b.mp4,20,,ben",
        ",/a b.mp4,20,,ana",
    )
    assert read_labels(path) == [
        LabelledSpan(
            uri="s3://b/match.mp4",
            start_ms=3_723_500,
            end_ms=3_724_000,
            label="goal",
            caption="They score.",
            line=2,
        ),
        LabelledSpan(
            uri="/a b.mp4", start_ms=None, end_ms=12_250, label="free kick, saved", line=3
        ),
        LabelledSpan(uri="/a b.mp4", start_ms=20_000, end_ms=None, label=None, line=4),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["uri,start,end", "a,0,1"], "has no column 'label'"),
        (["uri,start,end,label", ",0,1,goal"], "line 2: the uri is empty"),
        (["uri,start,end,label", "a,0,1,goal", "a,5,5,goal"], "line 3: the end is not after"),
        (["uri,start,end,label", "a,-1,5,goal"], "line 2: start '-1' is no time: write seconds"),
        (["uri,start,end,label", "a,nan,5,goal"], "start 'nan' is no time"),
        (["uri,start,end,label", "a,1:75,,goal"], "start '1:75' is no time"),
        (["uri,start,end,label", "a,1:2:3:4,,goal"], "start '1:2:3:4' is no time"),
        (["uri,start,end,label", f"a,,,{'x' * 201}"], "line 2: the label has 201 characters"),
        (["uri,start,end,label", "a,,,x\0y"], "line 2: there is a NUL character"),
        (["uri,start,end,label", "a,,,"], "holds no labels"),
        (["uri,start,end,label", 'a,,,"goal'], "cannot be read as CSV"),
        (["uri,start,end,label", "a,,,red, white"], "line 2: there are more fields than columns"),
        (["uri,start,end,label,label", "a,,,cat,dog"], "has 2 columns 'label': keep one"),
        (
            ["uri,start,end,label", "a,,,Cat", "b,,,dog", "c,,,cat"],
            "line 4: the label 'cat' is 'Cat' in line 2: write it one way",
        ),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_labels(file_of(tmp_path, *lines))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")


def test_a_span_speaks_for_the_shots_that_it_mostly_covers() -> None:
    assert labels_of(shot(0, 1000), [span(500, 2000)]) == {"goal"}
    assert labels_of(shot(0, 1000), [span(501, 2000)]) is None
    # A moment inside a long shot.
    assert labels_of(shot(0, 60_000), [span(1000, 2000)]) == {"goal"}
    assert labels_of(shot(0, 1000), [span(None, None, None)]) == frozenset()
    assert labels_of(shot(0, 1000), [span(0, 900), span(100, 1000, "kick")]) == {"goal", "kick"}
    assert labels_of(shot(5000, 6000), [span(None, 4000)]) is None
    # A picture lasts no time.
    assert labels_of(shot(0, 0), [span(None, None)]) == {"goal"}
    assert labels_of(shot(0, 0), [span(0, 1000)]) == {"goal"}


def test_the_first_sentence_about_a_shot_is_its_caption() -> None:
    spans = [
        span(0, 400),
        replace(span(0, 1000), caption="One."),
        replace(span(0, 900), caption="Two."),
    ]
    assert caption_of(shot(0, 1000), spans) == "One."
    assert caption_of(shot(5000, 6000), spans) is None
