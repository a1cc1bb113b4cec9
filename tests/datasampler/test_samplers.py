"""What holds for every sampler of the registry."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import datasampler
from datasampler.storage import StorageSampler
from utilities.errors import UserError

BUILD = Path(__file__).resolve().parents[2] / "build.py"
CLASS_SIZES = {3: 9, 4: 12, 90: 5, 7: 20, 55: 7, 12: 12, 1: 10, 0: 2}  # 77 images
LABELS = np.random.default_rng(0).permutation(
    np.repeat(list(CLASS_SIZES), list(CLASS_SIZES.values()))
)
SPLITS = {
    "even": np.repeat(np.arange(10), 12),
    "mixed": LABELS,
    "lone images": np.arange(40),
    "one class": np.full(50, 7),
    "one large": np.repeat([0, 1, 2], [60, 1, 3]),
    "a batch": np.repeat([5, 2], [1, 11]),
}


def sampler(
    name,
    labels=LABELS,
    batch_size=12,
    samples_per_class=2,
    seed=0,
    embeddings=None,
    **options,
):
    chosen = datasampler.select(
        name,
        labels,
        batch_size=batch_size,
        samples_per_class=samples_per_class,
        seed=seed,
        **options,
    )
    if isinstance(chosen, StorageSampler):
        if embeddings is None:
            embeddings = torch.randn(len(labels), 6, generator=torch.Generator().manual_seed(0))
        chosen.refresh(embeddings)
    return chosen


def epoch(chosen, number: int) -> list[list[int]]:
    chosen.set_epoch(number)
    return list(chosen)


def handed_over() -> set[str]:
    """The options that a run gives to its sampler, beside what every sampler takes."""
    calls = [node for node in ast.walk(ast.parse(BUILD.read_text())) if isinstance(node, ast.Call)]
    (selecting,) = [call for call in calls if ast.unparse(call.func) == "datasampler.select"]
    given = {str(keyword.arg) for keyword in selecting.keywords}
    return given - set(inspect.signature(datasampler.select).parameters)


@pytest.fixture(params=datasampler.REGISTRY)
def name(request):
    return request.param


@pytest.mark.parametrize("samples_per_class", [1, 2, 3, 4, 12])
@pytest.mark.parametrize("split", SPLITS)
def test_batches_have_the_announced_number_and_size(name, split, samples_per_class):
    labels = SPLITS[split]
    chosen = sampler(name, labels, samples_per_class=samples_per_class)
    for number in range(3):
        drawn = epoch(chosen, number)
        assert len(drawn) == len(chosen) and type(len(chosen)) is int
        for batch in drawn:
            assert len(batch) == 12
            assert all(type(index) is int and 0 <= index < len(labels) for index in batch)


@pytest.mark.parametrize("images", [12, 23, 24, 77])
def test_length(name, images):
    length = len(sampler(name, LABELS[:images]))
    assert length == images // 12 or (name == "class_balanced" and length > images // 12)


@pytest.mark.parametrize("samples_per_class", [2, 3, 4])
def test_blocks_of_one_class(name, samples_per_class):
    size = {"random": 1, "semi_class_random": 2}.get(name, samples_per_class)
    for batch in sampler(name, samples_per_class=samples_per_class):
        assert (LABELS[batch].reshape(-1, size) == LABELS[batch].reshape(-1, size)[:, :1]).all()


def test_deterministic_per_seed_and_epoch(name):
    first = epoch(sampler(name, seed=3), 7)
    assert first == epoch(sampler(name, seed=3), 7)
    other_seed, other_epoch = epoch(sampler(name, seed=4), 7), epoch(sampler(name, seed=3), 8)
    assert first != other_seed != other_epoch != first


def test_an_epoch_does_not_depend_on_the_epochs_before(name):
    chosen = sampler(name)
    list(chosen), epoch(chosen, 1), list(chosen)
    assert epoch(chosen, 5) == epoch(sampler(name), 5)


def test_global_generators_are_neither_read_nor_moved(name):
    np.random.seed(0)
    torch.manual_seed(0)
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = list(sampler(name, projection_dim=3))
    assert (np.random.get_state()[1] == numpy_state).all()
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.random.seed(1)
    torch.manual_seed(1)
    assert first == list(sampler(name, projection_dim=3))


def test_too_few_images(name):
    with pytest.raises(UserError, match="--bs 12.*11"):
        sampler(name, LABELS[:11])


def test_options_are_those_of_the_constructor(name):
    arguments = set(datasampler.REGISTRY[name].__init__.__kwdefaults__ or ())
    assert set(datasampler.REGISTRY[name].OPTIONS) == arguments
    assert set(datasampler.REGISTRY[name].OPTIONS) <= handed_over()


def test_a_run_gives_no_option_that_no_sampler_takes():
    taken = [set(sampler.OPTIONS) for sampler in datasampler.REGISTRY.values()]
    assert handed_over() == set().union(*taken)


def test_select_passes_only_own_options(name):
    given = {
        "internal_split": 0.5,
        "repeat_half": True,
        "pool_size": 40,
        "candidates": 3,
        "d2_lambda": 2.0,
        "projection_dim": 4,
        "unknown": 0,
    }
    assert len(list(sampler(name, **given))) == len(sampler(name))


def test_the_first_line_of_the_docstring_is_a_sentence(name):
    line = datasampler.REGISTRY[name].__doc__.splitlines()[0]
    assert line[0].isupper() and line.endswith(".")


def test_the_scale_of_online_products(name):
    class_sizes = np.random.default_rng(0).integers(2, 10, 22_000)
    labels = np.repeat(np.arange(22_000), class_sizes)[:120_000]
    embeddings = torch.randn(len(labels), 16, generator=torch.Generator().manual_seed(0))
    chosen = sampler(name, labels, batch_size=112, embeddings=embeddings)
    batches = [batch for batch, _ in zip(chosen, range(20))]
    assert all(len(batch) == 112 for batch in batches)
