"""What every objective inherits, and what every registered one must survive."""

import re

import pytest
import torch
from every_objective import build, every_form, hyperparameters, output_of, unit

import batchminer
import criteria
import parameters
from criteria import Criterion
from utilities.types import ModelOutput

BATCHES = {
    "one class": [3, 3, 3, 3],
    "all different": [0, 1, 2, 3],
    "two of one class": [1, 1],
    "two of two classes": [0, 1],
    "one sample": [2],
    "a singleton": [0, 0, 1],
    "usual": [0, 0, 1, 1, 3, 3],
}


class Recorder(Criterion):
    """Keeps what `loss` was called with."""

    def loss(self, output, labels):
        self.seen = output
        return (output.embeddings @ output.embeddings.T).sum()


LABELS = torch.tensor([0, 0, 1, 1, 3, 3])


def value_and_gradients(criterion: Criterion, output, embeddings: torch.Tensor) -> list:
    """The loss of a batch, the gradients of its embeddings and of the learnable parts."""
    loss = criterion(output, LABELS)
    loss.backward()
    gradients = [parameter.grad for parameter in criterion.parameters()]
    return [loss.detach(), embeddings.grad, *(part for part in gradients if part is not None)]


@pytest.mark.parametrize("name, settings", every_form())
def test_embeddings_alone_are_enough_where_nothing_else_is_read(name, settings):
    embeddings = unit(6).float().requires_grad_()
    further = build(name, settings).reads() - {"embeddings"}
    if further:
        with pytest.raises(ValueError, match=f"reads {' and '.join(further)} beside.*ModelOutput"):
            build(name, settings)(embeddings, LABELS)
        return
    plain = value_and_gradients(build(name, settings), embeddings, embeddings)
    again = unit(6).float().requires_grad_()
    full = value_and_gradients(build(name, settings), output_of(again), again)
    assert len(plain) == len(full) and all(map(torch.equal, plain, full))


@pytest.mark.parametrize("name, settings", every_form())
def test_what_is_not_read_does_not_matter_and_what_is_read_does(name, settings):
    output = output_of(unit(6).float())
    expected = build(name, settings)(output, LABELS)
    for field in output._fields:
        broken = output._replace(**{field: getattr(output, field) * float("nan")})
        criterion = build(name, settings)
        loss = criterion(broken, LABELS)
        assert loss.isnan() if field in criterion.reads() else torch.equal(loss, expected)


def test_only_objectives_with_further_embeddings_read_features():
    reads = {name: build(name, {}).reads() for name in criteria.REGISTRY}
    assert {name for name, fields in reads.items() if fields != {"embeddings"}} == {
        "s2sd",
        "adversarial_separation",
    }
    assert build("s2sd", {}).reads() == {"embeddings", "features"}
    assert build("s2sd", {"pool_aggr": True}).reads() == {"embeddings", "feature_map"}


def test_a_composite_reads_what_those_inside_read():
    class Around(criteria.base.CompositeCriterion):
        """Needs nothing but the embeddings for itself."""

    around = Around(build("supcon", {}), [build("adversarial_separation", {})])
    assert around.reads() == {"embeddings", "features"}
    with pytest.raises(ValueError, match="Around reads features beside"):
        around(unit(6).float(), LABELS)


def test_embeddings_alone_are_cast_up_and_checked_as_well():
    recorder = Recorder()
    assert recorder(unit(6).to(torch.bfloat16), LABELS).dtype == torch.float32
    with pytest.raises(ValueError, match="embeddings"):
        recorder(unit(6)[0], LABELS)


def test_from_own_code():
    embeddings = unit(6).float().requires_grad_()
    margin = criteria.select("margin", n_classes=4, miner=batchminer.select("distance"))
    margin(embeddings, LABELS).backward()
    assert embeddings.grad.any() and margin.is_mined()
    assert not criteria.select("multisimilarity").is_mined()


@pytest.mark.parametrize("name", criteria.REGISTRY)
def test_a_mined_objective_knows_itself_and_asks_for_its_miner(name):
    held = build(name, {}).modules()
    mined = [module for module in held if isinstance(module, criteria.base.MinedCriterion)]
    assert build(name, {}).is_mined() == bool(mined)
    if "miner" in criteria.REGISTRY[name].NEEDS:
        with pytest.raises(TypeError, match="needs a miner.*triplets"):
            criteria.select(name, n_classes=4, embed_dim=5, miner=None)


