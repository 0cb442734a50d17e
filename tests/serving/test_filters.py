"""What may be shown, and the filter stages: by hand from the catalogue, for each request of a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batch import Queries
from serving.eligibility import Eligibility, hidden, not_itself
from serving.errors import InvalidFilter
from serving.expressions import CatalogueFilter
from serving.filters import DuplicateFilter, EligibleFilter
from serving.types import Query
from tests.serving.doubles import batch_of, catalogue_of, history_of, indices, queries_of, query_of

N = 20
CATALOGUE = catalogue_of(N)
ELIGIBILITY = Eligibility(CatalogueFilter(CATALOGUE))
DRAMA = {"genres": {"any": ["Drama"]}}
DRAMAS = {i for i, genres in enumerate(CATALOGUE.table.column("genres").to_pylist()) if "Drama" in genres}
items = st.lists(st.integers(0, N - 1), max_size=8)
queries = st.builds(
    lambda **given_fields: query_of(**given_fields),
    history=items.map(history_of),
    met=items.map(indices),
    disliked=items.map(indices),
    exclude=st.lists(st.integers(-1, N - 1), max_size=8).map(indices),  # -1: an item of no catalogue
    items=items.map(indices),
    seen=st.sampled_from(["exclude", "allow"]),
    filter=st.sampled_from([None, DRAMA]),
)


def set_of(*columns: np.ndarray) -> set[int]:
    return {int(item) for column in columns for item in column}


def matching(query: Query) -> set[int]:
    """By hand."""
    return set(range(N)) if query.filter is None else DRAMAS


def allowed(query: Query) -> set[int]:
    """By hand."""
    gone = set_of(query.exclude)
    if query.seen == "exclude":
        gone |= set_of(query.history.item_index, query.met)
    else:
        gone |= set_of(query.disliked)
    return matching(query) - gone


@given(st.lists(queries, min_size=1, max_size=5))
def test_eligible_is_what_matches_and_is_not_hidden_for_each_request(several: list[Query]) -> None:
    asked = queries_of(*several)
    eligible = ELIGIBILITY.of(asked)
    scores = np.tile(np.arange(N, dtype=np.float32), (len(several), 1))
    chosen = eligible.of(scores)
    every = batch_of(*([range(N)] * len(several)))
    checked = eligible.allows(every.items).reshape(len(several), N)
    for row, query in enumerate(several):
        assert set(np.flatnonzero(eligible.matching(row))) == matching(query)
        assert set(np.flatnonzero(chosen[row] > -np.inf)) == allowed(query)
        assert set(np.flatnonzero(checked[row])) == allowed(query)
    np.testing.assert_array_equal(EligibleFilter(ELIGIBILITY).keep(asked, every), checked.ravel())


@given(st.lists(queries, min_size=1, max_size=4))
def test_an_item_is_not_similar_to_itself(several: list[Query]) -> None:
    asked = Queries.of(several, 0, [not_itself(query) for query in several])
    chosen = ELIGIBILITY.of(asked).of(np.zeros((len(several), N), np.float32))
    for row, query in enumerate(several):
        expected = matching(query) - set_of(query.items, query.exclude)
        assert set(np.flatnonzero(chosen[row] > -np.inf)) == expected


def test_what_was_met_is_hidden_and_where_it_may_come_again_only_what_was_disliked() -> None:
    query = query_of(
        history=history_of([1]), met=indices([2, 3]), disliked=indices([3]), exclude=indices([4])
    )
    assert set(hidden(query)) == {1, 2, 3, 4}
    assert set(hidden(query_of(seen="allow", disliked=query.disliked, exclude=query.exclude))) == {3, 4}


def test_what_one_query_hides_another_still_sees() -> None:
    one, other = queries_of(query_of(exclude=indices([3]))), queries_of(query_of())
    scores = np.zeros((1, N), np.float32)
    assert np.flatnonzero(ELIGIBILITY.of(one).of(scores) < 0).tolist() == [3]
    assert (ELIGIBILITY.of(other).of(scores) == 0).all()
    assert (scores == 0).all()  # a copy is masked


def test_a_mask_is_made_once_for_a_batch_and_for_equal_filters() -> None:
    asked = queries_of(query_of(filter=DRAMA), query_of(), query_of(filter=dict(DRAMA)))
    eligible = ELIGIBILITY.of(asked)
    assert eligible is ELIGIBILITY.of(asked)
    assert len(eligible.masks) == 2


def test_a_filter_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidFilter, match=r"filter\.genre: no such filter"):
        ELIGIBILITY.of(queries_of(query_of(filter={"genre": {"any": ["Drama"]}})))


@given(st.lists(st.lists(st.integers(0, 5), max_size=12), min_size=1, max_size=4))
def test_the_first_of_duplicates_stays_and_other_requests_do_not_matter(lists: list[list[int]]) -> None:
    keep = DuplicateFilter().keep(queries_of(*[query_of()] * len(lists)), batch_of(*lists))
    assert keep.tolist() == [item not in each[:i] for each in lists for i, item in enumerate(each)]
