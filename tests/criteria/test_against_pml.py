"""Agreement with pytorch-metric-learning wherever it has the same objective.

And the bridge to all of its objectives.
"""

import json
import math
from types import ModuleType

import pytest
import torch
from torch.nn.functional import normalize

import batchminer
import criteria
from criteria.npair import tuples
from criteria.soft_ranks import counted_above
from utilities import pml
from utilities.errors import UserError
from utilities.types import ModelOutput


def theirs_or_skip(module: str) -> ModuleType:
    return pytest.importorskip(
        f"pytorch_metric_learning.{module}",
        reason="pytorch-metric-learning, an optional package, is not installed",
    )


distances, losses = theirs_or_skip("distances"), theirs_or_skip("losses")
miners, reducers = theirs_or_skip("miners"), theirs_or_skip("reducers")
pairs_with_unique_labels = theirs_or_skip(
    "utils.loss_and_miner_utils"
).convert_to_pos_pairs_with_unique_labels

pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
CLASSES, DIM = 6, 8
LABELS = torch.tensor([4, 0, 3, 3, 5, 1, 2, 0, 4, 1, 2, 5])  # two of each class
MEAN = reducers.MeanReducer()


def rows(seed: int = 0) -> torch.Tensor:
    return normalize(
        torch.randn(
            len(LABELS), DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        ),
        dim=1,
    ).requires_grad_()


def mined(name: str):
    torch.manual_seed(0)
    triplets = batchminer.select(name)(rows(), LABELS)
    return triplets, lambda embeddings, labels: triplets


def ours(name: str, **settings):
    torch.manual_seed(0)
    return criteria.select(
        name,
        **{"n_classes": CLASSES, "embed_dim": DIM, "feature_dim": DIM, "miner": None} | settings,
    ).double()


def euclidean(power: int = 1):
    return distances.LpDistance(normalize_embeddings=False, power=power)


def agree(criterion, theirs, *tuples_of_theirs, rtol: float = 1e-9) -> None:
    """The same value and the same gradient below a normalisation, which theirs repeat inside."""
    below = (
        rows().detach() * torch.linspace(0.5, 2, len(LABELS), dtype=torch.float64)[:, None]
    ).requires_grad_()
    x = normalize(below, dim=1)
    loss = criterion(ModelOutput(x, x.detach(), x.detach()[..., None, None]), LABELS)
    expected = theirs(x, LABELS, *tuples_of_theirs)
    torch.testing.assert_close(loss, expected, rtol=rtol, atol=rtol)
    torch.testing.assert_close(
        *(torch.autograd.grad(value, below, retain_graph=True)[0] for value in (loss, expected)),
        rtol=10 * rtol,
        atol=10 * rtol,
    )


def test_triplet_contrastive_margin_snr():
    triplets, miner = mined("random")
    columns = triplets.unbind(1)
    agree(
        ours("triplet", miner=miner),
        losses.TripletMarginLoss(margin=0.2, distance=euclidean(2), reducer=MEAN),
        columns,
    )
    agree(
        ours("triplet", miner=miner, form="euclidean"),
        losses.TripletMarginLoss(margin=0.2, distance=euclidean(), reducer=MEAN),
        columns,
    )
    agree(
        ours("snr", miner=miner, reg_lambda=0),
        losses.TripletMarginLoss(
            margin=0.2, distance=distances.SNRDistance(normalize_embeddings=False)
        ),
        columns,
    )
    # The paper's code adds 1e-6 to each coordinate of a difference and 1e-8 under a root.
    agree(
        ours("contrastive", miner=miner),
        losses.ContrastiveLoss(distance=euclidean(), reducer=MEAN),
        columns,
        rtol=1e-5,
    )
    agree(
        ours("margin", miner=miner, form="textbook", beta_constant=True),
        losses.MarginLoss(margin=0.2, beta=1.2, nu=0, distance=euclidean()),
        columns,
        rtol=1e-6,
    )


