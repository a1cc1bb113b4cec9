"""Every golden metric against brute force in float64.

Also against the published code, where that is well defined.
"""

import re

import numpy as np
import pytest
import torch
from reference import assert_close, cases, resolve

import metrics
from evaluation.neighbours import Gallery, nearest
from evaluation.retrieval import Protocol, per_query
from metrics import EUCLIDEAN, EmbeddedSplit

OURS = {"mAP_1000_repo_formula": "mAP_1000", "mAP_1000_textbook": "mAP_lim"}


def named(golden: str) -> tuple[str, str]:
    """Our name of a golden metric, and what happens to queries without a class-mate.

    That is "", "_no_singletons" or "_singletons_zero".
    """
    match = re.fullmatch(r"(.*?)(_no_singletons|_singletons_zero|)", golden)
    assert match is not None
    name, singletons = match.groups()
    space, name = ("c_", name[2:]) if name.startswith("c_mAP") else ("", name)
    return space + OURS.get(name, name), singletons


@pytest.mark.parametrize("use_faiss", [False, True], ids=["torch", "faiss"])
@pytest.mark.parametrize(
    "entry", cases("metrics", lambda entry: entry["id"].startswith("metrics.retrieval"))
)
def test_retrieval(entry, use_faiss):
    inputs, expected = resolve(entry, entry["inputs"]), resolve(entry, entry["outputs"])
    embeddings = torch.from_numpy(inputs["embeddings"])
    labels = torch.from_numpy(inputs["labels"]).long()
    names = {
        golden: named(golden) for golden in expected["bruteforce"] if golden != "top10_neighbours"
    }
    wanted = [metrics.parse(name) for name in {name for name, _ in names.values()}]
    found = per_query(embeddings, Protocol(labels), wanted, memory=2**28, use_faiss=use_faiss)
    is_alone = labels.bincount()[labels] == 1
    for golden, (name, singletons) in names.items():
        values = {
            "": found[name],
            "_no_singletons": found[name][~is_alone],
            "_singletons_zero": found[name].nan_to_num(0),
        }[singletons]
        tolerance = 1e-12 if "recall" in name else 1e-9
        assert_close(metrics.per_query_mean(values), expected["bruteforce"][golden], tolerance)
    gallery = Gallery(embeddings, EUCLIDEAN, depth=10, use_faiss=use_faiss)
    _, neighbours = nearest(gallery, embeddings, torch.arange(len(embeddings)), 10)
    assert neighbours.tolist() == expected["bruteforce"]["top10_neighbours"].tolist()
    if entry["mAP_repo_valid"]:
        assert_close(metrics.per_query_mean(found["mAP_1000"]), expected["repo"]["mAP_1000"], 5e-6)


def split_of(entry) -> EmbeddedSplit:
    inputs = resolve(entry, entry["inputs"])
    clusters = {}
    if "assignments" in inputs:
        clusters[EUCLIDEAN] = torch.from_numpy(np.asarray(inputs["assignments"])).long()
    labels = torch.from_numpy(inputs["labels"]).long()
    return EmbeddedSplit(labels, torch.from_numpy(inputs["embeddings"]), clusters)


@pytest.mark.parametrize(
    "entry", cases("metrics", lambda entry: entry["id"].startswith("metrics.cluster"))
)
def test_clustering(entry):
    expected = resolve(entry, entry["outputs"])
    for name in ("nmi", "f1"):
        found = metrics.parse(name).compute(split_of(entry))
        assert_close(found, expected["bruteforce"][name], 1e-9)
        assert_close(found, expected["repo"][name], 1e-9)


@pytest.mark.parametrize(
    "entry",
    cases("metrics", lambda entry: entry["id"].startswith(("metrics.dists", "metrics.rho"))),
)
def test_geometry(entry):
    expected = resolve(entry, entry["outputs"])
    distances = "dists@intra", "dists@inter", "dists@intra_over_inter"
    names = [name for name in expected["bruteforce"] if name.startswith("rho") or name in distances]
    assert names
    for name in names:
        found = metrics.parse(name).compute(split_of(entry))
        assert_close(found, expected["bruteforce"][name], 1e-5)
        if name.startswith("rho"):
            assert_close(found, expected["repo_torch_path"][name], entry["rtol"])
