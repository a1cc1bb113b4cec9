"""Variants of one command over several seeds: trains what is missing, then prints mean and spread.

    python benchmarks/seeds.py --seeds 0 1 2 --variant baseline --variant guided \
        --language_distill_w 10 -- --config configs/demo.yaml

Each `--variant NAME [FLAGS...]` is a run of main.py with its flags; what stands behind `--` is
common to all. A finished run is not trained again, so an interrupted study goes on where it was.
`--smoke` shows in seconds whether this still works: by default with one variant and one seed, on a
few images of noise in a temporary folder.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

DEMO = ROOT / "configs" / "demo.yaml"
METRICS = ("embeds_e_recall: e_recall@1", "embeds_mAP_1000: mAP_1000", "embeds_nmi: nmi")
SHAPES = ("star", "heart", "cross", "arrow")
SMOKE_CLASSES = [f"{colour} {shape}" for colour in ("red", "blue") for shape in SHAPES]
DASHES = "--"  # own arguments stand before, flags of main.py behind
# glibc must not return memory at every step, and idle threads must not take the cores of others.
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
}


class Arguments(NamedTuple):
    """The command line in its three parts."""

    own: list[str]
    variants: dict[str, list[str]]  # name -> flags
    common: list[str]


def place(text: str) -> Path:
    """The type of a flag that takes a path; `~` at its beginning is the home folder."""
    return Path(os.path.expanduser(text))


def split_at_dashes(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first `--`, and what behind it."""
    if DASHES not in words:
        return words, []
    place = words.index(DASHES)
    return words[:place], words[place + 1 :]


def split_arguments(words: list[str]) -> Arguments:
    """Own flags, flags of each variant, flags common to all."""
    before, common = split_at_dashes(words)
    starts = [place for place, word in enumerate(before) if word == "--variant"]
    ends = [*starts[1:], len(before)]
    variants: dict[str, list[str]] = {}
    for start, end in zip(starts, ends):
        if end == start + 1 or before[start + 1].startswith("--"):
            raise SystemExit("--variant needs a name: --variant NAME [FLAGS...]")
        name, *flags = before[start + 1 : end]
        variants[name] = flags
    return Arguments(before[: starts[0]] if starts else before, variants, common)


def smoke_flags(folder: Path) -> list[str]:
    """Flags of main.py for the demo at its smallest, with images of noise written into `folder`.

    Four classes train and four are evaluated, without guidance and by R@1, in about a second.
    """
    random = np.random.default_rng(0)
    for label, name in enumerate(SMOKE_CLASSES):
        images = folder / "shapes" / "images" / f"{label:03}.{name.replace(' ', '_')}"
        images.mkdir(parents=True)
        colour = random.uniform(40, 215, 3)
        for image in range(6):
            pixels = colour + random.normal(0, 30, (40, 40, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(images / f"{image}.jpg")
    settings = {
        "config": DEMO,
        "source_path": folder,
        "cache_path": folder / "cache",
        "image_size": 32,
        "embed_dim": 16,
        "bs": 8,
        "n_epochs": 1,
        "kernels": 0,
        "language_distill_w": 0,
        "evaluation_metrics": "e_recall@1",
    }
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [*flags, "--no_figures"]


def environment(threads: int) -> dict[str, str]:
    """Of a process that computes on so many threads."""
    return {**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": str(threads)}


def last_line(text: str) -> str:
    """The line in which a program says what is wrong."""
    return (text.strip() or "it says nothing").splitlines()[-1]


def train(name: str, seed: int, flags: list[str], save_path: Path, threads: int) -> dict:
    """One run of main.py in a process of its own; returns its results.json."""
    naming = ["--seed", str(seed), "--group", name, "--savename", "group_plus_seed"]
    saving = ["--save_path", str(save_path), "--completed"]
    command = [sys.executable, "main.py", *flags, *naming, *saving]
    finished = subprocess.run(
        command, cwd=ROOT, env=environment(threads), capture_output=True, text=True
    )
    if finished.returncode:
        raise SystemExit(f"{name}, seed {seed}: {last_line(finished.stderr)}")
    print(f"{name}, seed {seed}: done", file=sys.stderr)
    return results_of(f"{name}_s{seed}", save_path)


def results_of(savename: str, save_path: Path) -> dict:
    """results.json of the newest finished run of that name, on whatever dataset it is."""
    # Here, because step.py imports this module and must not get this checkout's rooms.
    from utilities import run_folder

    datasets = [folder.name for folder in save_path.iterdir() if folder.is_dir()]
    runs = [run_folder.finished_run(str(save_path), dataset, savename) for dataset in datasets]
    files = [folder / run_folder.RESULTS for folder in runs if folder]
    newest = max(files, key=lambda file: file.stat().st_mtime)
    return json.loads(newest.read_text())


def study(arguments: Arguments, options: argparse.Namespace) -> dict[str, list[dict]]:
    """Variant -> results of each seed."""
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = {
            (name, seed): pool.submit(
                train,
                name,
                seed,
                arguments.common + flags,
                options.save_path.resolve(),
                options.threads,
            )
            for name, flags in arguments.variants.items()
            for seed in options.seeds
        }
    return {
        name: [runs[name, seed].result() for seed in options.seeds] for name in arguments.variants
    }


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    separator = tuple("---" for _ in header)
    lines = [f"| {' | '.join(row)} |" for row in [header, *rows]]
    return "\n".join([lines[0], f"|{'|'.join(separator)}|", *lines[1:]])


def table(results: dict[str, list[dict]], seeds: list[int]) -> str:
    """Percentages: each seed's best value, their mean and deviation, and the mean of the last."""
    of_seeds = (f"seed {seed}" for seed in seeds)
    header = ("variant", "metric", *of_seeds, "mean of best", "std", "mean of last")
    rows = []
    for name, runs in results.items():
        for metric in METRICS:
            values = [run["metrics"]["Test"][metric] for run in runs]
            best = [100 * value["best"] for value in values]
            last = [100 * value["last"] for value in values]
            spread = statistics.stdev(best) if len(best) > 1 else float("nan")
            numbers = [*best, statistics.mean(best), spread, statistics.mean(last)]
            rows.append((name, metric.split(": ")[1], *(f"{number:.1f}" for number in numbers)))
    return markdown(header, rows)


def main() -> None:
    arguments = split_arguments(sys.argv[1:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="by default 0 1 2, with --smoke 0")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each run")
    parser.add_argument("--save_path", type=place, default=ROOT / "Training_Results" / "studies")
    parser.add_argument("--smoke", action="store_true", help="whether it runs, in seconds")
    options = parser.parse_args(arguments.own)
    if not arguments.variants and not options.smoke:
        parser.error("give at least one --variant NAME [FLAGS...]")
    options.seeds = options.seeds or ([0] if options.smoke else [0, 1, 2])
    with tempfile.TemporaryDirectory() as temporary:
        if options.smoke:
            options.save_path = Path(temporary) / "runs"
            measured = ["--evaluation_metrics", *(metric.split(": ")[1] for metric in METRICS)]
            common = [*smoke_flags(Path(temporary)), *measured, *arguments.common]
            arguments = Arguments(arguments.own, arguments.variants or {"demo": []}, common)
        print(table(study(arguments, options), options.seeds))


if __name__ == "__main__":
    main()