def test_on_pairs():
    x = rows()
    agree(
        ours("multisimilarity", form="textbook"),
        losses.MultiSimilarityLoss(2, 40, 0.5),
        miners.MultiSimilarityMiner(0.1)(x, LABELS),
    )
    agree(ours("supcon"), losses.SupConLoss(0.1))
    agree(ours("circle"), losses.CircleLoss(0.4, 80))
    agree(ours("histogram", nbins=65), losses.HistogramLoss(n_bins=64))


def test_in_tuples():
    _, miner = mined("npair")
    x = rows()
    found = ours("angular", miner=miner, alpha=40).angular_term(
        x @ x.T, x, tuples(miner, x, LABELS)
    )
    torch.testing.assert_close(found, losses.AngularLoss(alpha=40)(x, LABELS))
    _, miner = mined("lifted")
    agree(
        ours("lifted", miner=miner, l2=0),
        losses.GeneralizedLiftedStructureLoss(neg_margin=1, pos_margin=0),
    )
    agree(
        ours("lifted", miner=miner, l2=0, form="textbook"),
        losses.LiftedStructureLoss(neg_margin=1, pos_margin=0),
    )
    anchors, positives = pairs_with_unique_labels(None, LABELS)
    here, there = (~torch.eye(CLASSES, dtype=torch.bool)).nonzero(as_tuple=True)
    pairs = torch.stack([anchors[here], positives[here], positives[there]], dim=1)
    theirs = losses.NPairsLoss()
    theirs_pairs = pairs_with_unique_labels(None, LABELS)
    agree(
        ours("npair", miner=lambda embeddings, labels: pairs, l2=0, form="textbook_mc"),
        theirs,
        (*theirs_pairs, *theirs_pairs),
    )


@pytest.mark.parametrize(
    "name, settings, theirs, weights",
    [
        (
            "softmax",
            {"form": "textbook"},
            lambda: losses.NormalizedSoftmaxLoss(CLASSES, DIM, 0.05),
            "W",
        ),
        (
            "arcface",
            {"form": "textbook"},
            lambda: losses.ArcFaceLoss(CLASSES, DIM, margin=math.degrees(0.5), scale=16),
            "W",
        ),
        (
            "proxynca",
            {"form": "plusplus"},
            lambda: losses.ProxyNCALoss(CLASSES, DIM, softmax_scale=9),
            "proxies",
        ),
        ("proxyanchor", {}, lambda: losses.ProxyAnchorLoss(CLASSES, DIM, 0.1, 32), "proxies"),
        (
            "oproxy",
            {"form": "textbook"},
            lambda: losses.ProxyAnchorLoss(CLASSES, DIM, 0.1, 32),
            "proxies",
        ),
        (
            "softtriplet",
            {"reg_weight": 0},
            lambda: losses.SoftTripleLoss(CLASSES, DIM, 2, la=8, gamma=0.1, margin=0.01),
            "fc",
        ),
    ],
)
def test_with_classes(name, settings, theirs, weights):
    criterion, theirs = ours(name, **settings), theirs().double()
    (own,) = criterion.parameters()
    getattr(theirs, weights).data.copy_(
        own.detach() if weights == "proxies" else own.detach().flatten(0, -2).T
    )
    agree(criterion, theirs)


def test_smooth_ap_but_for_the_query_among_its_positives():
    # Version 2.9 takes the number of samples per class for the number of classes, so both are 3
    # here.
    x, labels = rows()[:9], torch.arange(9) // 3
    same, itself = labels[:, None] == labels[None, :], torch.eye(9, dtype=torch.bool)
    queries, matches = (same & ~itself).nonzero(as_tuple=True)
    above, same_above = counted_above(x, queries, matches, 0.01, among=same)
    query_above = ((1 - (x[queries] * x[matches]).sum(1)) / 0.01).sigmoid()
    precision = (1 + query_above + same_above) / (1 + query_above + above)
    above_the_query = ((x @ x.T - 1) / 0.01).sigmoid().masked_fill(itself, 0)
    of_the_query = (1 + (above_the_query * same).sum(1)) / (1 + above_the_query.sum(1))
    expected = 1 - (precision.sum() + of_the_query.sum()) / 27
    torch.testing.assert_close(
        losses.SmoothAPLoss(0.01)(x, labels).double(), expected, rtol=1e-6, atol=1e-6
    )


