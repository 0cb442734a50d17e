from loadtests.bench.machine import LIBRARIES, _models, machine, read_bandwidth


def test_the_machine_is_described() -> None:
    found = machine()
    assert found.cpu
    assert found.cores >= 1
    assert found.memory > 1 << 28
    assert set(found.libraries) == set(LIBRARIES)
    assert found.bandwidth > 0


def test_bandwidth_leaves_the_threads_as_they_were() -> None:
    import torch

    before = torch.get_num_threads()
    assert read_bandwidth(before + 1, size=1 << 20, passes=2) > 0
    assert torch.get_num_threads() == before


def test_the_model_is_read_of_every_core() -> None:
    assert list(_models("processor : 0\nmodel name\t: A: B\n\nmodel name : C\n")) == ["A: B", "C"]
