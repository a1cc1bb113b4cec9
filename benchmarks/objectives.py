"""Speed of every objective with its mining: ours, plain loops, a library and the floor.

    python benchmarks/objectives.py --batch 112 1024 --dim 128 512
    python benchmarks/objectives.py --smoke                     # whether it runs, in seconds

A step is mining, forward and backward on unit embeddings with --samples_per_class per class, in
fp32. The floor is one B x B x D product and two row-wise log-sum-exps, one for each side of the
pairs, forward and backward. All candidates of an objective are timed in turn, round after round, in
one process, and the medians are given as multiples of the floor that was timed in the same rounds.
The library is pytorch-metric-learning.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "criteria")]

import loops
import torch
from torch.nn.functional import normalize

import batchminer
import criteria
import parameters
from utilities.report import table
from utilities.types import Miner, ModelOutput

CLASSES = 100
FEATURES = 512  # pooled dimension that the branches of s2sd and adversarial_separation start from
NESTED = ("s2sd", "adversarial_separation")
ROUNDS = 6  # at least, the first of which warms up
HEADER = ("objective", "floor (ms)", "ours", "pytorch-metric-learning", "loops")

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # embeddings, labels -> scalar loss


class Library(NamedTuple):
    """What of pytorch-metric-learning is the like of an objective: names of its classes."""

    losses: tuple[str, ...]  # which are added
    arguments: Mapping[str, Any] = {}  # of each
    distance: str = ""
    miner: str = ""


class Candidate(NamedTuple):
    """How an objective is timed.

    Attributes:
        miner: ours. settings: of the objective, beside the defaults.
    """

    miner: str = ""
    settings: Mapping[str, Any] = {}
    library: Library | None = None


class Conditions(NamedTuple):
    """Of a table.

    Attributes:
        seconds: for the rounds of an objective. loops_up_to: largest batch for which loops over all
            pairs are timed.
    """

    batch: int
    dim: int
    samples_per_class: int
    seconds: float
    loops_up_to: int
    device: torch.device

    @property
    def n_classes(self) -> int:
        """Of the objectives that learn something of each class."""
        return max(CLASSES, self.batch // self.samples_per_class)


def _distances(loss: str, distance: str = "") -> Candidate:
    """An objective on pairs by the distance-weighted miner, in both."""
    library = Library((loss,), distance=distance, miner="DistanceWeightedMiner")
    return Candidate("distance", {}, library)


def _whole_batch(*losses: str, **settings: Any) -> Candidate:
    """An objective without a miner."""
    return Candidate("", settings, Library(losses) if losses else None)


CANDIDATES = {
    "contrastive": _distances("ContrastiveLoss"),
    "triplet": _distances("TripletMarginLoss"),
    "margin": _distances("MarginLoss"),
    "snr": _distances("TripletMarginLoss", "SNRDistance"),
    "quadruplet": Candidate("distance"),
    "multisimilarity": Candidate(
        library=Library(("MultiSimilarityLoss",), miner="MultiSimilarityMiner")
    ),
    "npair": Candidate("npair"),
    "npair (mc)": Candidate("npair", {"form": "textbook_mc", "l2": 0}, Library(("NPairsLoss",))),
    "angular": Candidate("npair", {}, Library(("AngularLoss", "NPairsLoss"))),
    "lifted": Candidate("lifted", {}, Library(("GeneralizedLiftedStructureLoss",))),
    "lifted (textbook)": Candidate(
        "lifted", {"form": "textbook"}, Library(("LiftedStructureLoss",))
    ),
    "histogram": Candidate(library=Library(("HistogramLoss",), {"n_bins": 64})),
    "supcon": _whole_batch("SupConLoss"),
    "circle": _whole_batch("CircleLoss"),
    "smooth_ap": _whole_batch("SmoothAPLoss"),
    "recall_at_k": _whole_batch(),
    "softmax": _whole_batch("NormalizedSoftmaxLoss"),
    "arcface": _whole_batch("ArcFaceLoss"),
    "oproxy": _whole_batch("ProxyAnchorLoss"),
    "oproxy (nca)": _whole_batch("ProxyNCALoss", mode="nca"),
    "proxynca": _whole_batch("ProxyNCALoss"),
    "proxyanchor": _whole_batch("ProxyAnchorLoss"),
    "softtriplet": Candidate(
        "", {"reg_weight": 0}, Library(("SoftTripleLoss",), {"centers_per_class": 2})
    ),
    "s2sd": _whole_batch(w=1.0, feat_distill=True, feat_distill_delay=0, pool_aggr=True),
    "adversarial_separation": _whole_batch(),
}
# Of the library, left out above a batch of 256: memory grows with the cube of the batch, or steps
# take minutes.
TOO_LARGE = {"SmoothAPLoss", "HistogramLoss", "LiftedStructureLoss"}
LEARNS_CLASSES = {
    "NormalizedSoftmaxLoss",
    "ArcFaceLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "SoftTripleLoss",
}
WITHOUT_LOOP = (*NESTED, "histogram", "quadruplet")


def row(name: str, conditions: Conditions) -> tuple[str, ...]:
    """Of the table: the floor in milliseconds, and multiples of it."""
    torch.manual_seed(0)
    device = conditions.device
    labels = (torch.arange(conditions.batch) // conditions.samples_per_class).to(device)
    embeddings = torch.randn(conditions.batch, conditions.dim, device=device)
    embeddings = normalize(embeddings, dim=1).requires_grad_()
    steps = {
        "floor": floor,
        "ours": ours(name, conditions),
        "library": by_library(name, conditions),
        "loops": by_loops(name, conditions),
    }
    there = {kind: step for kind, step in steps.items() if step is not None}
    seconds = in_turn(there, embeddings, labels, conditions)
    base = seconds["floor"]
    multiples = [
        f"{seconds[kind] / base:.2f}" if kind in seconds else "-"
        for kind in ("ours", "library", "loops")
    ]
    return (name, f"{1e3 * base:.3g}", *multiples)


def in_turn(
    steps: dict[str, Step],
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    conditions: Conditions,
) -> dict[str, float]:
    """Median seconds of each step; one that takes a quarter of all the time is run once."""
    first = {kind: timed(step, embeddings, labels) for kind, step in steps.items()}
    repeated = [kind for kind in steps if first[kind] <= conditions.seconds / 4]
    repeated = list(dict.fromkeys(["floor", *repeated]))
    rounds: list[dict[str, float]] = []
    started = time.monotonic()
    while time.monotonic() - started < conditions.seconds or len(rounds) < ROUNDS - 1:
        rounds.append({kind: timed(steps[kind], embeddings, labels) for kind in repeated})
    return first | {
        kind: statistics.median(seconds[kind] for seconds in rounds) for kind in repeated
    }


def timed(step: Step, embeddings: torch.Tensor, labels: torch.Tensor) -> float:
    """Seconds, forward and backward."""
    embeddings.grad = None
    synchronise(embeddings.device)
    started = time.perf_counter()
    step(embeddings, labels).backward()
    synchronise(embeddings.device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def floor(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    similarities = embeddings @ embeddings.T
    return similarities.logsumexp(1).mean() + (-similarities).logsumexp(1).mean()


def miner_of(candidate: Candidate) -> Miner | None:
    if not candidate.miner:
        return None
    is_mc = candidate.settings.get("form") == "textbook_mc"
    return batchminer.select(candidate.miner, **({"form": "mc"} if is_mc else {}))


def ours(name: str, conditions: Conditions) -> Step:
    """The objective with its default settings but for those of the candidate."""
    objective, candidate = name.split(" ")[0], CANDIDATES[name]
    defaults = parameters.parse([])

    def hyperparameters(wanted: str) -> dict[str, Any]:
        values = parameters.hyperparameters(defaults, "loss", wanted)
        return values | (dict(candidate.settings) if wanted == objective else {})

    criterion = criteria.build(
        objective,
        hyperparameters,
        n_classes=conditions.n_classes,
        embed_dim=conditions.dim,
        feature_dim=FEATURES,
        miner=miner_of(candidate),
    ).to(conditions.device)
    shape = (FEATURES, 7, 7) if objective in NESTED else (1, 1, 1)
    feature_map = torch.randn(conditions.batch, *shape, device=conditions.device)
    features = feature_map.mean((2, 3))

    def step(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return criterion(ModelOutput(embeddings, features, feature_map), labels)

    return step


def by_library(name: str, conditions: Conditions) -> Step | None:
    """Its like in pytorch-metric-learning, if that is installed and has one that ends."""
    library = CANDIDATES[name].library
    if library is None or find_spec("pytorch_metric_learning") is None:
        return None
    if conditions.batch > 256 and TOO_LARGE & {*library.losses}:
        return None
    from pytorch_metric_learning import distances, losses, miners

    arguments = dict(library.arguments)
    if library.distance:
        arguments["distance"] = getattr(distances, library.distance)()
    if LEARNS_CLASSES & {*library.losses}:
        arguments |= {"num_classes": conditions.n_classes, "embedding_size": conditions.dim}
    objectives = [
        getattr(losses, loss)(**arguments).to(conditions.device) for loss in library.losses
    ]
    miner = getattr(miners, library.miner)() if library.miner else None

    def step(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        mined = () if miner is None else (miner(embeddings, labels),)
        return sum(objective(embeddings, labels, *mined) for objective in objectives)

    return step


def by_loops(name: str, conditions: Conditions) -> Step | None:
    """That of the tests, on the CPU; loops over the triplets of a miner at any batch."""
    objective, candidate = name.split(" ")[0], CANDIDATES[name]
    is_short = candidate.miner == "distance" or conditions.batch <= conditions.loops_up_to
    if objective in WITHOUT_LOOP or conditions.device.type != "cpu" or not is_short:
        return None
    loop, miner = getattr(loops, objective), miner_of(candidate)
    settings = dict(candidate.settings)
    weights: list[torch.Tensor] = []
    if miner is not None and objective == "margin":
        settings["beta"] = torch.full((conditions.n_classes,), 1.2)
    elif "n_classes" in criteria.REGISTRY[objective].NEEDS:
        centres = (2,) if objective == "softtriplet" else ()
        shape = (conditions.n_classes, *centres, conditions.dim)
        weights = [torch.randn(shape, requires_grad=True)]

    def step(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        mined = [] if miner is None else [miner(embeddings, labels).tolist()]
        return loop(embeddings, labels.tolist(), *mined, *weights, **settings)

    return step


def read_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[112, 1024])
    parser.add_argument("--dim", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--samples_per_class", type=int, default=2)
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="time for the rounds of an objective"
    )
    parser.add_argument(
        "--loops_up_to",
        type=int,
        default=112,
        help="largest batch for which loops over all pairs are timed; those over triplets always "
        "are",
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--only", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--smoke", action="store_true", help="whether it runs: tiny batches")
    options = parser.parse_args()
    if options.smoke:
        options.batch, options.dim, options.seconds = [8], [16], 0.01
    return options


def main() -> None:
    options = read_command_line()
    for batch in options.batch:
        for dim in options.dim:
            conditions = Conditions(
                batch,
                dim,
                options.samples_per_class,
                options.seconds,
                options.loops_up_to,
                options.device,
            )
            rows = [row(name, conditions) for name in options.only]
            print(
                f"\nbatch {batch}, {options.samples_per_class} per class, dim {dim}, "
                f"{options.device}, {torch.get_num_threads()} thread(s); multiples of the floor\n"
            )
            print(table(rows, HEADER), flush=True)


if __name__ == "__main__":
    main()
