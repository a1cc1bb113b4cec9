"""Objectives: one file each, an explicit registry.

`select(name, ...)` makes one, `build(name, ...)` one with those that it holds:

    loss = criteria.select("margin", n_classes=100, miner=batchminer.select("distance"))
    loss(embeddings, labels).backward()
"""

from collections.abc import Callable
from typing import Any

from criteria.adversarial_separation import AdversarialSeparationLoss
from criteria.angular import AngularLoss
from criteria.arcface import ArcFaceLoss
from criteria.base import Criterion
from criteria.circle import CircleLoss
from criteria.contrastive import ContrastiveLoss
from criteria.histogram import HistogramLoss
from criteria.lifted import LiftedLoss
from criteria.margin import MarginLoss
from criteria.multisimilarity import MultiSimilarityLoss
from criteria.npair import NPairLoss
from criteria.oproxy import OProxyLoss
from criteria.pml import PytorchMetricLearningLoss
from criteria.proxyanchor import ProxyAnchorLoss
from criteria.proxynca import ProxyNCALoss
from criteria.quadruplet import QuadrupletLoss
from criteria.recall_at_k import RecallAtKLoss
from criteria.s2sd import S2SDLoss
from criteria.smooth_ap import SmoothAPLoss
from criteria.snr import SNRLoss
from criteria.softmax import SoftmaxLoss
from criteria.softtriplet import SoftTripletLoss
from criteria.supcon import SupConLoss
from criteria.triplet import TripletLoss
from utilities.choices import part_of
from utilities.pml import PREFIX
from utilities.types import Miner

REGISTRY: dict[str, type[Criterion]] = {
    "contrastive": ContrastiveLoss,
    "triplet": TripletLoss,
    "margin": MarginLoss,
    "multisimilarity": MultiSimilarityLoss,
    "npair": NPairLoss,
    "arcface": ArcFaceLoss,
    "softmax": SoftmaxLoss,
    "oproxy": OProxyLoss,
    "s2sd": S2SDLoss,
    "proxynca": ProxyNCALoss,
    "softtriplet": SoftTripletLoss,
    "angular": AngularLoss,
    "lifted": LiftedLoss,
    "histogram": HistogramLoss,
    "quadruplet": QuadrupletLoss,
    "snr": SNRLoss,
    "adversarial_separation": AdversarialSeparationLoss,
    "proxyanchor": ProxyAnchorLoss,
    "supcon": SupConLoss,
    "circle": CircleLoss,
    "smooth_ap": SmoothAPLoss,
    "recall_at_k": RecallAtKLoss,
}


def select(name: str, **arguments: Any) -> Criterion:
    """The objective `name`, or `pml:<ClassName>` of pytorch-metric-learning.

    Args:
        arguments: its hyper-parameters, and what it needs of the run's values (see
            Criterion.NEEDS); those of them that it does not need are left aside.
    Raises:
        TypeError: an argument that it does not know, or one missing that it needs.
        ValueError: a name, form or mode that there is not.
    """
    criterion = class_of(name)
    if criterion is PytorchMetricLearningLoss:
        arguments["name"] = name.removeprefix(PREFIX)
    for value_of_the_run in ("n_classes", "embed_dim", "feature_dim", "miner", "flag"):
        if value_of_the_run not in criterion.NEEDS:
            arguments.pop(value_of_the_run, None)
    return criterion(**arguments)


def class_of(name: str) -> type[Criterion]:
    """The class of a registered name, or the bridge for `pml:<ClassName>`."""
    if name.startswith(PREFIX):
        return PytorchMetricLearningLoss
    return part_of(REGISTRY, "name", name)


def build(
    name: str,
    hyperparameters: Callable[[str], dict[str, Any]],
    *,
    n_classes: int,
    embed_dim: int,
    feature_dim: int,
    miner: Miner | None,
    flag: str = "--loss",
) -> Criterion:
    """The objective `name` with those that it holds, if any.

    Args:
        hyperparameters: gives those of an objective by its name.
        n_classes, embed_dim, feature_dim: the run's values. miner: None where no objective has one.
        flag: that names the objective.
    """
    run: dict[str, Any] = {"n_classes": n_classes, "feature_dim": feature_dim, "miner": miner}
    arguments = hyperparameters(name)
    if "source" in class_of(name).NEEDS:
        source, target = arguments["source"], arguments["target"]
        run_of_target = run | {"flag": f"--loss_{name}_target"}
        run_of_source = run | {"flag": f"--loss_{name}_source", "embed_dim": embed_dim}
        arguments["source"] = build(source, hyperparameters, **run_of_source)
        arguments["target"] = [
            build(target, hyperparameters, embed_dim=dim, **run_of_target)
            for dim in arguments["target_dims"]
        ]
    return select(name, embed_dim=embed_dim, flag=flag, **run, **arguments)
