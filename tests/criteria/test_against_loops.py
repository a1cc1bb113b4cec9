"""Value and gradients of every objective against plain loops, and gradcheck."""

from functools import partial

import loops
import pytest
import torch
from torch.nn.functional import normalize

import batchminer
import criteria
from criteria.quadruplet import draw_fourth
from utilities.types import ModelOutput

DIM, CLASSES = 6, 10
LABELS = {
    "balanced": [0, 0, 1, 1, 2, 2, 3, 3],
    "not contiguous": [7, 2, 7, 9, 2, 9, 9, 2],
    "singletons": [0, 0, 0, 4, 5, 5, 8, 6],
}
# What stands in each case: the objective, its loop, other hyper-parameters than the defaults, how
# its loop is called.
MINED = {
    "contrastive": [{}, {"form": "textbook"}, {"pos_margin": 0.3, "neg_margin": 1.4}],
    "triplet": [{}, {"form": "textbook"}, {"form": "euclidean"}, {"margin": 0.9}],
    "margin": [
        {},
        {"form": "textbook"},
        {"form": "textbook", "nu": 0.01},
        {"margin": 0.5, "nu": 0.1},
    ],
    "snr": [{}, {"margin": 1.5, "reg_lambda": 0.1}],
}
IN_TUPLES = {
    "npair": [{}, {"form": "textbook"}, {"form": "textbook_mc"}, {"scale": 0.25, "l2": 0.5}],
    "angular": [{}, {"alpha": 36, "npair_ang_weight": 0.7, "npair_l2": 0.3}],
    "lifted": [{}, {"form": "textbook"}, {"neg_margin": 0.4, "l2": 0.2}],
}
WITH_CLASSES = {
    "softmax": [{}, {"form": "textbook"}, {"temperature": 0.5}],
    "arcface": [
        {},
        {"form": "textbook"},
        {"form": "textbook_normalised"},
        {"angular_margin": 0.2, "feature_scale": 5},
    ],
    "oproxy": [
        {},
        {"form": "textbook"},
        {"mode": "nca"},
        {"mode": "nca", "form": "textbook"},
        {"pos_alpha": 5, "neg_alpha": 7, "pos_delta": 0.2, "neg_delta": 0.05},
    ],
    "proxyanchor": [{}, {"alpha": 8, "margin": 0.3}],
    "proxynca": [{}, {"form": "plusplus"}, {"form": "plusplus", "temperature": 0.5}],
    "softtriplet": [
        {},
        {"n_centroids": 3, "gamma": 0.5, "scale": 20, "margin_delta": 0.2, "reg_weight": 1.0},
    ],
}
ON_PAIRS = {
    "multisimilarity": [{}, {"form": "textbook"}, {"margin": 0.5, "neg_weight": 10, "dim": 1}],
    "histogram": [{}, {"nbins": 11}],
    "supcon": [{}, {"temperature": 0.5}],
    "circle": [{}, {"m": 0.25, "gamma": 30}],
    "smooth_ap": [{}, {"temperature": 0.1}],
    "recall_at_k": [{}, {"k": [1, 3], "rank_temperature": 0.5, "similarity_temperature": 0.2}],
}
# Their gradient is not that of their value: constant weights, detached teachers, reversal.
NO_GRADCHECK = ("circle", "s2sd", "adversarial_separation")


def case_list(table):
    return [
        pytest.param(
            name,
            settings,
            id="-".join([name, *(f"{key}={value}" for key, value in settings.items())]),
        )
        for name, variants in table.items()
        for settings in variants
    ]


