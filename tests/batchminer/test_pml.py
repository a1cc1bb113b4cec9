"""The bridge to the miners of pytorch-metric-learning, where that library is installed."""

import pytest
import torch

import batchminer
import criteria
from utilities.errors import UserError
from utilities.types import ModelOutput, NativeMiner

pytest.importorskip("pytorch_metric_learning")


def unit(count: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def triplets(miner, x: torch.Tensor, labels: list) -> set:
    mined = miner(x, torch.tensor(labels))
    assert mined.dtype == torch.long and mined.shape == (len(mined), 3) and not mined.requires_grad
    found = set(map(tuple, mined.tolist()))
    assert len(found) == len(mined)
    return found


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [5, 5, 5, 9, 9, 1, 30, 5], [0, 0, 0, 7]])
@pytest.mark.parametrize("margin", [0.1, -0.2, 0.0])
def test_multisimilarity_agrees_with_the_own_miner(margin, labels):
    own = batchminer.select("multisimilarity", margin=margin)
    theirs = batchminer.select("pml:MultiSimilarityMiner", args=f'{{"epsilon": {margin}}}')
    found = [triplets(own, unit(len(labels), seed), labels) for seed in range(20)]
    assert found == [triplets(theirs, unit(len(labels), seed), labels) for seed in range(20)]
    assert any(found)


def test_ties_are_left_out_by_both():
    """Similarities that differ by exactly the margin: both ask for strictly less and more."""
    x, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64), [0, 0, 1]
    for margin, expected in ((0.0, {1}), (0.5, {0, 1}), (-1.0, set())):
        own = batchminer.select("multisimilarity", margin=margin)
        theirs = batchminer.select("pml:MultiSimilarityMiner", args=f'{{"epsilon": {margin}}}')
        assert {a for a, _, _ in triplets(own, x, labels)} == expected
        assert triplets(own, x, labels) == triplets(theirs, x, labels)


def test_the_argument_counts():
    x, labels = unit(12), [i // 3 for i in range(12)]
    few, many = (
        triplets(
            batchminer.select("pml:MultiSimilarityMiner", args=f'{{"epsilon": {epsilon}}}'),
            x,
            labels,
        )
        for epsilon in (-0.5, 0.5)
    )
    assert few < many


@pytest.mark.parametrize("labels", [[3, 3, 3], [0, 1, 2], [4]])
@pytest.mark.parametrize("name", ["MultiSimilarityMiner", "TripletMarginMiner", "BatchHardMiner"])
def test_no_triplet_is_no_error(name, labels):
    assert triplets(batchminer.select(f"pml:{name}"), unit(len(labels)), labels) == set()


@pytest.mark.parametrize(
    "name",
    [
        "MultiSimilarityMiner",
        "TripletMarginMiner",
        "BatchHardMiner",
        "BatchEasyHardMiner",
        "HDCMiner",
    ],
)
def test_triplets_of_pair_and_of_triplet_miners_fit_the_labels(name):
    labels = [i // 3 for i in range(12)]
    found = triplets(batchminer.select(f"pml:{name}"), unit(12), labels)
    assert found and all(a != p and labels[a] == labels[p] != labels[n] for a, p, n in found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_number_format(dtype):
    labels = [i // 3 for i in range(12)]
    assert triplets(
        batchminer.select("pml:MultiSimilarityMiner"), unit(12).to(dtype).requires_grad_(), labels
    )


@pytest.mark.parametrize("name, parts", [("MultiSimilarityMiner", 4), ("TripletMarginMiner", 3)])
def test_native_tuples_are_the_library_s_own_form(name, parts):
    miner, x, labels = batchminer.select(f"pml:{name}"), unit(12), torch.arange(12) // 3
    mined, direct = miner.native(x, labels), miner.miner(x, labels)
    assert len(mined) == parts and all(
        torch.equal(part, other) for part, other in zip(mined, direct)
    )
    positives = labels[mined[0]] == labels[mined[1]]
    negatives = labels[mined[parts - 2 if parts == 4 else 0]] != labels[mined[-1]]
    assert len(positives) and positives.all() and len(negatives) and negatives.all()


def test_only_miners_of_the_library_are_native():
    assert isinstance(batchminer.select("pml:MultiSimilarityMiner"), NativeMiner)
    assert not any(isinstance(batchminer.select(name), NativeMiner) for name in batchminer.REGISTRY)


def test_a_distance_of_the_library_can_be_named():
    miner = batchminer.select(
        "pml:TripletMarginMiner",
        args='{"margin": 0.4, "distance": {"pml": "distances.LpDistance", "power": 2}}',
    )
    assert (
        miner.miner.margin,
        type(miner.miner.distance).__name__,
        miner.miner.distance.power,
    ) == (0.4, "LpDistance", 2)


def test_an_unknown_class_is_refused_with_those_that_exist():
    with pytest.raises(
        UserError, match="pml:Nonsense is not known.*MultiSimilarityMiner.*TripletMarginMiner"
    ) as error:
        batchminer.select("pml:Nonsense")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["inspect", "__name__", "base_miner"])
def test_what_is_no_class_is_refused(name):
    with pytest.raises(UserError, match="not known"):
        batchminer.select(f"pml:{name}")


def test_wrong_arguments_are_refused_with_the_flag_and_those_that_exist():
    with pytest.raises(
        UserError, match="pml:MultiSimilarityMiner.*--miner_pml_args.*nonsense.*epsilon"
    ):
        batchminer.select("pml:MultiSimilarityMiner", args='{"nonsense": 1}')


@pytest.mark.parametrize("args", ['{"epsilon": "x"}', '{"epsilon": []}', '{"distance": 4}'])
def test_arguments_that_cannot_be_computed_with_are_refused_before_any_batch(args):
    with pytest.raises(UserError, match="--batch_mining pml:.* cannot work with --miner_pml_args"):
        batchminer.select("pml:MultiSimilarityMiner", args=args)


def test_a_wrong_argument_of_a_named_object_is_refused():
    with pytest.raises(UserError, match="--miner_pml_args.*nonsense"):
        batchminer.select(
            "pml:MultiSimilarityMiner",
            args='{"distance": {"pml": "distances.LpDistance", "nonsense": 1}}',
        )


@pytest.mark.parametrize("path", ["distances.Nonsense", "LpDistance", "nonsense.LpDistance"])
def test_an_unknown_named_object_is_refused_without_calling_the_library_missing(path):
    with pytest.raises(UserError, match=path.rpartition(".")[2]) as error:
        batchminer.select("pml:MultiSimilarityMiner", args=f'{{"distance": {{"pml": "{path}"}}}}')
    assert "install" not in str(error.value)


@pytest.mark.parametrize("name", batchminer.REGISTRY)
def test_objectives_of_the_library_take_all_pairs_beside_an_own_miner(name):
    x, labels = unit(6), torch.tensor([0, 0, 1, 1, 2, 2])
    losses = [
        criteria.select(
            "pml:ContrastiveLoss", n_classes=3, embed_dim=4, feature_dim=4, miner=miner
        )(ModelOutput(x, x, x), labels)
        for miner in (batchminer.select(name), None)
    ]
    assert torch.equal(*losses)
