"""Time and memory of an evaluation at growing size, beside its floor, faiss, and two libraries.

    python benchmarks/evaluation/scale.py --sizes 5924 20000 60502 --dims 128 512
    python benchmarks/evaluation/scale.py --growth 20000

Every measurement is a process of its own, so that its peak memory is its own; it is reported beside
the embeddings. Embeddings are unit vectors around class centres, as many classes as CUB-200 (test),
a middle case and Stanford Online Products have. open-metric-learning is measured where it can be
imported: `pip install open-metric-learning`.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

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
NOISE = 1.5  # of an image beside its class centre, both standard normal: Recall@1 is between 0.6 and 1 then


def floor(embeddings, labels, memory) -> dict:
    """The product of all pairs alone, in blocks."""
    import torch

    block = torch.empty(1024, len(embeddings))
    for queries in embeddings.split(1024):
        torch.mm(queries, embeddings.T, out=block[: len(queries)])
    return {}


def faiss_flat(embeddings, labels, memory) -> dict:
    """faiss's exact search for the nearest 1,001, without any metric."""
    import faiss

    rows = embeddings.numpy()
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    for start in range(0, len(rows), 4096):
        index.search(rows[start : start + 4096], K)
    return {}


def ours(embeddings, labels, memory, *, use_faiss=False, names=METRICS) -> dict:
    """Search and all recall and mAP metrics."""
    import metrics
    from evaluation import Protocol, evaluate_embeddings

    return evaluate_embeddings(
        embeddings,
        Protocol(labels),
        [metrics.parse(name) for name in names],
        memory=memory,
        use_faiss=use_faiss,
    )


def ours_with_faiss(embeddings, labels, memory) -> dict:
    return ours(embeddings, labels, memory, use_faiss=True)


def ours_full_map(embeddings, labels, memory) -> dict:
    """The same and mAP over the whole gallery, for which all distances are sorted."""
    return ours(embeddings, labels, memory, names=[*METRICS, "mAP"])


def pytorch_metric_learning(embeddings, labels, memory) -> dict:
    """precision@1, R-precision and mAP@R by its calculator, whose k is the largest class."""
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
    )
    found = calculator.get_accuracy(embeddings, labels)
    return {
        "precision@1": found["precision_at_1"],
        "r_precision": found["r_precision"],
        "mAP@R": found["mean_average_precision_at_r"],
    }


def open_metric_learning(embeddings, labels, memory) -> dict:
    """Recall@k and precision@1 by its search for the nearest 1,001; its map has another divisor."""
    import torch
    from oml.functional.knn import batched_knn
    from oml.functional.metrics import calc_retrieval_metrics

    everyone = torch.arange(len(labels))
    _, retrieved, relevant = batched_knn(embeddings, everyone, everyone, top_n=K, labels_gt=labels)
    found = calc_retrieval_metrics(
        retrieved,
        relevant,
        cmc_top_k=(1, 2, 4, 10),
        precision_top_k=(1,),
        map_top_k=(1000,),
        verbose=False,
    )
    return {
        "precision@1": float(found["precision"][1]),
        **{f"e_recall@{k}": float(value) for k, value in found["cmc"].items()},
    }


CANDIDATES = {
    function.__name__: function
    for function in (
        floor,
        faiss_flat,
        ours,
        ours_with_faiss,
        ours_full_map,
        pytorch_metric_learning,
        open_metric_learning,
    )
}


def embed(count: int, classes: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    rows = random.standard_normal((classes, dim), dtype=np.float32)[labels]
    rows += NOISE * random.standard_normal((count, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


def measure(name: str, folder: str, memory: int) -> None:
    """In a process of its own: prints seconds, peak MB beside the embeddings, and the values, as JSON."""
    sys.path.insert(0, str(ROOT))
    import torch

    embeddings, labels = (
        torch.from_numpy(np.load(f"{folder}/{part}.npy")) for part in ("embeddings", "labels")
    )
    CANDIDATES[name](embeddings[:200], labels[:200] % 20, memory)  # imports and warm-up
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    values = CANDIDATES[name](embeddings, labels, memory)
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
                "values": values,
            }
        )
    )


