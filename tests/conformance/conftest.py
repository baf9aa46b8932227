"""The room of media, and what splitting makes of it."""

import shutil
from collections.abc import Iterator

import pytest
from conformance import own_media
from conformance.outcomes import Outcomes
from conformance.room import Room, media_folder, read_room

_ROOM = pytest.StashKey[Room]()


def pytest_configure(config: pytest.Config) -> None:
    folder = media_folder()
    room = read_room(folder) if (folder / "manifest.json").is_file() else own_media.make_room()
    config.stash[_ROOM] = room


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "entry" in metafunc.fixturenames:
        entries = metafunc.config.stash[_ROOM].entries.values()
        metafunc.parametrize("entry", entries, ids=lambda entry: entry.file)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    room = config.stash[_ROOM]
    terminalreporter.write_line(f"conformance: {len(room.entries)} files of {room.name}")


@pytest.fixture(scope="session")
def room(pytestconfig: pytest.Config) -> Room:
    return pytestconfig.stash[_ROOM]


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, room: Room, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcomes]:
    """Of the files whose tests were selected; work begins at once."""
    folder = tmp_path_factory.mktemp("outcomes")
    found = Outcomes(room, folder)
    mine = [item for item in request.session.items if item.path == request.path]
    calls = [getattr(item, "callspec", None) for item in mine]
    found.start(call.params["entry"] for call in calls if call and "entry" in call.params)
    yield found
    found.close()
    shutil.rmtree(folder)
