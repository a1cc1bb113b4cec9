"""Values and gradients of every objective of the manifest, in the paper's and the textbook form."""

import pytest
import torch
from reference import assert_close, cases, resolve

import criteria
from utilities.types import ModelOutput

# Output of the manifest -> the arguments that give it; where one names another objective of ours,
# its name stands first.
FORMS = {
    "repo": {"form": "paper"},
    "textbook": {"form": "textbook"},
    "textbook_nu0.01": {"form": "textbook", "nu": 0.01},
    "euclidean_variant": {"form": "euclidean"},
    "textbook_normalised_input": {"form": "textbook_normalised"},
    "textbook_npair_mc": {"form": "textbook_mc"},
    "textbook_proxyncapp": {"form": "plusplus"},
}
RENAMED = {"beta_init": "beta"}
# Facts of the reference that are no arguments: constants of a formula, or shapes.
NOT_ARGUMENTS = ("pairwise_eps", "clamp", "arch", "feature_dim", "multisimilarity")
PROXYNCA_HAS_NO = ("mode", "pos_alpha", "neg_alpha", "pos_delta", "neg_delta")


def arguments(entry, options):
    given = {
        RENAMED.get(name, name): value
        for name, value in entry["hparams"].items()
        if name not in NOT_ARGUMENTS
    }
    of_the_run = {name: entry[name] for name in ("n_classes", "embed_dim")}
    of_the_run["feature_dim"] = entry["hparams"].get("feature_dim")
    return given | of_the_run | options


def build(entry, reference, inputs, dtype):
    name, given = entry["criterion"], arguments(entry, FORMS[reference])
    given["miner"] = lambda embeddings, labels: triplets(inputs, reference)
    if name == "s2sd":
        form, inner = given.pop("form"), entry["hparams"][entry["hparams"]["source"]]
        given["source"], *given["target"] = [
            criteria.select(given[part], form=form, **inner)
            for part in ("source", *["target"] * len(given["target_dims"]))
        ]
    if reference == "textbook_proxyncapp":
        name = "proxynca"
        given = {key: value for key, value in given.items() if key not in PROXYNCA_HAS_NO}
    criterion = criteria.select(name, **given).to(dtype)
    parameters = dict(criterion.named_parameters())
    for parameter, value in resolve(entry, entry.get("params") or {}).items():
        parameters[parameter].data.copy_(torch.from_numpy(value))
    return criterion


def triplets(inputs, reference):
    """Those of the entry, or those that its tuples stand for."""
    given = {name: torch.from_numpy(value) for name, value in inputs.items()}
    if "triplets" in inputs:
        return given["triplets"].long()
    if reference == "textbook_npair_mc":
        here, there = (~torch.eye(len(given["mc_anchors"]), dtype=torch.bool)).nonzero(
            as_tuple=True
        )
        return torch.stack(
            [given["mc_anchors"][here], given["mc_positives"][here], given["mc_positives"][there]],
            dim=1,
        )
    rows, negatives = given["negative_mask"].bool().nonzero(as_tuple=True)
    return torch.stack([given["anchors"][rows], given["positives"][rows], negatives], dim=1)


def leaves(inputs, dtype):
    """Embeddings, features and feature map that take gradients.

    An entry without features gets its embeddings'.
    """
    embeddings = torch.from_numpy(inputs["embeddings"]).to(dtype).requires_grad_()
    if "batch_features" not in inputs:
        return ModelOutput(embeddings, embeddings.detach(), embeddings.detach()[..., None, None])
    features, feature_map = (
        torch.from_numpy(inputs[name]).to(dtype).requires_grad_()
        for name in ("avg_batch_features", "batch_features")
    )
    return ModelOutput(embeddings, features, feature_map)


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-8), (torch.float32, 1e-5)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("entry", cases("criterion"))
def test_value_and_gradient(entry, dtype, tolerance):
    inputs = resolve(entry, entry["inputs"])
    for reference, expected in resolve(entry, entry["outputs"]).items():
        criterion, output = build(entry, reference, inputs, dtype), leaves(inputs, dtype)
        loss = criterion(output, torch.from_numpy(inputs["labels"]).long())
        loss.backward()
        # The published code casts per-class betas to float32, hence its 1e-6.
        allowed = max(tolerance, entry["rtol"])
        assert_close(loss.item(), expected["loss"], allowed)
        assert_close(output.embeddings.grad, expected["grad_embeddings"], allowed)
        for name, gradient in expected.get("grad_params", {}).items():
            assert_close(dict(criterion.named_parameters())[name].grad, gradient, allowed)
        for name, part in (
            ("grad_avg_batch_features", output.features),
            ("grad_batch_features", output.feature_map),
        ):
            if name in expected:
                assert_close(part.grad, expected[name], allowed)
