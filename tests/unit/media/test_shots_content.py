import numpy as np
import pytest
from shot_frames import (
    STEP,
    TIME_BASE,
    boundaries,
    dissolve,
    grey,
    mixed,
    picture,
    places,
)

from pipeline.errors import ContractError
from pipeline.media.params import SplitParams
from pipeline.media.shots import ContentDetector

ONE, TWO, THREE = picture(1), picture(2), picture(3)


def test_cut_is_the_first_frame_of_the_new_shot() -> None:
    (found,) = boundaries([ONE] * 30 + [TWO] * 30)

    assert (found.kind, found.pts) == ("cut", 30 * STEP)
    assert found.start_pts == found.end_pts == found.pts


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_still_picture_of_any_length_is_one_shot(count: int) -> None:
    assert boundaries([ONE] * count) == []


def test_many_frames_of_one_shot_need_little_memory() -> None:
    detector = ContentDetector(time_base=TIME_BASE, params=SplitParams())
    wide = picture(1, width=400)
    for n in range(5000):
        left = abs(n % 600 - 300)
        assert detector.push(n * STEP, wide[:, left : left + 64]) == []
    assert detector._kept <= 30_000 // STEP
    assert detector.finish(5000 * STEP) == []


def test_cuts_over_several_blocks_come_once_and_in_order() -> None:
    frames = [picture(n) for n in range(60) for _ in range(30)]

    assert places(boundaries(frames)) == [("cut", 30 * n) for n in range(1, 60)]


@pytest.mark.parametrize("speed", [1, 2, 4])
def test_steady_motion_has_no_cut(speed: int) -> None:
    wide = picture(1, width=64 + 100 * speed)

    assert boundaries([wide[:, speed * n : speed * n + 64] for n in range(100)]) == []


def test_a_pan_that_starts_and_stops_has_no_cut() -> None:
    wide = picture(1, width=400)
    left = [0] * 30 + list(range(0, 160, 4)) + [160] * 30

    assert boundaries([wide[:, x : x + 64] for x in left]) == []


def test_a_shaking_camera_has_no_cut() -> None:
    rng = np.random.default_rng(0)
    wide = picture(1, width=96, height=60)
    frames = [wide[y : y + 36, x : x + 64] for x, y in rng.integers(8, 16, (100, 2))]

    assert boundaries(frames) == []


@pytest.mark.parametrize("length", [1, 2, 4, 8])
@pytest.mark.parametrize("light", [0, 255])
def test_flash_has_no_cut(length: int, light: int) -> None:
    for share in (0.6, 1.0):
        flash = [mixed(ONE, grey(light), share)] * length
        assert boundaries([ONE] * 30 + flash + [ONE] * 30) == []


def test_light_that_changes_and_stays_is_no_cut() -> None:
    assert boundaries([ONE] * 30 + [mixed(ONE, grey(255), 0.4)] * 30) == []


def test_a_picture_that_is_inserted_for_an_instant_is_no_shot() -> None:
    assert boundaries([ONE] * 30 + [TWO] * 3 + [ONE] * 30) == []


def test_shorter_than_the_shortest_shot_is_no_shot() -> None:
    frames = [ONE] * 30 + [TWO] * 4 + [THREE] * 30

    assert len(boundaries(frames)) == 1
    assert places(boundaries(frames, min_shot_ms=120)) == [("cut", 30), ("cut", 34)]


def test_no_short_shot_at_the_borders() -> None:
    assert boundaries([ONE] * 4 + [TWO] * 30) == []
    assert boundaries([ONE] * 30 + [TWO] * 4) == []
    assert places(boundaries([ONE] * 5 + [TWO] * 30)) == [("cut", 5)]
    assert places(boundaries([ONE] * 30 + [TWO] * 5)) == [("cut", 30)]


def test_noise_in_the_dark_is_no_cut() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 6, (36, 64, 3), dtype=np.uint8) for _ in range(100)]

    assert boundaries(frames) == []


def test_dark_pictures_are_cut_too() -> None:
    dark = [mixed(grey(0), one, 0.12) for one in (ONE, TWO)]

    assert places(boundaries([dark[0]] * 30 + [dark[1]] * 30)) == [("cut", 30)]


