"""A batch that several processes share: losses, gradients and weights are those of one process."""

import pytest
import steps
import torch
from group import Group

from utilities.runtime import Runtime

# Number of processes -> every how many-th case they make.
GROUPS = {2: 1, 4: 7}
TOLERANCES = {torch.float64: (1e-10, 1e-11), torch.float32: (1e-5, 1e-6)}


def cases_of(size: int) -> list[steps.Case]:
    return [*list(steps.equal())[:: GROUPS[size]], *steps.alike()]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[int, list[dict[str, steps.Made]]]:
    """Number of processes -> of each of them what every case gave, by its name."""
    folders = {size: tmp_path_factory.mktemp(f"of_{size}") for size in GROUPS}
    groups = {
        size: Group(size, folder, steps.make_all, folder, cases_of(size))
        for size, folder in folders.items()
    }
    for group in groups.values():
        assert not any(group.statuses()), group.errors()
    return {
        size: [torch.load(folder / f"{rank}.pt") for rank in range(size)]
        for size, folder in folders.items()
    }


def tensors(made: steps.Made) -> list[torch.Tensor]:
    losses, gradients, weights = made
    return [losses, *(gradient for gradient in gradients if gradient is not None), *weights]


@pytest.mark.parametrize("case", steps.equal(), ids=lambda case: case.name)
def test_steps_are_those_of_one_process(made, case):
    expected = tensors(steps.make(case, Runtime()))
    rtol, atol = TOLERANCES[case.dtype]
    for processes in made.values():
        for ours in processes:
            if case.name in ours:
                torch.testing.assert_close(tensors(ours[case.name]), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("size", GROUPS)
def test_all_processes_have_the_same_to_the_last_bit(made, size):
    first, *others = made[size]
    assert first.keys() == {case.name for case in cases_of(size)}
    for other in others:
        for name in first:
            for ours, theirs in zip(tensors(first[name]), tensors(other[name])):
                assert torch.equal(ours, theirs), name
