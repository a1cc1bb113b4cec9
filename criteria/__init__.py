"""Objectives: one file each, an explicit registry, `select(name, ...)` and `build(name, ...)` are the doors."""

from collections.abc import Callable

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
from utilities.pml import PREFIX
from utilities.report import first_line

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


def select(name: str, **arguments) -> Criterion:
    """The objective `name`: hyper-parameters by name, and of the run's values (see Criterion.NEEDS) those that it needs."""
    criterion = class_of(name)
    if criterion is PytorchMetricLearningLoss:
        arguments["name"] = name.removeprefix(PREFIX)
    not_needed = {"n_classes", "embed_dim", "feature_dim", "miner"} - set(criterion.NEEDS)
    return criterion(
        **{argument: value for argument, value in arguments.items() if argument not in not_needed}
    )


def class_of(name: str) -> type[Criterion]:
    """The class of a registered name, or the bridge for `pml:<ClassName>`."""
    return PytorchMetricLearningLoss if name.startswith(PREFIX) else REGISTRY[name]


def build(name: str, hyperparameters: Callable[[str], dict], **run) -> Criterion:
    """The objective `name` with those that it holds, if any.

    Args:
        hyperparameters: gives those of an objective by its name. run: n_classes, embed_dim,
            feature_dim, miner.
    """
    own = hyperparameters(name)
    if "source" in class_of(name).NEEDS:
        own["source"] = build(own["source"], hyperparameters, **run)
        own["target"] = [
            build(own["target"], hyperparameters, **run | {"embed_dim": dim})
            for dim in own["target_dims"]
        ]
    return select(name, **run, **own)


def describe() -> dict[str, str]:
    """What each objective does, in a line, with the miners that it takes."""

    def miners(criterion: type[Criterion]) -> str:
        return (
            f" [miner: {' or '.join(criterion.MINERS) if criterion.MINERS else 'any'}]"
            if "miner" in criterion.NEEDS
            else ""
        )

    described = {
        name: first_line(criterion) + miners(criterion) for name, criterion in REGISTRY.items()
    }
    return described | {
        f"{PREFIX}<ClassName>": first_line(PytorchMetricLearningLoss)
        + f" [miner: {PREFIX}<ClassName> or none]"
    }
