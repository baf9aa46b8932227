"""What ``mediaweave show`` prints of an asset."""

import pytest

from workers.cli.report import print_asset


def test_what_is_heard_stands_under_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_asset(
        {
            "asset_id": 1,
            "uri": "file:///a.wav",
            "kind": "audio",
            "duration_ms": 9000,
            "width": None,
            "frame_rate": None,
            "status": "done",
            "locations": ["file:///a.wav"],
            "shots": [{"shot_index": 0, "start_ms": 0, "end_ms": 9000}],
            "tags": [],
            "classifications": [],
            "captions": [],
            "cues": [
                {"origin": "speech", "start_ms": 1000, "language": "en", "text": "hello"},
            ],
            "sound_events": [
                {"start_ms": 900, "end_ms": 2500, "label": "speech", "score": 0.914},
                {"start_ms": 3000, "end_ms": 9000, "label": "a \x1b[2J[red]bell", "score": 0.5},
            ],
            "stage_runs": [],
        }
    )
    lines = capsys.readouterr().out.splitlines()
    heard = lines.index("heard")
    assert lines[heard - 1] == "  00:01.0 [en]  hello"
    assert lines[heard + 1 : heard + 3] == [
        "  00:00.9 – 00:02.5  speech 0.91",
        "  00:03.0 – 00:09.0  a \ufffd[2J[red]bell 0.50",
    ]