def rows(count: int, unit: bool = True, seed: int = 0) -> torch.Tensor:
    drawn = (
        torch.randn(count, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        + 0.3
    )
    return (normalize(drawn, dim=1) if unit else drawn).requires_grad_()


def output_of(embeddings: torch.Tensor) -> ModelOutput:
    return ModelOutput(embeddings, embeddings.detach(), embeddings.detach()[..., None, None])


def build(name: str, settings: dict, triplets: list | None = None) -> criteria.Criterion:
    torch.manual_seed(1)
    fixed = torch.tensor(triplets or []).reshape(-1, 3)
    return criteria.select(
        name,
        n_classes=CLASSES,
        embed_dim=DIM,
        feature_dim=DIM,
        miner=lambda embeddings, labels: fixed,
        **settings,
    ).double()


def compare(criterion, expected, x, labels) -> None:
    """Ours and the loop's value and gradients, of embeddings and parameters."""
    wanted = [x, *(parameter for parameter in criterion.parameters())]
    reference = torch.autograd.grad(expected, wanted, allow_unused=True)
    loss = criterion(output_of(x), torch.tensor(labels))
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    torch.testing.assert_close(loss, expected.to(loss.dtype), rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(found, reference):
        torch.testing.assert_close(
            ours, torch.zeros_like(ours) if theirs is None else theirs, rtol=1e-8, atol=1e-11
        )


def gradcheck(criterion, x, labels) -> None:
    assert torch.autograd.gradcheck(
        lambda rows: criterion(output_of(rows), torch.tensor(labels)), x
    )


def tuples(name: str, labels: list[int]) -> list[list[int]]:
    """Triplets as the objective's own miner gives them."""
    torch.manual_seed(0)
    return batchminer.select(name)(rows(len(labels)), torch.tensor(labels)).tolist()


@pytest.mark.parametrize("unit", [True, False], ids=["unit rows", "any rows"])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("name, settings", case_list(MINED))
def test_mined(name, settings, labels, unit):
    x, triplets = rows(len(labels), unit), tuples("random", labels)
    criterion = build(name, settings, triplets)
    own = {"beta": criterion.beta} if name == "margin" else {}
    compare(criterion, getattr(loops, name)(x, labels, triplets, **own, **settings), x, labels)
    gradcheck(criterion, x, labels)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("name, settings", case_list(IN_TUPLES))
def test_in_tuples(name, settings, labels):
    x, triplets = (
        rows(len(labels), unit=False),
        tuples("lifted" if name == "lifted" else "npair", labels),
    )
    criterion = build(name, settings, triplets)
    compare(criterion, getattr(loops, name)(x, labels, triplets, **settings), x, labels)
    gradcheck(criterion, x, labels)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("name, settings", case_list(WITH_CLASSES))
def test_with_classes(name, settings, labels):
    x, criterion = rows(len(labels)), build(name, settings)
    (weights,) = criterion.parameters()
    compare(
        criterion,
        getattr(loops, name)(
            x,
            labels,
            weights,
            **{key: value for key, value in settings.items() if key != "n_centroids"},
        ),
        x,
        labels,
    )
    gradcheck(criterion, x, labels)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("name, settings", case_list(ON_PAIRS))
def test_on_pairs(name, settings, labels):
    x, criterion = rows(len(labels)), build(name, settings)
    compare(criterion, getattr(loops, name)(x, labels, **settings), x, labels)
    if name not in NO_GRADCHECK:
        gradcheck(criterion, x, labels)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_quadruplet(labels, monkeypatch):
    x, triplets, y = rows(len(labels)), tuples("random", labels), torch.tensor(labels)
    drawn = draw_fourth(y, torch.tensor(triplets))
    monkeypatch.setattr("criteria.quadruplet.draw_fourth", lambda labels, triplets: drawn)
    quadruplets = [
        (*triplet, fourth if exists else None)
        for triplet, fourth, exists in zip(triplets, *(part.tolist() for part in drawn))
    ]
    criterion = build("quadruplet", {"margin_alpha_1": 0.3, "margin_alpha_2": 0.8}, triplets)
    compare(criterion, loops.quadruplet(x, labels, quadruplets, 0.3, 0.8), x, labels)
    gradcheck(criterion, x, labels)


def test_the_fourth_sample_is_any_of_the_other_classes():
    labels = torch.tensor([0, 5, 0, 1, 9, 1, 5, 9, 9])
    triplets = torch.tensor([[0, 2, 3], [3, 5, 0], [4, 7, 6], [0, 2, 8]]).repeat(2000, 1)
    torch.manual_seed(0)
    fourth, exists = draw_fourth(labels, triplets)
    assert exists.all()
    for row, (anchor, _, negative) in enumerate(triplets[:4].tolist()):
        admissible = [i for i in range(9) if labels[i] not in (labels[anchor], labels[negative])]
        counts = fourth[row::4].bincount(minlength=9)
        assert (
            counts[admissible].sum() == 2000
            and counts[admissible].min() > 2000 / len(admissible) * 0.8
        )
    assert not draw_fourth(torch.tensor([0, 0, 1]), torch.tensor([[0, 1, 2]]))[1].any()


def nested(name: str, **settings):
    """An objective around multi-similarity ones, with two branches."""
    torch.manual_seed(2)
    inner = [criteria.select("multisimilarity", form="textbook") for _ in range(3)]
    return criteria.select(
        name,
        n_classes=CLASSES,
        embed_dim=DIM,
        feature_dim=4,
        miner=None,
        source=inner[0],
        target=inner[1:],
        target_dims=[5, 7],
        **settings,
    ).double()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"w": 3.0},
        {"w": 2.0, "T": 2.0, "feat_distill": True, "feat_w": 4.0, "feat_distill_delay": 0},
        {"feat_distill": True, "feat_distill_delay": 0, "pool_aggr": True},
    ],
    ids=str,
)
def test_s2sd(settings):
    labels, criterion, x = LABELS["balanced"], nested("s2sd", **settings), rows(8, unit=False)
    feature_map = torch.randn(
        8, 4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    ).requires_grad_()
    features = feature_map.mean((2, 3)) + (
        feature_map.flatten(2).max(2).values if settings.get("pool_aggr") else 0
    )
    loss = criterion(ModelOutput(x, feature_map.mean((2, 3)), feature_map), torch.tensor(labels))
    inner = partial(loops.multisimilarity, form="textbook")
    expected = loops.s2sd(
        x,
        labels,
        features,
        list(criterion.target_nets),
        inner,
        [inner, inner],
        T=settings.get("T", 1),
        w=settings.get("w", 0),
        feat_w=settings.get("feat_w", 50) if settings.get("feat_distill") else 0,
    )
    wanted = [x, feature_map, *criterion.parameters()]
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        torch.autograd.grad(loss, wanted), torch.autograd.grad(expected, wanted)
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-11)