def test_another_slide_of_the_same_layout_is_a_cut() -> None:
    rng = np.random.default_rng(0)
    slides = []
    for _ in range(3):
        slide = grey(230)
        slide[2:6, 4:50] = 90  # the title bar, always there
        slide[10:30, 4:56] -= rng.integers(0, 40, (20, 52, 1), dtype=np.uint8)
        slides += [slide] * 50

    assert places(boundaries(slides)) == [("cut", 50), ("cut", 100)]


def test_a_subtitle_that_appears_is_no_cut() -> None:
    titled = ONE.copy()
    titled[32:34, 16:48] = 255

    assert boundaries([ONE] * 50 + [titled] * 50 + [ONE] * 50) == []


@pytest.mark.parametrize("repeat", [2, 3, 5])
def test_repeated_frames_are_no_cuts(repeat: int) -> None:
    wide = picture(1, width=400)
    frames = [wide[:, 3 * n : 3 * n + 64] for n in range(60) for _ in range(repeat)]

    assert boundaries(frames, step=17) == []


@pytest.mark.parametrize("count", [6, 12, 24, 38])
def test_dissolve_is_one_boundary_in_its_middle(count: int) -> None:
    frames = [ONE] * 60 + dissolve(ONE, TWO, count) + [TWO] * 60

    (found,) = boundaries(frames)

    assert found.kind == "dissolve"
    assert abs(found.pts / STEP - (60 + count / 2)) <= 1
    assert 60 <= found.start_pts / STEP <= 60 + count * 0.1 + 1
    assert 60 + count * 0.9 - 1 <= found.end_pts / STEP <= 60 + count


