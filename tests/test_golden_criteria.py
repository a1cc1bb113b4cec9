"""Values and gradients of every registered objective, in the paper's and the textbook form."""
import pytest
import torch
from reference import assert_close, cases, resolve

import criteria
from utilities.types import ModelOutput

# Output of the manifest -> the arguments that give it.
FORMS = {"repo": {"form": "paper"}, "textbook": {"form": "textbook"}, "textbook_nu0.01": {"form": "textbook", "nu": 0.01}}
RENAMED = {"beta_init": "beta"}


def build(entry, options, inputs, dtype):
    hyperparameters = {RENAMED.get(name, name): value for name, value in entry["hparams"].items()} | options
    triplets = torch.from_numpy(inputs["triplets"]).long() if "triplets" in inputs else None
    criterion = criteria.select(entry["criterion"], n_classes=entry["n_classes"], embed_dim=entry["embed_dim"],
                                miner=lambda embeddings, labels: triplets, **hyperparameters).to(dtype)
    parameters = dict(criterion.named_parameters())
    for name, value in resolve(entry, entry.get("params") or {}).items():
        parameters[name].data.copy_(torch.from_numpy(value))
    return criterion


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, (1e-8, 1e-8)), (torch.float32, (1e-4, 1e-3))], ids=["float64", "float32"])
@pytest.mark.parametrize("reference", FORMS)
@pytest.mark.parametrize("entry", cases("criterion", lambda entry: entry["criterion"] in criteria.REGISTRY))
def test_value_and_gradient(entry, reference, dtype, tolerance):
    inputs, expected = resolve(entry, entry["inputs"]), resolve(entry, entry["outputs"])
    if reference not in expected:
        return  # the manifest gives this form only where it exists
    criterion = build(entry, FORMS[reference], inputs, dtype)
    embeddings = torch.from_numpy(inputs["embeddings"]).to(dtype).requires_grad_()
    output = ModelOutput(embeddings, embeddings.detach(), embeddings.detach()[..., None, None])
    loss = criterion(output, torch.from_numpy(inputs["labels"]).long())
    loss.backward()
    assert_close(loss.item(), expected[reference]["loss"], tolerance[0])
    assert_close(embeddings.grad, expected[reference]["grad_embeddings"], tolerance[1])
    for name, gradient in expected[reference].get("grad_params", {}).items():
        # The published code casts per-class betas to float32, hence its 1e-6.
        assert_close(dict(criterion.named_parameters())[name].grad, gradient, max(tolerance[1], 1e-6))
