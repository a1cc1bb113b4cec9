"""What every objective inherits, and what every registered one must survive."""
import pytest
import torch

import batchminer
import criteria
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


def output_of(embeddings: torch.Tensor) -> ModelOutput:
    return ModelOutput(embeddings, embeddings * 2, embeddings[:, :, None, None])


def unit(count: int, seed: int = 0, dim: int = 5) -> torch.Tensor:
    rows = torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def every_form():
    for name in criteria.REGISTRY:
        for form in ("paper", "textbook"):
            yield pytest.param(name, form, id=f"{name}-{form}")


def build(name: str, form: str) -> Criterion:
    return criteria.select(name, n_classes=4, embed_dim=5, miner=batchminer.select("distance"), form=form)


@pytest.mark.parametrize("shape, labels", [((4, 3), 5), ((4, 3), 3), ((4, 3, 1), 4), ((4,), 4)])
def test_shapes_that_do_not_fit_are_refused(shape, labels):
    embeddings = torch.zeros(shape)
    with pytest.raises(ValueError, match="embeddings"):
        Recorder()(ModelOutput(embeddings, embeddings, embeddings), torch.zeros(labels, dtype=torch.long))


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
    assert loss.item() == pytest.approx((embeddings.float() @ embeddings.float().T).sum().item(), rel=1e-6)
    loss.backward()
    assert embeddings.grad.dtype == torch.bfloat16


def test_fp32_embeddings_are_not_cast_down_by_autocast():
    embeddings = unit(4).float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = Recorder()(output_of(embeddings), torch.tensor([0, 0, 1, 1]))
    assert torch.equal(loss, Recorder()(output_of(embeddings), torch.tensor([0, 0, 1, 1])))


def test_fp64_stays():
    assert Recorder()(output_of(unit(4)), torch.tensor([0, 0, 1, 1])).dtype == torch.float64


def test_no_parameters_by_default():
    assert Recorder().parameter_groups(0.1) == []


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("name, form", every_form())
def test_any_batch_gives_a_finite_loss_and_gradient(name, form, labels):
    torch.manual_seed(0)
    embeddings = unit(len(labels)).float().requires_grad_()
    loss = build(name, form)(output_of(embeddings), torch.tensor(labels))
    assert loss.shape == () and loss.isfinite()
    loss.backward()
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize("name, form", every_form())
@pytest.mark.parametrize("kind", ["equal", "antipodal", "zero", "huge"])
def test_degenerate_embeddings_give_a_finite_loss_and_gradient(name, form, kind):
    torch.manual_seed(0)
    row = unit(1).float()
    rows = {"equal": row.repeat(6, 1), "antipodal": torch.cat([row, -row] * 3), "zero": row.repeat(6, 1) * 0, "huge": unit(6).float() * 1e4}
    embeddings = rows[kind].clone().requires_grad_()
    loss = build(name, form)(output_of(embeddings), torch.tensor([0, 0, 1, 1, 3, 3]))
    loss.backward()
    assert loss.isfinite() and embeddings.grad.isfinite().all()


@pytest.mark.parametrize("name, form", every_form())
def test_order_of_the_batch_does_not_matter_without_a_random_miner(name, form):
    def first_pairs(embeddings, labels):
        same = labels[:, None] == labels[None, :]
        pairs = (same & ~torch.eye(len(labels), dtype=torch.bool)).nonzero()
        return torch.tensor([(a, p, n) for a, p in pairs.tolist() for n in (~same[a]).nonzero().squeeze(1).tolist()])
    criterion = criteria.select(name, n_classes=4, embed_dim=5, miner=first_pairs, form=form)
    embeddings, labels, order = unit(8), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), torch.tensor([5, 2, 7, 0, 1, 6, 3, 4])
    torch.testing.assert_close(criterion(output_of(embeddings), labels), criterion(output_of(embeddings[order]), labels[order]))


@pytest.mark.parametrize("name, form", every_form())
def test_non_finite_embeddings_give_a_non_finite_loss_and_no_crash(name, form):
    embeddings = unit(6).float()
    embeddings[2] = float("nan")
    assert not build(name, form)(output_of(embeddings), torch.tensor([0, 0, 1, 1, 3, 3])).isfinite()
