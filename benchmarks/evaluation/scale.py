"""Time and memory of an evaluation at growing size, beside its floor, faiss, and two libraries.

    python benchmarks/evaluation/scale.py --sizes 5924 20000 60502 --dims 128 512
    python benchmarks/evaluation/scale.py --growth 20000
    python benchmarks/evaluation/scale.py --smoke

Every measurement is a process of its own, so that its peak memory is its own; it is reported beside
the embeddings. Embeddings are unit vectors around class centres, as many classes as CUB-200 (test),
a middle case and Stanford Online Products have. open-metric-learning is measured where it can be
imported: `pip install open-metric-learning`. `--smoke` is the same at a size that says nothing
about time or memory: it shows in seconds, in one process, that all of this still runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {5_924: 100, 20_000: 4_000, 60_502: 11_316}
METRICS = [
    "e_recall@1",
    "e_recall@2",
    "e_recall@4",
    "e_recall@10",
    "precision@1",
    "r_precision",
    "mAP@R",
    "mAP_1000",
    "mAP_lim",
]
K = 1001
# Of an image beside its class centre, both standard normal: Recall@1 is between 0.6 and 1 then.
NOISE = 1.5
BUDGETS = 256 * 2**20, 4 * 2**30  # bytes, of the table of growth
SMOKE_SIZE, SMOKE_DIM = 400, 16


class Measurement(NamedTuple):
    """Peak memory is beside the embeddings."""

    seconds: float
    peak_mb: float
    values: dict[str, float]


class Conditions(NamedTuple):
    """How candidates are measured.

    Attributes:
        memory: budget of a search in bytes. timeout: seconds for each.
        in_process: measure here instead of in a process for each.
    """

    memory: int
    timeout: float
    in_process: bool = False


def floor(embeddings: Tensor, labels: Tensor, memory: int) -> dict[str, float]:
    """The product of all pairs alone, in blocks."""
    import torch

    block = torch.empty(1024, len(embeddings))
    for queries in embeddings.split(1024):
        torch.mm(queries, embeddings.T, out=block[: len(queries)])
    return {}


def faiss_flat(embeddings: Tensor, labels: Tensor, memory: int) -> dict[str, float]:
    """faiss's exact search for the nearest 1,001, without any metric."""
    import faiss

    rows = embeddings.numpy()
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    for start in range(0, len(rows), 4096):
        index.search(rows[start : start + 4096], K)
    return {}


def ours(embeddings: Tensor, labels: Tensor, memory: int) -> dict[str, float]:
    """Search and all recall and mAP metrics."""
    return _evaluate(embeddings, labels, memory, METRICS, "torch")


def ours_with_faiss(embeddings: Tensor, labels: Tensor, memory: int) -> dict[str, float]:
    """The same, and faiss searches."""
    return _evaluate(embeddings, labels, memory, METRICS, "faiss")


def ours_full_map(embeddings: Tensor, labels: Tensor, memory: int) -> dict[str, float]:
    """The same and mAP over the whole gallery, for which all distances are sorted."""
    return _evaluate(embeddings, labels, memory, [*METRICS, "mAP"], "torch")


def kmeans_faiss(embeddings: Tensor, labels: Tensor, memory: int) -> dict[str, float]:
    """faiss's k-means to as many clusters as classes, and NMI."""
    return _evaluate(embeddings, labels, memory, ["nmi"], "faiss")


def kmeans_torch(embeddings: Tensor, labels: Tensor, memory: int) -> dict[str, float]:
    """The same with k-means by torch."""
    return _evaluate(embeddings, labels, memory, ["nmi"], "torch")


def _evaluate(
    embeddings: Tensor, labels: Tensor, memory: int, names: list[str], backend: str
) -> dict[str, float]:
    from evaluation import evaluate_embeddings

    return evaluate_embeddings(embeddings, labels, names, backend=backend, memory=memory)


def pytorch_metric_learning(embeddings: Tensor, labels: Tensor, memory: int) -> dict[str, float]:
    """precision@1, R-precision and mAP@R by its calculator, whose k is the largest class."""
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
    )
    values = calculator.get_accuracy(embeddings, labels)
    return {
        "precision@1": values["precision_at_1"],
        "r_precision": values["r_precision"],
        "mAP@R": values["mean_average_precision_at_r"],
    }


def open_metric_learning(embeddings: Tensor, labels: Tensor, memory: int) -> dict[str, float]:
    """Recall@k and precision@1 by its search for the nearest 1,001; its map has another divisor."""
    import torch
    from oml.functional.knn import batched_knn
    from oml.functional.metrics import calc_retrieval_metrics

    everyone = torch.arange(len(labels))
    _, retrieved, relevant = batched_knn(embeddings, everyone, everyone, top_n=K, labels_gt=labels)
    values = calc_retrieval_metrics(
        retrieved,
        relevant,
        cmc_top_k=(1, 2, 4, 10),
        precision_top_k=(1,),
        map_top_k=(1000,),
        verbose=False,
    )
    recalls = {f"e_recall@{k}": float(value) for k, value in values["cmc"].items()}
    return {"precision@1": float(values["precision"][1]), **recalls}


CANDIDATES = {
    function.__name__: function
    for function in (
        floor,
        faiss_flat,
        ours,
        ours_with_faiss,
        ours_full_map,
        kmeans_faiss,
        kmeans_torch,
        pytorch_metric_learning,
        open_metric_learning,
    )
}


NOT_IN_SMOKE = "pytorch_metric_learning", "open_metric_learning"  # they take seconds to import


