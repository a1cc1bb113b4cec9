"""Admissible triplets and their probabilities for every miner of the manifest."""

import inspect

import numpy as np
import pytest
import torch
from reference import assert_close, cases, resolve

import batchminer

NOT_ARGUMENTS = ("upper_cutoff_used",)
DRAWS = 20_000


def build(entry, form="paper"):
    given = {name: value for name, value in entry["hparams"].items() if name not in NOT_ARGUMENTS}
    if "form" in inspect.signature(batchminer.REGISTRY[entry["miner"]]).parameters:
        given["form"] = form
    miner = batchminer.select(entry["miner"], **given)
    miner.generator = torch.Generator().manual_seed(0)
    return miner


def batch(entry):
    inputs = resolve(entry, entry["inputs"])
    return torch.from_numpy(inputs["embeddings"]), torch.from_numpy(inputs["labels"]).long()


def draw(miner, embeddings, labels, columns) -> tuple[dict, int]:
    """How often each combination of the columns came in about 20,000 draws; in how many batches."""
    batches = DRAWS // len(labels)
    drawn = np.concatenate(
        [np.unique(miner(embeddings, labels).numpy()[:, :columns], axis=0) for _ in range(batches)]
    )
    keys, counts = np.unique(drawn, axis=0, return_counts=True)
    return dict(zip(map(tuple, keys.tolist()), counts.tolist())), batches


@pytest.mark.parametrize("entry", cases("miner"))
def test_draws_follow_the_golden_probabilities(entry):
    expected = resolve(entry, entry["outputs"])["repo"]
    admissible = expected["triplets"] if "triplets" in expected else expected["pairs"]
    found, batches = draw(build(entry), *batch(entry), admissible.shape[1])
    golden = dict(zip(map(tuple, admissible.tolist()), expected["prob"].tolist()))
    assert set(found) <= {key for key, probability in golden.items() if probability > 0}
    # What is expected 20 times is missing once in half a billion runs.
    assert {key for key, probability in golden.items() if probability * batches >= 20} <= set(found)
    common = {
        key: probability * batches
        for key, probability in golden.items()
        if probability * batches >= 5
    }
    assert sum(common.values()) > 0.8 * sum(golden.values()) * batches
    statistic = sum((found.get(key, 0) - mean) ** 2 / mean for key, mean in common.items())
    # A chi-squared variable has mean n and variance 2n; five standard deviations, with a fixed
    # seed.
    assert statistic < len(common) + 5 * np.sqrt(2 * len(common))


@pytest.mark.parametrize(
    "entry",
    cases("miner", lambda entry: "textbook" in entry["outputs"] and entry["miner"] != "distance"),
)
def test_textbook_triplets_are_the_admissible_ones(entry):
    golden = {
        tuple(triplet)
        for triplet in resolve(entry, entry["outputs"])["textbook"]["triplets"].tolist()
    }
    found, batches = draw(build(entry, "textbook"), *batch(entry), 3)
    assert set(found) <= golden
    assert len(found) > 0.9 * min(len(golden), batches)


@pytest.mark.parametrize("entry", cases("miner", lambda entry: entry["miner"] == "npair"))
def test_every_negative_comes_with_each_anchor(entry):
    embeddings, labels = batch(entry)
    triplets = build(entry)(embeddings, labels)
    mask = torch.zeros(len(labels), len(labels), dtype=torch.bool)
    mask[triplets[:, 0], triplets[:, 2]] = True
    expected = torch.from_numpy(resolve(entry, entry["outputs"])["repo"]["negative_mask"]).bool()
    anchors = triplets[:, 0].unique()
    assert torch.equal(
        mask[anchors], expected[anchors] if len(expected) == len(labels) else expected
    )
    assert len(triplets) == mask.sum()


@pytest.mark.parametrize("reference, form", [("repo", "paper"), ("textbook", "textbook")])
@pytest.mark.parametrize(
    "entry", cases("miner", lambda entry: entry["miner"] in ("distance", "rho_distance"))
)
def test_negative_probabilities_of_the_distance_miners(entry, reference, form):
    embeddings, labels = batch(entry)
    expected = resolve(entry, entry["outputs"]).get(reference, {}).get("q_d_inv")
    if expected is None:
        return  # the manifest gives this form only where it exists
    negatives = labels[:, None] != labels[None, :]
    weights = build(entry, form).negative_weights(embeddings, negatives)
    remaining = (
        torch.from_numpy(expected).sum(1) > 0
    )  # a row of zeros stands for: all negatives alike
    assert_close((weights / weights.sum(1, keepdim=True))[remaining], expected[remaining], 1e-8)
    assert torch.equal(weights[~remaining] > 0, negatives[~remaining])