@pytest.mark.parametrize("shape, labels", [((4, 3), 5), ((4, 3), 3), ((4, 3, 1), 4), ((4,), 4)])
def test_shapes_that_do_not_fit_are_refused(shape, labels):
    embeddings = torch.zeros(shape)
    with pytest.raises(ValueError, match="embeddings"):
        Recorder()(
            ModelOutput(embeddings, embeddings, embeddings), torch.zeros(labels, dtype=torch.long)
        )


def test_a_subclass_must_write_loss():
    with pytest.raises(NotImplementedError, match="Criterion"):
        Criterion()(output_of(unit(2)), torch.tensor([0, 1]))


def test_fp32_under_autocast():
    recorder = Recorder()
    embeddings = unit(4).to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = recorder(output_of(embeddings), torch.tensor([0, 0, 1, 1]))
    assert loss.dtype == torch.float32
    assert {part.dtype for part in recorder.seen} == {torch.float32}
    assert loss.item() == pytest.approx(
        (embeddings.float() @ embeddings.float().T).sum().item(), rel=1e-6
    )
    loss.backward()
    assert embeddings.grad.dtype == torch.bfloat16


def test_fp32_embeddings_are_not_cast_down_by_autocast():
    embeddings = unit(4).float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = Recorder()(output_of(embeddings), torch.tensor([0, 0, 1, 1]))
    assert torch.equal(loss, Recorder()(output_of(embeddings), torch.tensor([0, 0, 1, 1])))


def test_fp64_stays():
    assert Recorder()(output_of(unit(4)), torch.tensor([0, 0, 1, 1])).dtype == torch.float64


def built_of(name: str, settings: dict, seed: int = 0) -> Criterion:
    criterion = build(name, settings)
    torch.manual_seed(seed)  # of what a miner draws
    return criterion


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("name, settings", every_form())
def test_labels_are_whole_numbers_of_any_type(name, settings, dtype):
    output = output_of(unit(6).float())
    expected = built_of(name, settings)(output, LABELS)
    assert torch.equal(built_of(name, settings)(output, LABELS.to(dtype)), expected)


