"""How long does an evaluation take on the GPU, and how much of its memory?

    python benchmarks/cuda/evaluation.py --results FOLDER
    python benchmarks/cuda/evaluation.py --smoke        # whether it runs: on the CPU, in seconds

Embeddings as many as Stanford Online Products has test images, 60,502 in 512 dimensions and 11,316
classes, made as in benchmarks/evaluation/scale.py; all its metrics of a search, and k-means to as
many clusters as classes. Beside it the product of all pairs alone on the same GPU, and our search
and faiss's on the CPU. Ends with status 1 if the digits of the GPU are not those of the CPU.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks.cuda.sheets import Sheet, command_line, keep
from benchmarks.evaluation import scale
from evaluation import evaluate_embeddings, faiss_library
from utilities.runtime import memory_budget

GIB = 2**30
BUDGETS = {"256 MB": 2**28, "1 GB": 2**30}


class Size(NamedTuple):
    images: int = 60_502
    classes: int = 11_316
    dim: int = 512


SMOKE = Size(400, 80, 16)


class Measured(NamedTuple):
    """`peak` is of the GPU's tensors beside the embeddings, in GiB."""

    seconds: float
    peak: float
    values: dict[str, float]


def product(embeddings: torch.Tensor) -> dict[str, float]:
    """Of all pairs, block by block, in fp32."""
    block = embeddings.new_empty(1024, len(embeddings))
    for queries in embeddings.split(1024):
        torch.mm(queries, embeddings.T, out=block[: len(queries)])
    return {}


def evaluated(
    embeddings: torch.Tensor, labels: torch.Tensor, names: list[str], backend: str, memory: int
) -> dict[str, float]:
    return evaluate_embeddings(embeddings, labels, names, backend=backend, memory=memory)


def faiss_flat(embeddings: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    return scale.faiss_flat(embeddings, labels, 0)


def measure(work: Callable[[], dict[str, float]], device: torch.device) -> Measured:
    """The second of two calls on a GPU, whose first loads kernels; the only one on the CPU."""
    if device.type != "cuda":
        started = time.perf_counter()
        values = work()
        return Measured(time.perf_counter() - started, 0.0, values)
    work()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    values = work()
    torch.cuda.synchronize()
    taken = time.perf_counter() - started
    return Measured(taken, (torch.cuda.max_memory_allocated() - before) / GIB, values)


def candidates(size: Size, device: torch.device) -> dict[str, Measured]:
    """What is measured by name, the product on the GPU first."""
    rows, classes = scale.embed(*size)
    host, labels = torch.from_numpy(rows), torch.from_numpy(classes)
    there, labels_there = host.to(device), labels.to(device)
    budgets = BUDGETS | {"auto": memory_budget("auto", device)}
    searched = partial(evaluated, there, labels_there, scale.METRICS)
    found = {"product, GPU": measure(partial(product, there), device)}
    for name, memory in budgets.items():
        found[f"ours, GPU, {name}"] = measure(partial(searched, "torch", memory), device)
    full = partial(evaluated, there, labels_there, [*scale.METRICS, "mAP"], "torch", 2**30)
    found["ours with full mAP, GPU, 1 GB"] = measure(full, device)
    for backend in ("torch", "faiss"):
        clusters = partial(evaluated, there, labels_there, ["nmi"], backend, 2**30)
        name = faiss_library.clusters_with(backend, device)
        place = torch.device("cpu") if name == "faiss" else device
        found[f"k-means, data on the GPU, {name}"] = measure(clusters, place)
    if faiss_library.is_on_gpu(device):
        found["ours, faiss-gpu lists"] = measure(partial(searched, "faiss", 2**30), device)
    cpu = torch.device("cpu")
    on_cpu = partial(evaluated, host, labels, scale.METRICS, "torch", 2**30)
    found["ours, CPU"] = measure(on_cpu, cpu)
    found["faiss flat search alone, CPU"] = measure(partial(faiss_flat, host, labels), cpu)
    return found


def sheet(size: Size, found: dict[str, Measured]) -> Sheet:
    floor = found["product, GPU"].seconds
    rows = [
        (name, f"{one.seconds:.3f}", f"{one.seconds / floor:.2f}", f"{one.peak:.2f}")
        for name, one in found.items()
    ]
    same = "The digits of all searches are the same." if agree(found) else "DIGITS DIFFER."
    threads = f"The CPU has {torch.get_num_threads()} threads."
    title = f"Evaluation of {size.images:,} embeddings of {size.dim} dimensions"
    header = ("", "seconds", "/ product on the GPU", "peak beside the embeddings (GiB)")
    return Sheet(title, header, rows, [f"{same} {threads}"])


def agree(found: dict[str, Measured]) -> bool:
    """Whether all searches have the same values to 12 digits, that of sums in another order."""
    values = [
        {name: round(one.values[name], 12) for name in scale.METRICS}
        for title, one in found.items()
        if title.startswith("ours")
    ]
    return all(one == values[0] for one in values)


def main() -> int:
    options = command_line(__doc__).parse_args()
    size, device = (SMOKE, "cpu") if options.smoke else (Size(), "cuda")
    found = candidates(size, torch.device(device))
    keep(options.results, "evaluation", [sheet(size, found)])
    return int(not agree(found))


if __name__ == "__main__":
    sys.exit(main())
