import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidFilter
from serving.expressions import CatalogueFilter
from serving.filters import (
    DuplicateFilter,
    Eligibility,
    ExpressionFilter,
    HiddenFilter,
    excluded,
    named,
    seen,
)
from tests.serving.doubles import batch_of, catalogue_of, history_of, indices, query_of

N = 20
CATALOGUE = catalogue_of(N)
RULES = CatalogueFilter(CATALOGUE)
DRAMA = {"genres": {"any": ["Drama"]}}
DRAMAS = {i for i, genres in enumerate(CATALOGUE.table.column("genres").to_pylist()) if "Drama" in genres}
items = st.lists(st.integers(0, N - 1), max_size=8)


@given(items, items, items, st.booleans())
def test_eligible_is_what_matches_and_is_not_hidden(
    history: list[int], exclude: list[int], asked: list[int], filtered: bool
) -> None:
    query = query_of(
        history=history_of(history),
        exclude=indices(exclude),
        items=indices(asked),
        filter=DRAMA if filtered else None,
    )
    matching = DRAMAS if filtered else set(range(N))
    for_user = Eligibility(RULES, seen, excluded).mask(query)
    similar = Eligibility(RULES, named, excluded).mask(query)
    assert set(np.flatnonzero(for_user)) == matching - set(history) - set(exclude)
    assert set(np.flatnonzero(similar)) == matching - set(asked) - set(exclude)


def test_an_index_of_no_item_hides_none() -> None:
    mask = Eligibility(RULES, excluded).mask(query_of(exclude=indices([-1, 3])))
    assert np.flatnonzero(~mask).tolist() == [3]


def test_what_one_query_hides_another_still_sees() -> None:
    eligibility = Eligibility(RULES, excluded)
    mask = eligibility.mask(query_of(exclude=indices([3])))
    assert eligibility.mask(query_of()).all()
    assert not mask.flags.writeable


def test_a_filter_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidFilter, match=r"filter\.genre: no such filter"):
        Eligibility(RULES, seen).mask(query_of(filter={"genre": {"any": ["Drama"]}}))


@given(items, items)
def test_the_stages_keep_what_eligibility_allows(history: list[int], exclude: list[int]) -> None:
    query = query_of(history=history_of(history), exclude=indices(exclude), filter=DRAMA)
    batch = batch_of(range(N))
    stages = HiddenFilter("seen", seen), HiddenFilter("excluded", excluded), ExpressionFilter(RULES)
    kept = np.logical_and.reduce([stage.keep(query, batch) for stage in stages])
    assert kept.tolist() == Eligibility(RULES, seen, excluded).mask(query).tolist()


def test_stages_with_nothing_to_do_decline() -> None:
    assert not HiddenFilter("seen", seen).enabled(query_of())
    assert not ExpressionFilter(RULES).enabled(query_of())
    assert HiddenFilter("seen", seen).enabled(query_of(history=history_of([1])))
    assert ExpressionFilter(RULES).enabled(query_of(filter=DRAMA))


@given(st.lists(st.integers(0, 5), max_size=12))
def test_the_first_of_duplicates_stays(candidates: list[int]) -> None:
    keep = DuplicateFilter().keep(query_of(), batch_of(candidates))
    assert keep.tolist() == [item not in candidates[:i] for i, item in enumerate(candidates)]
