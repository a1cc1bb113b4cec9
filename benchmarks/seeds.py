"""Variants of one command over several seeds: trains what is not trained yet, then prints mean and standard deviation.

    python benchmarks/seeds.py --seeds 0 1 2 --variant baseline --variant guided
    --language_distill_w 10 -- --config configs/demo.yaml

Each `--variant NAME [FLAGS...]` is a run of main.py with its flags; what stands behind `--` is
common to all. A finished run is not trained again, so an interrupted study goes on where it was.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
METRICS = ("embeds_e_recall: e_recall@1", "embeds_mAP_1000: mAP_1000", "embeds_nmi: nmi")


def split_arguments(argv: list[str]) -> tuple[list[str], dict[str, list[str]], list[str]]:
    """Own flags, flags of each variant, flags common to all."""
    own, common = (
        (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    )
    variants: dict[str, list[str]] = {}
    while "--variant" in own:
        start = len(own) - 1 - own[::-1].index("--variant")
        name, *flags = own[start + 1 :]
        variants, own = {name: flags, **variants}, own[:start]
    return own, variants, common


def train(name: str, seed: int, flags: list[str], save_path: Path, threads: int) -> dict:
    """One run of main.py in a process of its own; returns its results.json."""
    command = [
        sys.executable,
        "main.py",
        *flags,
        "--seed",
        str(seed),
        "--group",
        name,
        "--savename",
        "group_plus_seed",
        "--save_path",
        str(save_path),
        "--completed",
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "MALLOC_TRIM_THRESHOLD_": "4000000000",
        "MALLOC_MMAP_THRESHOLD_": "4000000000",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}, seed {seed}: {done.stderr.strip().splitlines()[-1]}")
    results = sorted(save_path.glob(f"*/{name}_s{seed}*/results.json"))[-1]
    print(f"{name}, seed {seed}: done", file=sys.stderr)
    return json.loads(results.read_text())


def main() -> None:
    own, variants, common = split_arguments(sys.argv[1:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each run")
    parser.add_argument("--save_path", type=Path, default=ROOT / "Training_Results" / "studies")
    args = parser.parse_args(own)
    if not variants:
        parser.error("give at least one --variant NAME [FLAGS...]")
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = {
            name: [
                pool.submit(train, name, seed, common + flags, args.save_path, args.threads)
                for seed in args.seeds
            ]
            for name, flags in variants.items()
        }
        results = {name: [run.result() for run in futures] for name, futures in runs.items()}
    report(results, args.seeds)


def report(results: dict[str, list[dict]], seeds: list[int]) -> None:
    """Percentages: each seed's best value, their mean and standard deviation, and the mean of the last values."""
    print(
        f"| variant | metric | {' | '.join(f'seed {seed}' for seed in seeds)} | mean of best | std | mean of last |"
    )
    print("|---" * (len(seeds) + 5) + "|")
    for name, runs in results.items():
        for metric in METRICS:
            numbers = [run["metrics"]["Test"][metric] for run in runs]
            best = [100 * number["best"] for number in numbers]
            last = statistics.mean(100 * number["last"] for number in numbers)
            spread = statistics.stdev(best) if len(best) > 1 else float("nan")
            print(
                f"| {name} | {metric.split(': ')[1]} | {' | '.join(f'{value:.1f}' for value in best)} "
                f"| {statistics.mean(best):.1f} | {spread:.1f} | {last:.1f} |"
            )


if __name__ == "__main__":
    main()
