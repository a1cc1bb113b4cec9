"""What the samplers that choose by stored embeddings share."""

import numpy as np
import pytest
import torch

import datasampler
from datasampler.storage import StorageSampler

NAMES = [
    name for name, sampler in datasampler.REGISTRY.items() if issubclass(sampler, StorageSampler)
]
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 10))


def sampler(name, labels=LABELS, batch_size=12, samples_per_class=2, seed=0, **options):
    return datasampler.select(
        name,
        labels,
        batch_size=batch_size,
        samples_per_class=samples_per_class,
        seed=seed,
        **options,
    )


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_who_needs_embeddings():
    assert NAMES == ["greedy_coreset", "d2_coreset", "disthist_batchmatch", "fid_batchmatch"]


@pytest.mark.parametrize("name", NAMES)
def test_refresh_is_required(name):
    with pytest.raises(RuntimeError, match="refresh"):
        iter(sampler(name))


@pytest.mark.parametrize("name", NAMES)
def test_refresh_wants_the_whole_split(name):
    with pytest.raises(ValueError, match="199 embeddings for 200 images"):
        sampler(name).refresh(normal(199, 4))


@pytest.mark.parametrize("name", NAMES)
def test_any_dtype_and_graph(name):
    chosen = sampler(name)
    chosen.refresh(normal(200, 4).double().requires_grad_())
    assert chosen.embeddings.dtype == torch.float32 and not chosen.embeddings.requires_grad
    expected = list(chosen)
    chosen.refresh(normal(200, 4))
    assert list(chosen) == expected
    chosen.refresh(normal(200, 4).half())
    assert len(list(chosen)) == len(chosen)


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_decide(name):
    chosen = sampler(name)
    chosen.refresh(normal(200, 4))
    first = list(chosen)
    chosen.refresh(normal(200, 4).flip(0))
    assert list(chosen) != first


@pytest.mark.parametrize("name", NAMES)
def test_equal_embeddings(name):
    chosen = sampler(name)
    chosen.refresh(torch.ones(200, 4))
    assert all(len(batch) == 12 for batch in chosen)


@pytest.mark.parametrize(
    "pool_size, samples_per_class, expected",
    [(64, 2, 64), (65, 2, 64), (64, 3, 63), (1, 2, 12), (512, 2, 200), (512, 3, 240)],
)
def test_size_of_the_pool(pool_size, samples_per_class, expected):
    chosen = sampler("greedy_coreset", samples_per_class=samples_per_class, pool_size=pool_size)
    pool = chosen.pool(np.random.default_rng(0))
    assert pool.shape == (expected // samples_per_class, samples_per_class)


def test_the_pool_has_distinct_random_classes():
    chosen, random = sampler("greedy_coreset", pool_size=20), np.random.default_rng(0)
    seen = set()
    for _ in range(30):
        pool = chosen.pool(random)
        assert len(set(LABELS[pool[:, 0]])) == 10 and len(np.unique(pool)) == 20
        assert (LABELS[pool] == LABELS[pool[:, :1]]).all()
        seen |= set(pool.ravel())
    assert len(seen) > 150


def test_classes_come_again_after_all_others_with_other_images():
    pool = sampler("greedy_coreset", pool_size=100).pool(np.random.default_rng(0))
    counts = np.bincount(LABELS[pool[:, 0]], minlength=20)
    assert sorted(counts) == [2] * 10 + [3] * 10 and len(np.unique(pool)) == 100


@pytest.mark.parametrize("name", NAMES)
def test_projection(name):
    chosen = sampler(name, projection_dim=3)
    embeddings = normal(200, 50)
    chosen.refresh(embeddings)
    first = chosen.embeddings
    assert first.shape == (200, 3)
    # Linear: the same matrix gives other embeddings.
    matrix = torch.linalg.lstsq(embeddings, first).solution
    chosen.set_epoch(4)
    chosen.refresh(2 * embeddings.flip(0))
    expected = 2 * embeddings.flip(0) @ matrix
    torch.testing.assert_close(chosen.embeddings, expected, rtol=1e-3, atol=1e-3)
    other = sampler(name, projection_dim=3, seed=1)
    other.refresh(embeddings)
    assert not torch.allclose(other.embeddings, first)


def test_projection_keeps_distances_and_never_adds_dimensions():
    chosen = sampler("greedy_coreset", projection_dim=400)
    chosen.refresh(normal(200, 50))
    assert torch.equal(chosen.embeddings, normal(200, 50))
    chosen.refresh(normal(200, 1000))
    ratio = torch.pdist(chosen.embeddings) / torch.pdist(normal(200, 1000))
    assert abs(ratio.mean() - 1) < 0.02 and ratio.std() < 0.1


@pytest.mark.parametrize("name", ["disthist_batchmatch", "fid_batchmatch"])
def test_batchmatch_keeps_the_cheapest_candidate(name, monkeypatch):
    chosen = sampler(name, pool_size=40, candidates=7)
    chosen.refresh(normal(200, 4))
    calls, compute = [], type(chosen).costs

    def costs(pool, candidates):
        calls.append((pool, candidates, compute(chosen, pool, candidates)))
        return calls[-1][2]

    monkeypatch.setattr(chosen, "costs", costs)
    for batch in chosen:
        pool, candidates, values = calls[-1]
        assert pool.shape == (40, 4) and candidates.shape == (7, 12)
        assert all(len(set(row)) == 12 for row in candidates.tolist())
        best = min(range(7), key=lambda row: values[row])
        assert torch.equal(chosen.embeddings[batch], pool[candidates[best]])
