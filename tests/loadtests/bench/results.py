"""Sections of every kind, for hypothesis."""

from hypothesis import strategies as st

from loadtests.bench.machine import Machine
from loadtests.bench.result import Entry, Goal, Section, Spread, Table

number = st.floats(allow_nan=False, allow_infinity=False)
word = st.text(max_size=12)
name = st.text("abcdefghij", min_size=1, max_size=6)
spread = st.lists(number, min_size=1, max_size=5).map(lambda values: Spread(tuple(values)))
cell = st.one_of(spread, number, st.integers(-(2**60), 2**60), word)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = draw(st.lists(word, min_size=1, max_size=4))
    row = st.tuples(*[cell] * len(columns))
    return Table(draw(word), tuple(columns), tuple(draw(st.lists(row, max_size=4))))


goals = st.builds(Goal, word, spread, st.sampled_from(["at most", "at least"]), number, word)
sections = st.builds(
    Section,
    name,
    word,
    word,
    st.lists(tables(), max_size=2).map(tuple),
    st.lists(goals, max_size=2).map(tuple),
    word,
)
machines = st.builds(
    Machine,
    cpu=word,
    cores=st.integers(1, 512),
    memory=st.integers(1, 2**50),
    gpu=word,
    kernel=word,
    python=word,
    libraries=st.dictionaries(name, word, max_size=3),
)
entries = st.builds(
    Entry, sections, date=word, command=word, quick=st.booleans(), seconds=number, machine=machines
)

MACHINE = Machine("a cpu", 2, 8 << 30, "", "6.1", "3.11", {"torch": "2"})


def entry(section: Section, *, quick: bool = False) -> Entry:
    return Entry(section, "2024-01-01T00:00+00:00", "python -m loadtests.bench", quick, 1.0, MACHINE)


def found(called: str, value: float, **more: object) -> Section:
    """A section with one figure."""
    return Section(called, called.title(), "", (Table("", ("it",), ((value,),)),), **more)  # type: ignore[arg-type]  # parameters of a test are wider
