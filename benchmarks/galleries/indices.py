"""Galleries of any size by each kind of index: time, memory, recall, beside faiss called plainly.

    python benchmarks/galleries/indices.py --sizes 100000 1000000
    python benchmarks/galleries/indices.py --sizes 10000000 --folder /somewhere/with/6/GB
    python benchmarks/galleries/indices.py --smoke

Vectors of length 1 lie around as many centres as a twentieth of their number, in shards as
programs.embed writes them; queries are others around the same centres. `ours` reads the shards
block by block, `plain` is faiss's own calls with the same recipe, on all vectors in one array. Each
row of the table is a process of its own, so that its peak memory is its own; what is mapped from
files counts there as long as the system keeps it. `--smoke` is the same at a size that says nothing
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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from evaluation.large_search import Rows

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

KINDS = ("flat", "ivf", "hnsw", "pq")
ROWS_PER_SHARD = 2**12
K = 10
TRIES = 5  # of all queries, of which the quickest counts: the machine does other things, too
NOISE = 0.7  # of a vector beside its centre, both standard normal
# (unit queries [Q, D]) -> places [Q, K]
Search = Callable[[np.ndarray], np.ndarray]


class Measurement(NamedTuple):
    """Seconds for all rows and for all queries, the peak of the process, and recall@10.

    `processor` are the seconds of all cores that the queries took, in which other processes do not
    count.
    """

    indexing: float
    query: float
    processor: float
    peak_gb: float
    recall: float


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


def ours(kind: str, folder: Path) -> Search:
    """As programs.search has it: from the shards, with distances measured again."""
    from evaluation import faiss_library, large_search
    from programs import kept_index

    rows = mapped(folder)
    if kind == "flat":
        return lambda asked: large_search.exact(rows, asked, np.full(len(asked), -1), K).places
    index = kept_index.made(kept_index.Gallery(rows, ""), kind)

    def candidates(asked: np.ndarray, count: int) -> np.ndarray:
        return faiss_library.candidates(kind, index, asked, count)

    def search(asked: np.ndarray) -> np.ndarray:
        return large_search.nearest(rows, asked, np.full(len(asked), -1), K, candidates).places

    return search


def plain(kind: str, folder: Path) -> Search:
    """faiss alone: the recipe, the training rows and the effort that ours has.

    What codes list it measures again as well (RFlat).
    """
    import faiss

    from evaluation import faiss_library

    rows = mapped(folder).whole()
    count, dim = rows.shape
    if kind == "flat":
        flat = faiss.IndexFlatL2(dim)
        flat.add(rows)
        return lambda asked: flat.search(asked, K)[1]
    listing = faiss.index_factory(dim, faiss_library.recipe(kind, dim, count))
    index = listing
    if kind == "pq":
        refined = faiss.IndexRefineFlat(listing)
        refined.k_factor = faiss_library.RERANKED
        index = refined
    if trained_on := faiss_library.training_rows(kind, count):
        index.train(rows[np.random.default_rng(0).choice(count, trained_on, replace=False)])
    index.add(rows)
    faiss_library.set_effort(kind, listing, K)
    return lambda asked: index.search(asked, K)[1]


WAYS = {"ours": ours, "plain": plain}


def measure(way: str, kind: str, folder: Path) -> Measurement:
    """In this process, without the time that imports take."""
    import programs.kept_index

    assert programs.kept_index.faiss_library.library() is not None
    asked, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    started = time.perf_counter()
    search = WAYS[way](kind, folder)
    indexed = time.perf_counter()
    tries = [timed(search, asked) for _ in range(TRIES)]
    places = search(asked)
    hits = sum(len(np.intersect1d(found, true)) for found, true in zip(places, truth))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    quickest = (min(seconds) for seconds in zip(*tries))
    return Measurement(indexed - started, *quickest, peak, hits / truth.size)


def timed(search: Search, asked: np.ndarray) -> tuple[float, float]:
    """Seconds of a search, and of all cores in it."""
    started, used = time.perf_counter(), time.process_time()
    search(asked)
    return time.perf_counter() - started, time.process_time() - used


def run(way: str, kind: str, folder: Path, in_process: bool) -> Measurement:
    """In a process of its own, or in this one."""
    if in_process:
        return measure(way, kind, folder)
    command = [sys.executable, __file__, "--measure", way, kind, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Measurement(*json.loads(done.stdout.splitlines()[-1]))


def table(count: int, flags: argparse.Namespace) -> None:
    """One table: each kind by both ways."""
    with tempfile.TemporaryDirectory(dir=flags.folder) as place:
        folder = Path(place)
        save(folder, count, flags.dim, flags.queries)
        print(f"\n{count:,} x {flags.dim}, {flags.queries:,} queries\n")
        print(
            "| index | | indexing, s | queries, s | of all cores | of all cores, / plain | peak GB "
            "| recall@10 |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for kind in flags.kinds:
            by_way = {way: run(way, kind, folder, flags.smoke) for way in ("plain", "ours")}
            for way, result in by_way.items():
                ratio = result.processor / max(by_way["plain"].processor, 1e-9)
                cells = [kind, way, f"{result.indexing:.1f}", f"{result.query:.3f}"]
                cells += [f"{result.processor:.3f}"]
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
