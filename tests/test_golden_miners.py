"""Admissible triplets and their probabilities for every registered miner."""
import numpy as np
import pytest
import torch
from reference import assert_close, cases, resolve

import batchminer

NOT_ARGUMENTS = ("upper_cutoff_used",)


def build(entry, form="paper"):
    miner = batchminer.select(entry["miner"], form=form, **{name: value for name, value in entry["hparams"].items() if name not in NOT_ARGUMENTS})
    miner.generator = torch.Generator().manual_seed(0)
    return miner


@pytest.mark.parametrize("entry", cases("miner", lambda entry: entry["miner"] in batchminer.REGISTRY))
def test_draws_follow_the_golden_probabilities(entry):
    inputs, expected = resolve(entry, entry["inputs"]), resolve(entry, entry["outputs"])["repo"]
    embeddings, labels = torch.from_numpy(inputs["embeddings"]), torch.from_numpy(inputs["labels"]).long()
    miner, draws = build(entry), 20_000 // len(labels)
    keys, counts = np.unique(np.concatenate([miner(embeddings, labels).numpy() for _ in range(draws)]), axis=0, return_counts=True)
    found = dict(zip(map(tuple, keys.tolist()), counts.tolist()))
    golden = dict(zip(map(tuple, expected["triplets"].tolist()), expected["prob"].tolist()))
    assert set(found) <= {triplet for triplet, probability in golden.items() if probability > 0}
    common = {triplet: probability * draws for triplet, probability in golden.items() if probability * draws >= 5}
    assert sum(common.values()) > 0.8 * sum(golden.values()) * draws
    statistic = sum((found.get(triplet, 0) - mean) ** 2 / mean for triplet, mean in common.items())
    # A chi-squared variable has mean n and variance 2n; five standard deviations, with a fixed seed.
    assert statistic < len(common) + 5 * np.sqrt(2 * len(common))


@pytest.mark.parametrize("reference, form", [("repo", "paper"), ("textbook", "textbook")])
@pytest.mark.parametrize("entry", cases("miner", lambda entry: entry["miner"] == "distance"))
def test_negative_probabilities_of_the_distance_miner(entry, reference, form):
    inputs, expected = resolve(entry, entry["inputs"]), resolve(entry, entry["outputs"])[reference]["q_d_inv"]
    embeddings, labels = torch.from_numpy(inputs["embeddings"]), torch.from_numpy(inputs["labels"]).long()
    negatives = labels[:, None] != labels[None, :]
    weights = build(entry, form).negative_weights(embeddings, negatives)
    remaining = torch.from_numpy(expected).sum(1) > 0  # a row of zeros stands for: all negatives alike
    assert_close((weights / weights.sum(1, keepdim=True))[remaining], expected[remaining], 1e-8)
    assert torch.equal(weights[~remaining] > 0, negatives[~remaining])