def test_s2sd_waits_for_its_features_and_a_checkpoint_knows_how_long():
    torch.manual_seed(0)
    labels, x = torch.tensor(LABELS["balanced"]), rows(8)
    output = ModelOutput(
        x, torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 4, 1, 1, dtype=torch.float64)
    )
    criterion = nested("s2sd", feat_distill=True, feat_distill_delay=2)
    losses = [criterion(output, labels).item() for _ in range(2)]
    resumed = nested("s2sd", feat_distill=True, feat_distill_delay=2)
    resumed.load_state_dict(criterion.state_dict())
    losses += [criterion(output, labels).item(), criterion(output, labels).item()]
    assert losses[0] == losses[1] < losses[2] == losses[3]
    assert resumed(output, labels).item() == losses[2]


def test_adversarial_separation():
    labels, criterion, x = (
        LABELS["balanced"],
        nested("adversarial_separation", weight=20.0, hidden_dim=9),
        rows(8, unit=False),
    )
    features = torch.randn(
        8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    ).requires_grad_()
    loss = criterion(ModelOutput(x, features, features[..., None, None]), torch.tensor(labels))
    inner = partial(loops.multisimilarity, form="textbook")

    def reference(weight):
        return loops.adversarial_separation(
            x,
            labels,
            features,
            list(criterion.heads),
            list(criterion.regressors),
            inner,
            [inner, inner],
            weight,
        )

    torch.testing.assert_close(loss, reference(20.0))
    # The regressors descend on the loss; everything below the reversal sees the separation term
    # with the other sign.
    below, regressors = (
        [x, features, *criterion.heads.parameters()],
        list(criterion.regressors.parameters()),
    )
    found = torch.autograd.grad(loss, below + regressors)
    expected = torch.autograd.grad(reference(-20.0), below) + torch.autograd.grad(
        reference(20.0), regressors
    )
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-11)


def test_the_regressor_learns_and_the_embeddings_separate():
    torch.manual_seed(0)
    criterion, labels = (
        nested("adversarial_separation", weight=100.0),
        torch.tensor(LABELS["balanced"]),
    )
    features = torch.randn(8, 4, dtype=torch.float64)
    regressors = torch.optim.Adam(criterion.regressors.parameters(), lr=0.01)
    x = rows(8, unit=False)

    def predicted() -> float:
        with torch.no_grad():
            return sum(
                criterion.correlation(
                    normalize(x, dim=1), normalize(head(features), dim=1), regressor
                ).item()
                for head, regressor in zip(criterion.heads, criterion.regressors)
            )

    before = predicted()
    for _ in range(30):
        regressors.zero_grad()
        criterion(ModelOutput(x, features, features[..., None, None]), labels).backward()
        regressors.step()
    trained = predicted()
    assert trained > before
    embeddings = torch.optim.SGD([x], lr=0.1)
    criterion.weight, criterion.source = (
        1e4,
        criteria.select(
            "triplet", miner=lambda embeddings, labels: torch.zeros(0, 3, dtype=torch.long)
        ),
    )
    for _ in range(30):
        embeddings.zero_grad()
        criterion(ModelOutput(x, features, features[..., None, None]), labels).backward()
        embeddings.step()
    assert predicted() < trained


def test_every_objective_is_compared():
    assert {
        *MINED,
        *IN_TUPLES,
        *WITH_CLASSES,
        *ON_PAIRS,
        "quadruplet",
        "s2sd",
        "adversarial_separation",
    } == set(criteria.REGISTRY)