def embed(count: int, classes: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [N, D] float32 and labels [N]."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    rows = random.standard_normal((classes, dim), dtype=np.float32)[labels]
    rows += NOISE * random.standard_normal((count, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


def save(folder: str, count: int, classes: int, dim: int) -> float:
    """Embeddings and labels as files in a folder; returns the MB of the embeddings."""
    embeddings, labels = embed(count, classes, dim)
    np.save(f"{folder}/embeddings.npy", embeddings)
    np.save(f"{folder}/labels.npy", labels)
    return embeddings.nbytes / 2**20


def measure(name: str, folder: str, memory: int) -> Measurement:
    """A candidate on the files of a folder, in this process."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    import torch

    embeddings = torch.from_numpy(np.load(f"{folder}/embeddings.npy"))
    labels = torch.from_numpy(np.load(f"{folder}/labels.npy"))
    CANDIDATES[name](embeddings[:200], labels[:200] % 20, memory)  # imports and warm-up
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    values = CANDIDATES[name](embeddings, labels, memory)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Measurement(seconds, (peak - peak_before) / 1024, values)


def run(name: str, folder: str, conditions: Conditions) -> Measurement | str:
    """A candidate in a process of its own, or why it could not be measured."""
    if conditions.in_process:
        return measure(name, folder, conditions.memory)
    command = [sys.executable, __file__, "--measure", name, "--folder", folder]
    command += ["--memory", str(conditions.memory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=conditions.timeout)
    except subprocess.TimeoutExpired:
        return f"not within {conditions.timeout:.0f} s"
    if done.returncode != 0:
        return done.stderr.strip().splitlines()[-1][:60]
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def compare(count: int, dim: int, names: list[str], rounds: int, conditions: Conditions) -> None:
    """One table: medians of rounds in which the candidates take turns."""
    classes = CLASSES.get(count, count // 5)
    measured: dict[str, list[Measurement]] = {name: [] for name in names}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        megabytes = save(folder, count, classes, dim)
        for name in rounds * names:
            if name in failures:
                continue
            result = run(name, folder, conditions)
            if isinstance(result, Measurement):
                measured[name].append(result)
            else:
                failures[name] = result
    budget = conditions.memory / 2**20
    print(f"\nN = {count:,}, {classes:,} classes, {dim} dims: ", end="")
    print(f"embeddings {megabytes:.0f} MB, budget {budget:.0f} MB\n")
    print("| | seconds | / floor | / faiss alone | peak MB beside the embeddings |")
    print("|---|---|---|---|---|")
    for line in table(measured, failures):
        print(line)
    for name, results in measured.items():
        if name not in failures and results[-1].values:
            values = [f"{metric} {value:.6f}" for metric, value in results[-1].values.items()]
            print(f"\n{name}: {', '.join(values)}")


def table(measured: dict[str, list[Measurement]], failures: dict[str, str]) -> list[str]:
    """A row for each candidate."""
    medians = {
        name: float(np.median([result.seconds for result in results]))
        for name, results in measured.items()
        if name not in failures
    }
    lines = []
    for name, results in measured.items():
        if name in failures:
            lines.append(f"| {name} | {failures[name]} | | | |")
            continue
        cells = [name, f"{medians[name]:.2f}"]
        for base in ("floor", "faiss_flat"):
            cells.append(f"{medians[name] / medians[base]:.2f}" if base in medians else "")
        cells.append(f"{max(result.peak_mb for result in results):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def growth(count: int, dim: int, conditions: Conditions) -> None:
    """N, 2N and 4N under a small and a large budget: time, memory, and whether all digits agree."""
    print(f"\n{dim} dims, 5 images a class\n")
    print(
        "| N | embeddings MB | seconds at 256 MB | at 4 GB "
        "| peak MB at 256 MB | at 4 GB | same digits |"
    )
    print("|---|---|---|---|---|---|---|")
    for factor in (1, 2, 4):
        size = factor * count
        with tempfile.TemporaryDirectory() as folder:
            megabytes = save(folder, size, size // 5, dim)
            small, large = (
                run("ours", folder, conditions._replace(memory=budget)) for budget in BUDGETS
            )
        print(f"| {size:,} | {megabytes:.0f} | {_budgets(small, large)} |", flush=True)


def _budgets(small: Measurement | str, large: Measurement | str) -> str:
    """The cells of a row of growth that are of the two budgets."""
    if isinstance(small, str) or isinstance(large, str):
        return f"{small if isinstance(small, str) else large} | | | |"
    times = f"{small.seconds:.1f} | {large.seconds:.1f}"
    peaks = f"{small.peak_mb:.0f} | {large.peak_mb:.0f}"
    return f"{times} | {peaks} | {'yes' if small.values == large.values else 'NO'}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[])
    parser.add_argument("--dims", type=int, nargs="+", default=[128])
    parser.add_argument("--names", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--growth", type=int, help="measure N, 2N and 4N instead")
    parser.add_argument(
        "--smoke", action="store_true", help="all of it in seconds, at a small size"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=256 * 2**20, help="budget in bytes")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--measure", choices=list(CANDIDATES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    flags = parse()
    conditions = Conditions(flags.memory, flags.timeout, in_process=flags.smoke)
    if flags.measure:
        print(json.dumps(measure(flags.measure, flags.folder, flags.memory)._asdict()))
    elif flags.smoke:
        names = [name for name in flags.names if name not in NOT_IN_SMOKE]
        compare(SMOKE_SIZE, SMOKE_DIM, names, 1, conditions)
        growth(SMOKE_SIZE // 4, SMOKE_DIM, conditions)
    elif flags.growth:
        growth(flags.growth, flags.dims[0], conditions)
    else:
        for count in flags.sizes:
            for dim in flags.dims:
                compare(count, dim, flags.names, flags.rounds, conditions)


if __name__ == "__main__":
    main()
