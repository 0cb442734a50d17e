from loadtests.bench.machine import LIBRARIES, machine


def test_the_machine_is_described() -> None:
    found = machine()
    assert found.cpu
    assert found.cores >= 1
    assert found.memory > 1 << 28
    assert set(found.libraries) == set(LIBRARIES)
