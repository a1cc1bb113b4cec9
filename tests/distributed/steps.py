"""Steps of a learner with every objective, miner and guide, on however many processes."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from every_objective import build, every_form
from small_learner import Convolution
from torch import nn

import batchminer
import criteria
import parameters
from criteria import Criterion
from language_guidance.guide import ContrastiveGuide, Guide, LanguageGuide, SquaredGuide
from language_guidance.text_bank import TextBank
from training import Learner, Updates, WeightedGuide, optimizers, schedules
from utilities import processes, seeding
from utilities.runtime import Runtime
from utilities.types import Batch

# Eleven images, which neither 2 nor 4 processes share evenly.
LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3])
STEPS = 2
# Objectives that the tests make with every miner, and in chunks: the benchmark takes all.
MINED = ("triplet",)
IN_CHUNKS = ("margin", "s2sd", "s2sd-all", "adversarial_separation", "softmax")
GUIDES = {"kl": LanguageGuide, "squares": SquaredGuide, "contrastive": ContrastiveGuide}


class Case(NamedTuple):
    """What is trained, and how."""

    name: str
    objective: str
    settings: dict[str, object] | None = None
    miner: str | None = None
    guide: str | None = None
    micro_batch: int = 0
    layer: str = "none"  # what the network draws, or follows
    dtype: torch.dtype = torch.float64


class Made(NamedTuple):
    """Losses [steps] of all steps, and gradients and weights after the last."""

    losses: torch.Tensor
    gradients: list[torch.Tensor | None]
    weights: list[torch.Tensor]


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "dropout": lambda: nn.Dropout(0.4),
    "norm": lambda: nn.BatchNorm2d(5),
}


def equal(*, whole: bool = False) -> Iterator[Case]:
    """Those whose steps are the same on any number of processes; `whole`: all of them."""
    for form in every_form():
        name, settings = form.values
        yield Case(str(form.id), name, settings)
        if whole or form.id in IN_CHUNKS:
            yield Case(f"{form.id}, in chunks", name, settings, micro_batch=2, guide="kl")
    for name in parameters.ANY_MINER if whole else MINED:
        for miner in batchminer.REGISTRY:
            yield Case(f"{name} of {miner}", name, miner=miner)
    for guide in GUIDES:
        yield Case(f"guided by {guide}", "multisimilarity", guide=guide)
    for name in ("margin", "s2sd", "softmax"):
        yield Case(f"{name} in single precision", name, guide="kl", dtype=torch.float32)
    if find_spec("pytorch_metric_learning"):
        yield Case("of pml", "pml:TripletMarginLoss", miner="semihard")
        yield Case("of pml, with weights", "pml:ProxyNCALoss")
        yield Case("mined by pml", "triplet", miner="pml:TripletMarginMiner")


def alike() -> Iterator[Case]:
    """Those in which each process draws or normalises for itself, but all learn the same."""
    for layer in ("dropout", "norm"):
        yield Case(f"behind {layer}", "margin", miner="distance", layer=layer)
        yield Case(f"behind {layer}, in chunks", "margin", layer=layer, micro_batch=2)


def batch(case: Case, runtime: Runtime, step: int) -> Batch:
    """This process's images and all labels of a step."""
    random = torch.Generator().manual_seed(step)
    images = torch.randn(len(LABELS), 3, 5, 5, dtype=torch.float64, generator=random)
    order = torch.randperm(len(LABELS), generator=random)
    share = images.to(case.dtype)[runtime.part.rows(len(LABELS))]
    return Batch(share, LABELS[order], order)


def make(
    case: Case,
    runtime: Runtime,
    steps: int = STEPS,
    batch: Callable[[Case, Runtime, int], Batch] = batch,
) -> Made:
    """Some steps, of which this process has its share."""
    torch.manual_seed(0)
    network = Convolution(LAYERS[case.layer]()).to(case.dtype)
    criterion, guide = _criterion(case), _guide(case)
    parts: list[nn.Module] = [network, criterion, *([guide] if guide else [])]
    weights = [each for part in parts for each in part.parameters()]
    groups = [{"params": weights, "lr": 0.05, "weight_decay": 0.0}]
    optimizer = optimizers.select("sgd", groups)
    schedule = schedules.select("none", optimizer, schedules.Course(1))
    learner = Learner(
        network,
        criterion,
        Updates(optimizer, schedule, clip_gradient=10.0),
        runtime=runtime,
        guidance=WeightedGuide(guide, 0.7) if guide else None,
        micro_batch=case.micro_batch,
    )
    losses = []
    torch.manual_seed(1)
    learner.start_epoch(0)
    for step in range(steps):
        losses.append(learner.step(batch(case, runtime, step), seeding.derive(3, step))["loss"])
    buffers = [each.clone() for each in network.buffers()]
    state = [each.detach().clone() for each in weights]
    return Made(torch.stack(losses), [each.grad for each in weights], state + buffers)


def _criterion(case: Case) -> Criterion:
    miner = batchminer.select(case.miner) if case.miner else None
    if case.objective in criteria.REGISTRY:
        return build(case.objective, case.settings or {}, miner).to(case.dtype)
    made = criteria.select(case.objective, n_classes=4, embed_dim=5, miner=miner, flag="--loss")
    return made.to(case.dtype)


def _guide(case: Case) -> Guide | None:
    if case.guide is None:
        return None
    vectors = torch.randn(4, 6, generator=torch.Generator().manual_seed(5)).to(case.dtype)
    bank = TextBank(vectors, torch.arange(4)[:, None])
    options = {"embed_dim": 5} if case.guide == "contrastive" else {}
    return GUIDES[case.guide](bank, **options).to(case.dtype)


def make_all(folder: Path, cases: list[Case], steps: int = STEPS) -> None:
    """As one of several processes: write what each case gave, by its name."""
    place = processes.place()
    processes.join(place)
    runtime = Runtime(rank=place.rank, world_size=place.world_size)
    made = {case.name: tuple(make(case, runtime, steps)) for case in cases}
    torch.save(made, folder / f"{place.rank}.pt")
    processes.leave()
