import mmh3
from hypothesis import example, given
from hypothesis import strategies as st

from features.hashing import hashed

ANY = st.text(st.characters(categories=None), max_size=9)
"""Halves of surrogate pairs among them."""


@given(st.lists(ANY))
@example(["\ud800"])
def test_any_string_has_a_hash_that_depends_on_it_alone(ids: list[str]) -> None:
    found = hashed(ids)
    assert len(found) == len(ids)
    assert [hashed([one])[0] for one in ids] == found.tolist()


@given(st.lists(st.text(max_size=9)))
def test_it_is_murmur_hash_of_utf_8(ids: list[str]) -> None:
    assert hashed(ids).tolist() == [mmh3.hash(one, signed=False) for one in ids]