def run(name: str, folder: str, memory: int, timeout: float) -> dict | str:
    command = [
        sys.executable,
        __file__,
        "--measure",
        name,
        "--folder",
        folder,
        "--memory",
        str(memory),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"not within {timeout:.0f} s"
    return (
        json.loads(done.stdout.splitlines()[-1])
        if done.returncode == 0
        else done.stderr.strip().splitlines()[-1][:60]
    )


def compare(
    count: int, dim: int, names: list[str], rounds: int, memory: int, timeout: float
) -> None:
    """One table: medians of rounds in which the candidates take turns."""
    embeddings, labels = embed(count, CLASSES.get(count, count // 5), dim)
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/embeddings.npy", embeddings)
        np.save(f"{folder}/labels.npy", labels)
        rows = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                if not rows[name] or isinstance(rows[name][-1], dict):
                    rows[name].append(run(name, folder, memory, timeout))
    print(
        f"\nN = {count:,}, {len(set(labels.tolist())):,} classes, {dim} dims: embeddings {embeddings.nbytes / 2**20:.0f} MB, budget {memory / 2**20:.0f} MB\n"
    )
    print(
        "| | seconds | / floor | / faiss alone | peak MB beside the embeddings |\n|---|---|---|---|---|"
    )
    medians = {
        name: float(np.median([row["seconds"] for row in found]))
        for name, found in rows.items()
        if isinstance(found[-1], dict)
    }
    for name, found in rows.items():
        if name not in medians:
            print(f"| {name} | {found[-1]} | | | |")
            continue
        ratios = [
            f"{medians[name] / medians[base]:.2f}" if base in medians else ""
            for base in ("floor", "faiss_flat")
        ]
        print(
            f"| {name} | {medians[name]:.2f} | {ratios[0]} | {ratios[1]} | {max(row['peak_mb'] for row in found):.0f} |"
        )
    for name in ("ours", "ours_with_faiss", "pytorch_metric_learning", "open_metric_learning"):
        if name in medians:
            print(
                f"\n{name}: "
                + ", ".join(
                    f"{metric} {value:.6f}" for metric, value in rows[name][-1]["values"].items()
                )
            )


def growth(count: int, dim: int, timeout: float) -> None:
    """N, 2N and 4N under a small and a large budget: time, memory, and whether every digit is the same."""
    print(
        f"\n{dim} dims, 5 images a class\n\n| N | embeddings MB | seconds at 256 MB | at 4 GB | peak MB at 256 MB | at 4 GB | same digits |\n|---|---|---|---|---|---|---|"
    )
    for factor in (1, 2, 4):
        embeddings, labels = embed(factor * count, factor * count // 5, dim)
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/embeddings.npy", embeddings)
            np.save(f"{folder}/labels.npy", labels)
            small, large = (
                run("ours", folder, memory, timeout) for memory in (256 * 2**20, 4 * 2**30)
            )
        print(
            f"| {factor * count:,} | {embeddings.nbytes / 2**20:.0f} | {small['seconds']:.1f} | {large['seconds']:.1f} | {small['peak_mb']:.0f} | {large['peak_mb']:.0f} "
            f"| {'yes' if small['values'] == large['values'] else 'NO'} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[])
    parser.add_argument("--dims", type=int, nargs="+", default=[128])
    parser.add_argument("--names", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--growth", type=int, help="measure N, 2N and 4N instead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=256 * 2**20, help="budget in bytes")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--measure", choices=list(CANDIDATES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    opt = parser.parse_args()
    if opt.measure:
        return measure(opt.measure, opt.folder, opt.memory)
    if opt.growth:
        return growth(opt.growth, opt.dims[0], opt.timeout)
    for count in opt.sizes:
        for dim in opt.dims:
            compare(count, dim, opt.names, opt.rounds, opt.memory, opt.timeout)


if __name__ == "__main__":
    main()
