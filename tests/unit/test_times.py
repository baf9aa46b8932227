import pytest

from pipeline.errors import ConfigurationError
from pipeline.times import parse_time


@pytest.mark.parametrize(
    ("given", "expected"),
    [("0", 0), ("12", 12_000), ("12.5", 12_500), ("90", 90_000), ("00:12", 12_000),
     ("75:00", 4_500_000), ("1:02:03.045", 3_723_045), (" 01:00 ", 60_000), ("0.001", 1)],
)  # fmt: skip
def test_times(given: str, expected: int) -> None:
    assert parse_time(given, "--at") == expected


@pytest.mark.parametrize(
    "given", ["", "-5", "1:60", "1:60:00", "1:2:3:4", "ten", "1.2345", "1,5", "12:", "٣", "9" * 30]
)
def test_what_is_no_time(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--at .* is no time: write seconds"):
        parse_time(given, "--at")
