"""Every public name has one place in the reference."""

import tokenkl as tk
from website.questions import GROUPS, public_names, rest_of, ungrouped


def test_every_name_is_in_one_group() -> None:
    assert ungrouped() == ([], [])


def test_names_are_those_of_the_package() -> None:
    assert set(tk.__all__) <= public_names()
    assert all(hasattr(tk, name) for name in public_names())


def test_rooms_show_what_the_package_has_not() -> None:
    for group in GROUPS:
        for room in group.rooms:
            assert all(hasattr(getattr(tk, room), name) for name in rest_of(room))
            assert not set(rest_of(room)) & set(tk.__all__)
    assert "fano_error" in rest_of("bounds")
    assert "Markov" in rest_of("sources")
