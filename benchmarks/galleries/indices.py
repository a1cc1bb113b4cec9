"""Galleries of any size by each kind of index: time, memory, recall, beside faiss called plainly.

    python benchmarks/galleries/indices.py --sizes 100000 1000000
    python benchmarks/galleries/indices.py --sizes 10000000 --folder /somewhere/with/6/GB
    python benchmarks/galleries/indices.py --smoke

Vectors of length 1 lie around as many centres as a twentieth of their number, in shards as
programs.embed writes them; queries are others around the same centres. `ours` reads the shards
block by block, `plain` is faiss's own calls with the same recipe, on all vectors in one array. Each
row of the table is a process of its own, so that its peak memory is its own; what is mapped from
files counts there as long as the system keeps it. Queries are timed in one process, both ways in
turn on one index. `--smoke` is the same at a size that says nothing
about time or memory, in one process.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from evaluation.large_search import Rows

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

KINDS = ("flat", "ivf", "hnsw", "pq")
ROWS_PER_SHARD = 2**12
K = 10
TRIES = 15  # of all queries, of which the quickest counts: the machine does other things, too
FEWEST_TRIES = 3  # where those take more than PATIENCE seconds
PATIENCE = 180
NOISE = 0.7  # of a vector beside its centre, both standard normal
COLUMNS = (
    "index",
    "",
    "indexing, s",
    "queries, s",
    "of all cores, s",
    "of all cores, / plain",
    "peak GB",
    "recall@10",
)
# (unit queries [Q, D]) -> places [Q, K]
Search = Callable[[np.ndarray], np.ndarray]


class Times(NamedTuple):
    """Seconds of all queries, and of all cores in them, in which other processes do not count."""

    seconds: float
    processor: float


class Measurement(NamedTuple):
    """Seconds for all rows, the peak of the process in GB, recall@10, and times by way."""

    indexing: float
    peak_gb: float
    recall: float
    times: dict[str, Times]


class Ready(NamedTuple):
    """A search, and the index of faiss that it asks, if that approximates."""

    search: Search
    listing: Any = None


def save(folder: Path, count: int, dim: int, queries: int) -> None:
    """Shards, queries, and the true neighbours of the queries."""
    from evaluation import large_search

    random = np.random.default_rng(0)
    centres = random.standard_normal((max(1, count // 20), dim), dtype=np.float32)
    for number, start in enumerate(range(0, count, ROWS_PER_SHARD)):
        rows = around(centres, min(ROWS_PER_SHARD, count - start), random)
        np.save(folder / f"shard_{number:05d}.npy", rows)
    asked = around(centres, queries, random)
    np.save(folder / "queries.npy", asked)
    truth = large_search.exact(mapped(folder), asked, np.full(queries, -1), K)
    np.save(folder / "truth.npy", truth.places)


def around(centres: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Vectors [N, D] of length 1."""
    rows = centres[random.integers(len(centres), size=count)]
    rows = rows + NOISE * random.standard_normal(rows.shape, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def mapped(folder: Path) -> "Rows":
    from evaluation.large_search import Rows

    return Rows([np.load(file, mmap_mode="r") for file in sorted(folder.glob("shard_*.npy"))])


def ours(kind: str, folder: Path) -> Ready:
    """As programs.search has it: from the shards, with distances measured again."""
    from evaluation import faiss_library, large_search
    from programs import kept_index

    rows = mapped(folder)
    if kind == "flat":
        return Ready(
            lambda asked: large_search.exact(rows, asked, np.full(len(asked), -1), K).places
        )
    index = kept_index.made(kept_index.Gallery(rows, ""), kind)

    def candidates(asked: np.ndarray, count: int) -> np.ndarray:
        return faiss_library.candidates(kind, index, asked, count)

    def search(asked: np.ndarray) -> np.ndarray:
        return large_search.nearest(rows, asked, np.full(len(asked), -1), K, candidates).places

    return Ready(search, index)


def plain(kind: str, folder: Path) -> Ready:
    """faiss alone: the recipe, the training rows and the effort that ours has."""
    import faiss

    from evaluation import faiss_library

    rows = mapped(folder).whole()
    count, dim = rows.shape
    if kind == "flat":
        return Ready(asked_plainly(kind, None, rows))
    index = faiss.index_factory(dim, faiss_library.recipe(kind, dim, count))
    if trained_on := faiss_library.training_rows(kind, count):
        index.train(rows[np.random.default_rng(0).choice(count, trained_on, replace=False)])
    index.add(rows)
    return Ready(asked_plainly(kind, index, rows), index)


def asked_plainly(kind: str, index: Any, rows: np.ndarray) -> Search:
    """faiss's own call. What codes list it measures again as well (RFlat)."""
    import faiss

    from evaluation import faiss_library

    if index is None:
        flat = faiss.IndexFlatL2(rows.shape[1])
        flat.add(rows)
        return lambda asked: flat.search(asked, K)[1]
    faiss_library.set_effort(kind, index, K)
    if kind != "pq":
        return lambda asked: index.search(asked, K)[1]
    refined = faiss.IndexRefineFlat(index, faiss.swig_ptr(rows))
    refined.k_factor = faiss_library.RERANKED
    return lambda asked: refined.search(asked, K)[1]


WAYS = {"ours": ours, "plain": plain}


def measure(way: str, kind: str, folder: Path) -> Measurement:
    """In this process, without the time that imports take."""
    import programs.kept_index

    assert programs.kept_index.faiss_library.library() is not None
    asked, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    started = time.perf_counter()
    ready = WAYS[way](kind, folder)
    indexed = time.perf_counter()
    places = ready.search(asked)
    hits = sum(len(np.intersect1d(found, true)) for found, true in zip(places, truth))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    times = {} if way == "plain" else beside_each_other(kind, ready, asked, folder)
    return Measurement(indexed - started, peak, hits / truth.size, times)


def beside_each_other(kind: str, ready: Ready, asked: np.ndarray, folder: Path) -> dict[str, Times]:
    """Both ways in turn on one index: what else the machine does then meets both."""
    searches = {
        "ours": ready.search,
        "plain": asked_plainly(kind, ready.listing, mapped(folder).whole()),
    }
    tries: dict[str, list[Times]] = {way: [] for way in searches}
    started = time.perf_counter()
    for tried in range(TRIES):
        if tried >= FEWEST_TRIES and time.perf_counter() - started > PATIENCE:
            break
        for way, search in searches.items():
            tries[way].append(timed(search, asked))
    return {way: Times(*map(min, zip(*found))) for way, found in tries.items()}


def timed(search: Search, asked: np.ndarray) -> Times:
    started, used = time.perf_counter(), time.process_time()
    search(asked)
    return Times(time.perf_counter() - started, time.process_time() - used)


def run(way: str, kind: str, folder: Path, in_process: bool) -> Measurement:
    """In a process of its own, or in this one."""
    if in_process:
        return measure(way, kind, folder)
    command = [sys.executable, __file__, "--measure", way, kind, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    indexing, peak, recall, times = json.loads(done.stdout.splitlines()[-1])
    return Measurement(indexing, peak, recall, {name: Times(*both) for name, both in times.items()})


def table(count: int, flags: argparse.Namespace) -> None:
    """One table: each kind by both ways."""
    with tempfile.TemporaryDirectory(dir=flags.folder) as place:
        folder = Path(place)
        save(folder, count, flags.dim, flags.queries)
        print(f"\n{count:,} x {flags.dim}, {flags.queries:,} queries\n")
        print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
        for kind in flags.kinds:
            by_way = {way: run(way, kind, folder, flags.smoke) for way in ("plain", "ours")}
            times = by_way["ours"].times
            for way, result in by_way.items():
                seconds, processor = times[way]
                ratio = processor / max(times["plain"].processor, 1e-9)
                cells = [kind, way, f"{result.indexing:.1f}", f"{seconds:.3f}", f"{processor:.3f}"]
                cells += [f"{ratio:.2f}", f"{result.peak_gb:.2f}", f"{result.recall:.4f}"]
                print(f"| {' | '.join(cells)} |", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--folder", help="where the vectors are kept meanwhile")
    parser.add_argument("--smoke", action="store_true", help="all of it at a small size")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.smoke:
        flags.sizes, flags.dim, flags.queries = [1000], 16, 20
    return flags


def main() -> None:
    flags = parse()
    if flags.measure:
        way, kind = flags.measure
        print(json.dumps(measure(way, kind, Path(flags.folder))))
        return
    for count in flags.sizes:
        table(count, flags)


if __name__ == "__main__":
    main()