@pytest.mark.parametrize("unknown", [-100, -1, 4])
@pytest.mark.parametrize("name, settings", every_form())
def test_labels_without_a_part_of_their_own_are_refused(name, settings, unknown):
    """Where there are such parts; cross entropies pass over -100, indices count -1 from the end."""
    labels, criterion = LABELS.where(LABELS != 3, unknown), build(name, settings)
    output = output_of(unit(6).float())
    if "n_classes" not in criteria.REGISTRY[name].NEEDS or "beta_constant" in settings:
        assert criterion(output, labels).isfinite()
        return
    with pytest.raises(ValueError, match=f"4 classes, with labels from 0 to 3; got .*{unknown}"):
        criterion(output, labels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_labels_that_are_no_whole_numbers_are_refused(dtype):
    with pytest.raises(ValueError, match=f"labels .B. of whole numbers, got {dtype}"):
        Recorder()(output_of(unit(6)), LABELS.to(dtype))
    with pytest.raises(ValueError, match=f"labels .B. of whole numbers, got {dtype}"):
        batchminer.select("semihard")(unit(6), LABELS.to(dtype))


NAMES = [
    (*match.groups(), names)
    for flag, names in parameters.CHOICES.items()
    if (match := re.fullmatch("(loss|miner)_(.+)_(form|mode)", flag))
]


@pytest.mark.parametrize("kind, name, argument, names", NAMES, ids=str)
def test_forms_and_modes_from_own_code_are_those_of_the_flags(kind, name, argument, names):
    def make(value: str):
        if kind == "miner":
            return batchminer.select(name, **{argument: value})
        return build(name, {argument: value})

    for value in names:
        make(value)
    with pytest.raises(ValueError) as error:
        make("papre")
    assert str(error.value).startswith(f"{argument} must be one of {', '.join(names)}, not 'papre'")


@pytest.mark.parametrize("room", [criteria, batchminer])
def test_an_unknown_name_from_own_code_is_told_with_the_nearest(room):
    known = next(iter(room.REGISTRY))
    with pytest.raises(ValueError, match=f"not '{known}x' .did you mean '{known}'"):
        room.select(f"{known}x")


def test_integer_embeddings_are_refused():
    embeddings = torch.ones(6, 5, dtype=torch.long)
    for part in (Recorder(), batchminer.select("semihard")):
        with pytest.raises(ValueError, match="floating point numbers, got torch.int64"):
            part(embeddings, LABELS)


@pytest.mark.parametrize("name, settings", every_form())
def test_embeddings_and_parameters_may_be_of_different_precision(name, settings):
    """The widest counts, and each gets a gradient of its own type."""
    embeddings = unit(6).requires_grad_()
    criterion, wide = built_of(name, settings), built_of(name, settings).double()
    loss = criterion(output_of(embeddings), LABELS)
    torch.manual_seed(0)
    torch.testing.assert_close(loss, wide(output_of(embeddings), LABELS))
    assert loss.dtype == torch.float64
    loss.backward()
    assert embeddings.grad.dtype == torch.float64
    if list(wide.parameters()):
        torch.manual_seed(0)
        assert wide(output_of(unit(6).half()), LABELS).dtype == torch.float64
    learnt = [part for part in criterion.parameters() if part.grad is not None]
    assert all(part.dtype == part.grad.dtype == torch.float32 for part in learnt)


def test_no_parameters_by_default():
    assert Recorder().parameter_groups(0.1) == []


def degenerate(kind: str) -> torch.Tensor:
    row = unit(1).float()
    return {
        "equal": row.repeat(6, 1),
        "antipodal": torch.cat([row, -row] * 3),
        "zero": row.repeat(6, 1) * 0,
        "huge": unit(6).float() * 1e4,
        "duplicates": unit(3).float().repeat(2, 1),
        "on the proxies": torch.eye(5)[[0, 1, 2, 3, 0, 1]],
    }[kind]


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("name, settings", every_form())
def test_any_batch_gives_a_finite_loss_and_gradient(name, settings, labels):
    criterion, embeddings = build(name, settings), unit(len(labels)).float().requires_grad_()
    loss = criterion(output_of(embeddings), torch.tensor(labels))
    assert loss.shape == () and loss.isfinite()
    loss.backward()
    assert embeddings.grad.isfinite().all()
    assert all(
        parameter.grad is None or parameter.grad.isfinite().all()
        for parameter in criterion.parameters()
    )


@pytest.mark.parametrize(
    "kind", ["equal", "antipodal", "zero", "huge", "duplicates", "on the proxies"]
)
@pytest.mark.parametrize("name, settings", every_form())
def test_degenerate_embeddings_give_a_finite_loss_and_gradient(name, settings, kind):
    criterion, embeddings = build(name, settings), degenerate(kind).clone().requires_grad_()
    if kind == "on the proxies":
        for part, values in criterion.named_parameters():
            if part in ("class_map", "proxies", "centroids"):
                values.data.copy_(
                    torch.eye(4, 5)
                    if values.ndim == 2
                    else torch.eye(4, 5)[:, None].expand_as(values)
                )
    loss = criterion(output_of(embeddings), torch.tensor([0, 0, 1, 1, 3, 3]))
    loss.backward()
    assert loss.isfinite() and embeddings.grad.isfinite().all()
    assert all(
        parameter.grad is None or parameter.grad.isfinite().all()
        for parameter in criterion.parameters()
    )


@pytest.mark.parametrize("name, settings", every_form())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_autocast_with_a_small_temperature(name, settings, dtype):
    """At temperature 0.05 logits reach 20 and their exponentials 5e8: more than float16 holds."""
    sharp = {
        key: 0.05
        for key in hyperparameters({}, name)
        if key in ("temperature", "T", "similarity_temperature", "gamma") and name != "circle"
    }
    criterion = build(name, settings | sharp)
    embeddings = torch.nn.functional.normalize(unit(6) + 1, dim=1).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype):
        loss = criterion(output_of(embeddings), torch.tensor([0, 0, 1, 1, 3, 3]))
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert embeddings.grad.dtype == dtype and embeddings.grad.isfinite().all()