def test_the_bridge_gives_their_value_with_and_without_their_miner():
    x = rows()
    torch.testing.assert_close(
        ours("pml:TripletMarginLoss", args='{"margin": 0.3}')(ModelOutput(x, x, x), LABELS),
        losses.TripletMarginLoss(margin=0.3)(x, LABELS),
    )
    miner = batchminer.select("pml:MultiSimilarityMiner", args='{"epsilon": 0.05}')
    bridged = ours("pml:MultiSimilarityLoss", args='{"alpha": 3}', miner=miner)
    torch.testing.assert_close(
        bridged(ModelOutput(x, x, x), LABELS),
        losses.MultiSimilarityLoss(alpha=3)(
            x, LABELS, miners.MultiSimilarityMiner(0.05)(x, LABELS)
        ),
    )
    assert (
        bridged.is_mined()
        and not ours("pml:MultiSimilarityLoss", miner=batchminer.select("distance")).is_mined()
    )


def test_the_bridge_takes_embeddings_alone():
    x, bridged = rows(), ours("pml:MultiSimilarityLoss")
    assert torch.equal(bridged(x, LABELS), bridged(ModelOutput(x, x, x), LABELS))


def test_the_bridge_fills_class_count_and_dimension_and_builds_nested_objects():
    criterion = ours("pml:ProxyAnchorLoss")
    assert [tuple(parameter.shape) for parameter in criterion.parameters()] == [(CLASSES, DIM)]
    (group,) = criterion.parameter_groups(0.1)
    assert (
        group["lr"] == 0.1
        and ours("pml:ProxyAnchorLoss", lr=0.3).parameter_groups(0.1)[0]["lr"] == 0.3
    )
    assert ours("pml:SupConLoss").parameter_groups(0.1) == []
    nested = ours(
        "pml:TripletMarginLoss",
        args='{"distance": {"pml": "distances.LpDistance", "power": 2}, '
        '"reducer": {"pml": "reducers.MeanReducer"}}',
    )
    x = rows()
    torch.testing.assert_close(
        nested(ModelOutput(x, x, x), LABELS),
        losses.TripletMarginLoss(distance=distances.LpDistance(power=2), reducer=MEAN)(x, LABELS),
    )


def test_their_miner_gives_triplets_to_our_objectives():
    x, miner = rows(), batchminer.select("pml:BatchHardMiner")
    triplets = miner(x, LABELS)
    assert triplets.shape == (len(LABELS), 3) and triplets.dtype == torch.long
    expected = losses.TripletMarginLoss(margin=0.2, distance=euclidean(2), reducer=MEAN)(
        x, LABELS, miners.BatchHardMiner()(x, LABELS)
    )
    torch.testing.assert_close(ours("triplet", miner=miner)(ModelOutput(x, x, x), LABELS), expected)


