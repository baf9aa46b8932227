"""Every file gives the result that its manifest states.

``MEDIAWEAVE_TEST_MEDIA`` names the folder; where there is none, the tests make their own media.
"""

import socket
from collections.abc import Callable, Iterator

import pytest
from conformance.check_cues import check_cues
from conformance.check_ending import check_bounds, check_ending
from conformance.check_headers import check_headers
from conformance.check_pictures import check_pictures
from conformance.check_shots import check_keyframes, check_shots
from conformance.check_sound import check_sound
from conformance.outcomes import Case, Outcomes
from conformance.room import CORRECTIONS, Entry, Room

Check = Callable[[Case], Iterator[str]]

#: Each yields sentences about what is not as it should be. A check of something that results do
#: not tell yet (how a shot starts, stretches, the stream of the sound, sources of cues) goes here.
CHECKS: tuple[Check, ...] = (
    check_ending,
    check_bounds,
    check_headers,
    check_shots,
    check_keyframes,
    check_sound,
    check_cues,
    check_pictures,
)
#: Where playlists and pages among the media point to.
CANARY_TCP, CANARY_UDP = 18_999, 18_998


@pytest.fixture(scope="module", autouse=True)
def canaries() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Listening before the first file is opened."""
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for each, port in ((tcp, CANARY_TCP), (udp, CANARY_UDP)):
        # Two test runs on one machine may both listen.
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        each.bind(("127.0.0.1", port))
        each.setblocking(False)
    tcp.listen()
    with tcp, udp:
        yield tcp, udp


def test_file(entry: Entry, outcomes: Outcomes) -> None:
    case = outcomes.case(entry)

    complaints = [sentence for check in CHECKS for sentence in check(case)]

    assert complaints == []


def test_no_file_reached_another_place(
    canaries: tuple[socket.socket, socket.socket], outcomes: Outcomes, room: Room
) -> None:
    """What names other places is worked on, if that was not selected, and nothing arrived."""
    for entry in room.entries.values():
        if entry.file.endswith((".m3u8", ".mpd", ".sdp", ".svg", ".ffconcat")):
            outcomes.of(entry.file)

    with pytest.raises(BlockingIOError):
        canaries[0].accept()
    with pytest.raises(BlockingIOError):
        canaries[1].recv(1)


def test_corrections_are_of_files_that_are_there(room: Room) -> None:
    if not any(file in room.entries for file in CORRECTIONS):
        pytest.skip("the media are the tests' own")
    assert set(CORRECTIONS) <= set(room.entries)