def test_dissolve_between_moving_pictures() -> None:
    one, two = picture(1, width=200), picture(2, width=200)
    frames = []
    for n in range(120):
        share = min(1.0, max(0.0, (n - 49) / 21))
        frames.append(mixed(one[:, n // 8 : n // 8 + 64], two[:, n // 8 : n // 8 + 64], share))

    (found,) = boundaries(frames)

    assert found.kind == "dissolve"
    assert 50 <= found.pts / STEP <= 70


def test_wipe_is_one_boundary() -> None:
    frames = [ONE] * 50
    for n in range(1, 20):
        wiped = ONE.copy()
        wiped[:, : round(64 * n / 20)] = TWO[:, : round(64 * n / 20)]
        frames.append(wiped)
    frames += [TWO] * 50

    (found,) = boundaries(frames)

    assert 50 <= found.pts / STEP <= 70


def test_wipe_between_moving_pictures_soon_after_a_fade() -> None:
    one, two = picture(1, width=200), picture(2, width=200)
    frames = [ONE] * 30 + dissolve(ONE, grey(0), 12) + [grey(0)] * 3
    for n in range(90):
        # 12 frames to come out of the dark, 6 to stand there, 15 to be wiped away.
        x = n // 11
        shown = mixed(grey(0), one[:, x : x + 64], min(1.0, n / 12))
        edge = min(64, max(0, round(64 * (n - 17) / 16)))
        shown[:, 64 - edge :] = two[:, x + 64 - edge : x + 64]
        frames.append(shown)

    fade, wipe = boundaries(frames)

    assert fade.kind == "fade"
    assert abs(wipe.start_pts / STEP - (45 + 18)) <= 2
    assert abs(wipe.end_pts / STEP - (45 + 33)) <= 2


def test_dissolve_between_two_stills_that_are_alike() -> None:
    """Two slides with the same picture, and other words beside it."""
    other = ONE.copy()
    other[:, 40:] = TWO[:, 40:]
    frames = [ONE] * 40 + dissolve(ONE, other, 20) + [other] * 40

    (found,) = boundaries(frames)

    assert found.kind == "dissolve"
    assert abs(found.pts / STEP - 50) <= 1


def test_light_that_rises_on_a_still_picture_is_no_boundary() -> None:
    bright = mixed(ONE, grey(255), 0.4)

    assert boundaries([ONE] * 40 + dissolve(ONE, bright, 20) + [bright] * 40) == []


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("hold", [1, 10, 40])
def test_fade_is_one_boundary_in_the_middle_of_the_empty_picture(level: int, hold: int) -> None:
    empty = grey(level)
    frames = [ONE] * 50 + dissolve(ONE, empty, 12) + [empty] * hold
    frames += dissolve(empty, TWO, 12) + [TWO] * 50

    (found,) = boundaries(frames)

    assert found.kind == "fade"
    assert abs(found.pts / STEP - (62 + hold / 2)) <= 2
    assert abs(found.start_pts / STEP - 50) <= 2
    assert abs(found.end_pts / STEP - (74 + hold)) <= 2


def test_after_a_long_black_a_shot_begins_with_its_picture() -> None:
    frames = [ONE] * 50 + dissolve(ONE, grey(0), 12) + [grey(0)] * 100 + [TWO] * 50

    assert places(boundaries(frames)) == [("cut", 162)]


@pytest.mark.parametrize("seconds", [3, 5, 20, 60])
def test_long_black_belongs_to_the_shot_before_it(seconds: int) -> None:
    black = [grey(0)] * (25 * seconds)

    assert places(boundaries([ONE] * 50 + black + [TWO] * 50)) == [("cut", 50 + len(black))]
    assert boundaries([ONE] * 50 + black) == []
    assert places(boundaries(black + [TWO] * 50)) == [("cut", len(black))]


def test_black_between_two_cuts_is_one_boundary() -> None:
    assert places(boundaries([ONE] * 50 + [grey(0)] * 5 + [TWO] * 50)) == [("cut", 55)]


def test_fading_out_at_the_end_and_in_at_the_start_is_no_boundary() -> None:
    frames = dissolve(grey(0), ONE, 20) + [ONE] * 50 + dissolve(ONE, grey(0), 20)

    assert boundaries([grey(0)] * 10 + frames + [grey(0)] * 100) == []


def test_variable_frame_rate_gives_exact_times() -> None:
    rng = np.random.default_rng(0)
    pts = np.cumsum(rng.integers(10, 120, 200)).tolist()

    found = boundaries([ONE] * 77 + [TWO] * 123, pts=pts)

    assert [one.pts for one in found] == [pts[77]]


def test_a_picture_that_stands_for_long_does_not_interrupt() -> None:
    # As one frame, of a screen that is recorded only where it changes.
    pts = [*range(0, 5000, STEP), 5000, *range(25_000, 30_000, STEP)]

    found = boundaries([ONE] * 125 + [TWO] + [ONE] * 125, pts=pts)

    assert [(one.kind, one.pts) for one in found] == [("cut", 5000), ("cut", 25_000)]


@pytest.mark.parametrize("shape", [(2, 64), (256, 64), (37, 64), (9, 16), (48, 100)])
def test_frames_of_any_shape(shape: tuple[int, int]) -> None:
    one, two = (
        picture(1, width=shape[1], height=shape[0]),
        picture(2, width=shape[1], height=shape[0]),
    )

    assert places(boundaries([one] * 50 + [two] * 50)) == [("cut", 50)]


def test_frames_that_change_their_shape_are_refused() -> None:
    detector = ContentDetector(time_base=TIME_BASE, params=SplitParams())
    detector.push(0, ONE)
    with pytest.raises(ContractError, match=r"\(36, 64, 3\) like the first, got \(20, 64, 3\)"):
        detector.push(STEP, ONE[:20])
    with pytest.raises(ContractError, match="float64"):
        ContentDetector(time_base=TIME_BASE, params=SplitParams()).push(0, ONE * 1.0)


def test_a_thousand_frames_a_second_are_judged_in_bounded_memory() -> None:
    detector = ContentDetector(time_base=TIME_BASE, params=SplitParams())
    found = []
    for n in range(20_000):
        found += detector.push(n, (ONE, TWO)[n // 5000 % 2])
    found += detector.finish(20_000)

    assert [one.pts for one in found] == [5000, 10_000, 15_000]
    assert detector._kept <= 17_000