@pytest.mark.parametrize(
    "name, args, parts",
    [
        ("pml:TripletMarginLos", "{}", ["--loss pml:", "TripletMarginLoss", "losses"]),
        ("pml:TripletMarginLoss", '{"margn": 1}', ["--loss_pml_args", "margn", "margin"]),
        ("pml:CrossBatchMemory", "{}", ["loss"]),
        ("pml:ContrastiveLoss", '{"pos_margin": "a"}', ["--loss_pml_args", "'str'"]),
        ("pml:ContrastiveLoss", '{"pos_margin": null}', ["--loss_pml_args", "NoneType"]),
        ("pml:ContrastiveLoss", '{"distance": 3}', ["--loss_pml_args", "callable"]),
        ("pml:ContrastiveLoss", '{"distance": {"pml": 3}}', ["--loss_pml_args", '"3"']),
        ("pml:ContrastiveLoss", '{"distance": {"pml": "losses.NTXentLoss"}}', ["labels"]),
        ("pml:ContrastiveLoss", '{"pos_margin": 0, "pos_margin": 1}', ["twice"]),
        ("pml:ContrastiveLoss", '{"a": ' * 3000 + "1" + "}" * 3000, ["nested"]),
        ("pml:ArcFaceLoss", '{"num_classes": 2}', ["--loss_pml_args", "out of bounds"]),
        ("pml:ArcFaceLoss", '{"num_classes": -2}', ["--loss_pml_args", "negative"]),
        ("pml:VICRegLoss", "{}", ["--loss_pml_args", "not supported"]),
        ("pml:BaseMetricLossFunction", "{}", ["NotImplementedError"]),
    ],
)
def test_what_the_library_does_not_know_is_a_sentence(name, args, parts):
    with pytest.raises(UserError) as error:
        ours(name, args=args)
    assert all(part in str(error.value) for part in parts)


def test_an_objective_inside_another_is_named_by_its_own_flag():
    with pytest.raises(UserError, match="--loss_s2sd_target pml:Nothing is not known"):
        criteria.build(
            "s2sd",
            lambda name: {
                "s2sd": {"source": "softmax", "target": "pml:Nothing", "target_dims": [4]}
            }.get(name, {}),
            n_classes=CLASSES,
            embed_dim=DIM,
            feature_dim=DIM,
            miner=None,
        )


def test_trying_an_objective_leaves_it_and_the_random_numbers_as_they_were():
    memory = {"loss": {"pml": "losses.NTXentLoss"}, "memory_size": 64}
    torch.manual_seed(1)
    theirs = losses.CrossBatchMemory(losses.NTXentLoss(), DIM, memory_size=64).double()
    following = torch.rand(3)
    torch.manual_seed(1)
    name, args = "pml:CrossBatchMemory", json.dumps(memory)
    bridged = criteria.select(name, n_classes=CLASSES, embed_dim=DIM, args=args).double()
    assert torch.equal(torch.rand(3), following)
    assert not bridged.objective.has_been_filled and bridged.objective.queue_idx == 0
    assert torch.equal(bridged(rows(), LABELS), theirs(rows(), LABELS))


def test_a_memory_that_a_batch_does_not_fit_into_is_refused():
    memory = {"loss": {"pml": "losses.NTXentLoss"}, "memory_size": 6}
    bridged = ours("pml:CrossBatchMemory", args=json.dumps(memory))
    pml.require_room(bridged, 6)
    with pytest.raises(UserError, match="the memory_size 6 of CrossBatchMemory .* --bs 7"):
        pml.require_room(bridged, 7)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_memory_of_the_library_goes_on_where_it_was_stored(steps):
    """Its ring of 30 is partly filled, nearly so, or gone round."""
    memory = {"loss": {"pml": "losses.NTXentLoss"}, "memory_size": 30}
    stored, restored = (ours("pml:CrossBatchMemory", args=json.dumps(memory)) for _ in range(2))
    for seed in range(steps):
        stored(rows(seed), LABELS)
    restored.load_state_dict(stored.state_dict())
    for seed in range(5, 8):
        assert torch.equal(stored(rows(seed), LABELS), restored(rows(seed), LABELS))


def test_objects_of_the_library_may_stand_in_a_list():
    args = '{"losses": [{"pml": "losses.NTXentLoss"}, {"pml": "losses.SupConLoss"}]}'
    expected = losses.NTXentLoss()(rows(), LABELS) + losses.SupConLoss()(rows(), LABELS)
    torch.testing.assert_close(ours("pml:MultipleLosses", args=args)(rows(), LABELS), expected)


def test_without_the_library_a_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(UserError, match="pip install pytorch-metric-learning"):
        ours("pml:TripletMarginLoss")
