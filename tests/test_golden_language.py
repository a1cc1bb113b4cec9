"""The distillation loss, its gradient and the pseudolabels against the published code."""

import pytest
import torch
from reference import assert_close, cases, resolve

from language_guidance import LanguageGuide, TextBank, pseudolabels


def bank_of(vectors: torch.Tensor) -> TextBank:
    """Of vectors [C, k, E], each a text of its own."""
    count, ranks, _ = vectors.shape
    return TextBank(vectors.flatten(0, 1), torch.arange(count * ranks).view(count, ranks))


def guide_for(entry, inputs) -> LanguageGuide:
    vectors = torch.from_numpy(inputs["language_embeds"])
    options = {
        "direction": entry["distill_dir"],
        "shift": entry["shift"],
        "temperature": entry["T"],
        "delay": entry.get("activation_iter", 0),
    }
    if entry["mode"] == "sample":
        return LanguageGuide(bank_of(vectors)._replace(by_image=True), **options)
    if entry["mode"] == "dict":
        table = vectors.new_zeros(int(inputs["language_keys"].max()) + 1, 1, vectors.shape[-1])
        table[torch.from_numpy(inputs["language_keys"]).long(), 0] = vectors.reshape(
            len(vectors), -1
        )
        return LanguageGuide(bank_of(table), **options)
    return LanguageGuide(bank_of(vectors), **options)


@pytest.mark.parametrize(
    "dtype, tolerance",
    [(torch.float64, (1e-8, 1e-8)), (torch.float32, (1e-4, 1e-3))],
    ids=["float64", "float32"],
)
@pytest.mark.parametrize("entry", cases("language"))
def test_loss_and_gradient(entry, dtype, tolerance):
    inputs, expected = resolve(entry, entry["inputs"]), resolve(entry, entry["outputs"])["repo"]
    guide = guide_for(entry, inputs).to(dtype)
    embeddings = torch.from_numpy(inputs["embeddings"]).to(dtype).requires_grad_()
    labels = torch.from_numpy(inputs["labels"]).long()
    indices = (
        torch.from_numpy(inputs["sample_indices"]).long()
        if "sample_indices" in inputs
        else torch.arange(len(labels))
    )
    if "losses" in expected:
        assert_close(
            [guide(embeddings, labels, indices).item() for _ in expected["losses"]],
            expected["losses"],
            tolerance[0],
        )
        return
    loss = guide(embeddings, labels, indices)
    loss.backward()
    assert_close(loss.item(), expected["loss"], tolerance[0])
    assert_close(embeddings.grad, expected["grad_embeddings"], tolerance[1])


@pytest.mark.parametrize("entry", cases("relabel"))
def test_pseudolabels(entry):
    inputs, expected = resolve(entry, entry["inputs"]), resolve(entry, entry["outputs"])["repo"]
    logits = torch.from_numpy(inputs["logits"])
    _, labels = torch.from_numpy(inputs["labels"]).unique(
        return_inverse=True
    )  # a split's labels are 0..C-1
    by_class = pseudolabels.top_classes(logits, labels, entry["topk"])
    by_sample = pseudolabels.top_samples(logits, entry["topk"])
    assert torch.equal(by_class, torch.from_numpy(expected["class_top5"]).long())
    assert torch.equal(by_sample, torch.from_numpy(expected["sample_top5"]).long())
    table, canonical = (
        torch.from_numpy(inputs["language_table"]),
        torch.from_numpy(inputs["name_canonical_index"]).long(),
    )
    assert_close(table[canonical[by_class]], expected["language_embeds_class"], 1e-6)
    assert_close(table[canonical[by_sample]], expected["language_embeds_sample"], 1e-6)
