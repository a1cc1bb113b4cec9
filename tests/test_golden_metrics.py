"""Every registered metric against brute force in float64, and against the published code where that is well defined."""
import numpy as np
import pytest
import torch
from reference import assert_close, cases, resolve

import metrics
from evaluation import evaluate_embeddings, search
from metrics import Retrieval

GOLDEN_NAMES = {"mAP_1000": "mAP_1000_repo_formula", "c_mAP_1000": "c_mAP_1000_repo_formula"}


def registered(names) -> list[str]:
    known = {golden: name for name, golden in GOLDEN_NAMES.items()}
    found = []
    for name in names:
        try:
            found.append((known.get(name, name), name, metrics.parse(known.get(name, name))))
        except ValueError:
            continue  # a variant of the definition, or a metric that is not registered
    return [(name, golden, metric) for name, golden, metric in found if GOLDEN_NAMES.get(name, name) == golden]


@pytest.mark.parametrize("backend", ["faiss", "torch"])
@pytest.mark.parametrize("entry", cases("metrics", lambda entry: entry["id"].startswith("metrics.retrieval")))
def test_retrieval(entry, backend, monkeypatch):
    if backend == "torch":
        monkeypatch.setattr(search, "_faiss", lambda: None)
    inputs, expected = resolve(entry, entry["inputs"]), resolve(entry, entry["outputs"])
    asked = registered(expected["bruteforce"])
    assert {"e_recall@1", "c_recall@10", "mAP_1000"} <= {name for name, _, _ in asked}
    found = evaluate_embeddings(torch.from_numpy(inputs["embeddings"]), torch.from_numpy(inputs["labels"]).long(), [metric for *_, metric in asked])
    for name, golden, _ in asked:
        exact = "recall" in name
        assert_close(found[name], expected["bruteforce"][golden], 1e-12 if exact else 5e-6)
    if entry["mAP_repo_valid"]:
        assert_close(found["mAP_1000"], expected["repo"]["mAP_1000"], 5e-6)


@pytest.mark.parametrize("entry", cases("metrics", lambda entry: entry["id"].startswith("metrics.cluster")))
def test_clustering(entry):
    inputs, expected = resolve(entry, entry["inputs"]), resolve(entry, entry["outputs"])
    retrieval = Retrieval(torch.from_numpy(inputs["labels"]).long(), torch.from_numpy(inputs["embeddings"]),
                          clusters=torch.from_numpy(np.asarray(inputs["assignments"])).long())
    for name in ("nmi", "f1"):
        assert_close(metrics.parse(name).compute(retrieval), expected["bruteforce"][name], 1e-9)
        assert_close(metrics.parse(name).compute(retrieval), expected["repo"][name], 1e-9)
