"""A listing is remembered in little space."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.runner.sweep import ListedPlaces


@given(listed=st.lists(st.text()), asked=st.lists(st.text()))
def test_missing_is_what_was_not_added(listed: list[str], asked: list[str]) -> None:
    places = ListedPlaces()
    for uri in listed:
        places.add(uri)
    assert len(places) == len(listed)
    assert places.missing([*asked, *listed]) == [
        *(uri not in listed for uri in asked),
        *(False for _ in listed),
    ]
    # More may follow after a question.
    places.add("one more")
    assert places.missing(["one more"]) == [False]