@pytest.mark.parametrize("name, settings", every_form())
def test_order_of_the_batch_does_not_matter_without_a_random_miner(name, settings):
    """Labels that are not contiguous, too: whoever shuffles or renames gets the same loss."""

    def all_triplets(embeddings, labels):
        same = labels[:, None] == labels[None, :]
        pairs = (same & ~torch.eye(len(labels), dtype=torch.bool)).nonzero()
        return torch.tensor(
            [(a, p, n) for a, p in pairs.tolist() for n in (~same[a]).nonzero().squeeze(1).tolist()]
        )

    if name == "quadruplet":
        settings = settings | {"margin_alpha_2": -9.0}  # its fourth sample is drawn
    criterion = build(name, settings, all_triplets).double()
    criterion.train()
    embeddings, labels, order = (
        unit(8),
        torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]),
        torch.tensor([5, 2, 7, 0, 1, 6, 3, 4]),
    )
    torch.testing.assert_close(
        criterion(output_of(embeddings), labels),
        criterion(output_of(embeddings[order]), labels[order]),
    )


@pytest.mark.parametrize("name, settings", every_form())
def test_non_finite_embeddings_give_a_non_finite_loss_and_no_crash(name, settings):
    embeddings = unit(6).float()
    embeddings[2] = float("nan")
    assert not build(name, settings)(
        output_of(embeddings), torch.tensor([0, 0, 1, 1, 3, 3])
    ).isfinite()


@pytest.mark.parametrize("name", criteria.REGISTRY)
def test_every_parameter_has_a_learning_rate_once(name):
    """What no group holds would never be trained."""
    criterion = build(name, {})
    groups = criterion.parameter_groups(0.5)
    assert sorted(
        map(id, (parameter for group in groups for parameter in group["params"]))
    ) == sorted(map(id, criterion.parameters()))
    assert all(group["lr"] > 0 for group in groups)
    if groups:
        torch.optim.Adam(groups, lr=1.0)


@pytest.mark.parametrize(
    "name, rate",
    [
        ("oproxy", 2000 * 0.5),
        ("proxynca", 50 * 0.5),
        ("proxyanchor", 100 * 0.5),
        ("softtriplet", 0.5),
        ("softmax", 1e-5),
        ("arcface", 0.0005),
        ("margin", 0.0005),
        ("s2sd", 0.5),
    ],
)
def test_learning_rates_of_the_papers(name, rate):
    assert build(name, {}).parameter_groups(0.5)[0]["lr"] == pytest.approx(rate)


@pytest.mark.parametrize(
    "convert", [torch.Tensor.numpy, torch.Tensor.tolist], ids=["array", "list"]
)
def test_arrays_and_lists_are_refused(convert):
    for part in (Recorder(), batchminer.select("semihard")):
        with pytest.raises(TypeError, match=r"embeddings .*torch\.Tensor"):
            part(convert(unit(6)), LABELS)
        with pytest.raises(TypeError, match=r"labels must be a torch\.Tensor"):
            part(unit(6), convert(LABELS))


COMPOSITES = {name for name, kind in criteria.REGISTRY.items() if "source" in kind.NEEDS}


@pytest.mark.parametrize("name", sorted(COMPOSITES))
@pytest.mark.parametrize("count", [0, 1, 3])
def test_each_further_embedding_has_an_objective(name, count):
    """One without would be left out, and nobody would know."""
    targets = [Recorder() for _ in range(count)]
    arguments = {"embed_dim": 5, "feature_dim": 7, "target_dims": (6, 4)}
    objective = criteria.select(name, source=Recorder(), target=targets, **arguments)
    output = ModelOutput(unit(6), torch.ones(6, 7), torch.ones(6, 7, 1, 1))
    with pytest.raises(ValueError, match=f"makes 2 further embeddings.* has {count} objectives"):
        objective(output, LABELS)


@pytest.mark.parametrize("name", sorted(COMPOSITES))
@pytest.mark.parametrize("part", ["source", "target"])
def test_a_name_is_no_objective(name, part):
    parts = {"source": Recorder(), "target": [Recorder()]} | {part: "triplet"}
    with pytest.raises(TypeError, match="criteria.select gives them.*not str"):
        criteria.select(name, embed_dim=5, feature_dim=7, **parts)


@pytest.mark.parametrize("name", criteria.REGISTRY)
def test_a_batch_without_a_row_is_refused(name):
    """As a filter leaves one; a mean over nothing is NaN, and would make all weights so."""
    output = output_of(unit(6)[:0])
    with pytest.raises(ValueError, match="at least one row, got .0, 5. and .0,."):
        build(name, {})(output, LABELS[:0])
