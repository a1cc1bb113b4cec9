"""Speed of every objective with its mining: ours, plain loops, pytorch-metric-learning and the floor, in one process.

    python benchmarks/objectives.py --batch 112 1024 --dim 128 512

A step is mining, forward and backward on unit embeddings with --samples_per_class per class, in
fp32. The floor is one B x B x D product and two row-wise log-sum-exps, one for each side of the
pairs, forward and backward. All candidates of an objective are timed in turn, round after round,
and the medians are given as multiples of the floor that was timed in the same rounds.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import normalize

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "criteria")]
import loops  # noqa: E402

import batchminer  # noqa: E402
import criteria  # noqa: E402
import parameters  # noqa: E402
from utilities.report import table  # noqa: E402
from utilities.types import ModelOutput  # noqa: E402

CLASSES = 100
# Objective -> miner, further settings, loss of pytorch-metric-learning with its arguments, its
# miner.
CANDIDATES = {
    "contrastive": ("distance", {}, ("ContrastiveLoss", {}), "DistanceWeightedMiner"),
    "triplet": ("distance", {}, ("TripletMarginLoss", {}), "DistanceWeightedMiner"),
    "margin": ("distance", {}, ("MarginLoss", {}), "DistanceWeightedMiner"),
    "snr": (
        "distance",
        {},
        ("TripletMarginLoss", {"distance": "SNRDistance"}),
        "DistanceWeightedMiner",
    ),
    "quadruplet": ("distance", {}, None, None),
    "multisimilarity": (None, {}, ("MultiSimilarityLoss", {}), "MultiSimilarityMiner"),
    "npair": ("npair", {}, None, None),
    "npair (mc)": ("npair", {"form": "textbook_mc", "l2": 0}, ("NPairsLoss", {}), None),
    "angular": ("npair", {}, ("AngularLoss+NPairsLoss", {}), None),
    "lifted": ("lifted", {}, ("GeneralizedLiftedStructureLoss", {}), None),
    "lifted (textbook)": ("lifted", {"form": "textbook"}, ("LiftedStructureLoss", {}), None),
    "histogram": (None, {}, ("HistogramLoss", {"n_bins": 64}), None),
    "supcon": (None, {}, ("SupConLoss", {}), None),
    "circle": (None, {}, ("CircleLoss", {}), None),
    "smooth_ap": (None, {}, ("SmoothAPLoss", {}), None),
    "recall_at_k": (None, {}, None, None),
    "softmax": (None, {}, ("NormalizedSoftmaxLoss", {}), None),
    "arcface": (None, {}, ("ArcFaceLoss", {}), None),
    "oproxy": (None, {}, ("ProxyAnchorLoss", {}), None),
    "oproxy (nca)": (None, {"mode": "nca"}, ("ProxyNCALoss", {}), None),
    "proxynca": (None, {}, ("ProxyNCALoss", {}), None),
    "proxyanchor": (None, {}, ("ProxyAnchorLoss", {}), None),
    "softtriplet": (None, {"reg_weight": 0}, ("SoftTripleLoss", {"centers_per_class": 2}), None),
    "s2sd": (
        None,
        {"w": 1.0, "feat_distill": True, "feat_distill_delay": 0, "pool_aggr": True},
        None,
        None,
    ),
    "adversarial_separation": (None, {}, None, None),
}
# Of pytorch-metric-learning, left out above a batch of 256: memory grows with the cube of the
# batch, or steps take minutes.
TOO_LARGE = ("SmoothAPLoss", "HistogramLoss", "LiftedStructureLoss")
FEATURES = 512  # pooled dimension that the branches of s2sd and adversarial_separation start from
NESTED = ("s2sd", "adversarial_separation")


def main() -> None:
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
        help="largest batch for which loops over all pairs are timed; those over triplets always are",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", default=list(CANDIDATES))
    opt = parser.parse_args()
    for batch in opt.batch:
        for dim in opt.dim:
            rows = [measured(name, batch, dim, opt) for name in opt.only]
            print(
                f"\nbatch {batch}, {opt.samples_per_class} per class, dim {dim}, {opt.device}, {torch.get_num_threads()} thread(s); multiples of the floor\n"
            )
            print(
                table(
                    rows, ("objective", "floor (ms)", "ours", "pytorch-metric-learning", "loops")
                ),
                flush=True,
            )


def measured(name: str, batch: int, dim: int, opt) -> tuple:
    torch.manual_seed(0)
    labels = (torch.arange(batch) // opt.samples_per_class).to(opt.device)
    embeddings = normalize(torch.randn(batch, dim, device=opt.device), dim=1).requires_grad_()
    steps = {
        "floor": floor,
        "ours": ours(name, dim, batch, opt),
        "pml": bridged(name, dim, opt),
        "loops": looped(name, batch, dim, opt),
    }
    timings = in_turn({kind: step for kind, step in steps.items() if step}, embeddings, labels, opt)
    base = timings["floor"]
    return (
        name,
        f"{1e3 * base:.3g}",
        *(
            f"{timings[kind] / base:.2f}" if kind in timings else "-"
            for kind in ("ours", "pml", "loops")
        ),
    )


def in_turn(steps: dict, embeddings: torch.Tensor, labels: torch.Tensor, opt) -> dict[str, float]:
    """Median seconds of each step; one that takes longer than all the time is run once."""
    seconds = {
        kind: [timed(step, embeddings, labels, opt)] for kind, step in steps.items()
    }  # the first round warms up
    slow = {kind for kind, (first,) in seconds.items() if first > opt.seconds / 4}
    started = time.monotonic()
    while time.monotonic() - started < opt.seconds or len(seconds["floor"]) < 6:
        for kind in steps.keys() - slow:
            seconds[kind].append(timed(steps[kind], embeddings, labels, opt))
    return {kind: statistics.median(values[1:] or values) for kind, values in seconds.items()}


def timed(step, embeddings: torch.Tensor, labels: torch.Tensor, opt) -> float:
    embeddings.grad = None
    if opt.device != "cpu":
        torch.cuda.synchronize()
    started = time.perf_counter()
    step(embeddings, labels).backward()
    if opt.device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def floor(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    similarities = embeddings @ embeddings.T
    return similarities.logsumexp(1).mean() + (-similarities).logsumexp(1).mean()


def ours(name: str, dim: int, batch: int, opt):
    objective, (miner_name, settings, _, _) = name.split(" ")[0], CANDIDATES[name]
    defaults = parameters.build_parser().parse_args([])
    miner = (
        batchminer.select(
            miner_name, **({"form": "mc"} if settings.get("form") == "textbook_mc" else {})
        )
        if miner_name
        else None
    )
    n_classes = max(CLASSES, batch // opt.samples_per_class)
    criterion = criteria.build(
        objective,
        lambda asked: (
            parameters.hyperparameters(defaults, "loss", asked)
            | (settings if asked == objective else {})
        ),
        n_classes=n_classes,
        embed_dim=dim,
        feature_dim=FEATURES,
        miner=miner,
    ).to(opt.device)
    features = (
        torch.randn(batch, FEATURES, 7, 7, device=opt.device)
        if objective in NESTED
        else torch.zeros(batch, 1, 1, 1, device=opt.device)
    )
    pooled = features.mean((2, 3))
    return lambda embeddings, labels: criterion(ModelOutput(embeddings, pooled, features), labels)


def bridged(name: str, dim: int, opt):
    _, _, loss, miner_name = CANDIDATES[name]
    if loss is None or (max(opt.batch) > 256 and loss[0] in TOO_LARGE):
        return None
    from pytorch_metric_learning import distances, losses, miners

    loss_name, arguments = loss
    if "+" in loss_name:
        parts = [getattr(losses, part)() for part in loss_name.split("+")]
        return lambda embeddings, labels: sum(part(embeddings, labels) for part in parts)
    arguments = {
        key: getattr(distances, value)() if key == "distance" else value
        for key, value in arguments.items()
    }
    cls = getattr(losses, loss_name)
    if loss_name in (
        "NormalizedSoftmaxLoss",
        "ArcFaceLoss",
        "ProxyAnchorLoss",
        "ProxyNCALoss",
        "SoftTripleLoss",
    ):
        arguments |= {
            "num_classes": max(CLASSES, max(opt.batch) // opt.samples_per_class),
            "embedding_size": dim,
        }
    criterion = cls(**arguments).to(opt.device)
    miner = getattr(miners, miner_name)() if miner_name else None
    if miner is None:
        return lambda embeddings, labels: criterion(embeddings, labels)
    return lambda embeddings, labels: criterion(embeddings, labels, miner(embeddings, labels))


def looped(name: str, batch: int, dim: int, opt):
    objective, (miner_name, settings, _, _) = name.split(" ")[0], CANDIDATES[name]
    if (
        objective in (*NESTED, "histogram", "quadruplet")
        or opt.device != "cpu"
        or (miner_name != "distance" and batch > opt.loops_up_to)
    ):
        return None
    loop, n_classes = getattr(loops, objective), max(CLASSES, batch // opt.samples_per_class)
    settings = {key: value for key, value in settings.items()}
    if miner_name:
        miner = batchminer.select(
            miner_name, **({"form": "mc"} if settings.get("form") == "textbook_mc" else {})
        )
        own = {"beta": torch.full((n_classes,), 1.2)} if objective == "margin" else {}
        return lambda embeddings, labels: loop(
            embeddings, labels.tolist(), miner(embeddings, labels).tolist(), **own, **settings
        )
    if "n_classes" in criteria.REGISTRY[objective].NEEDS:
        shape = (n_classes, 2, dim) if objective == "softtriplet" else (n_classes, dim)
        weights = torch.randn(shape, requires_grad=True)
        return lambda embeddings, labels: loop(embeddings, labels.tolist(), weights, **settings)
    return lambda embeddings, labels: loop(embeddings, labels.tolist(), **settings)


if __name__ == "__main__":
    main()
