"""Does each objective, miner and sampler train? A short run on the shapes apiece.

    python benchmarks/catalogue.py --epochs 3 --jobs 2

Prints R@1 of the unseen classes beside that of the untrained network. Miners run with an objective
that takes any of them, samplers with multisimilarity; intra_random, whose triplets know no second
class, mines for the auxiliary embedding of adversarial_separation, its place in the paper that
brought it.
What stands behind `--` goes to every run. A finished run is not repeated, so an interrupted study
goes on where it was. Ends with status 1 if any is below untrained.

`--smoke` shows in seconds whether this still works: the flags of all runs are read, one of the runs
is trained, and its values, which say nothing, do not count.
"""

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

import batchminer
import build
import criteria
import datasampler
import parameters
from benchmarks import shared
from utilities import seeding

MINED_WITH = "margin"
RECALL = "embeds_e_recall: e_recall@1"
# Learning rates of the papers are multiples of 1e-5; this trunk has 1e-3, so that these would be
# 100 times theirs.
FLAGS = {
    "oproxy": ["--loss_oproxy_lrmulti", "20"],
    "proxynca": ["--loss_proxynca_lrmulti", "5"],
    "proxyanchor": ["--loss_proxyanchor_lrmulti", "5"],
    "softmax": ["--loss_softmax_lr", "1e-3"],
    "arcface": ["--loss_arcface_lr", "5e-3"],
}
INTRA_RANDOM = [
    "--loss",
    "adversarial_separation",
    "--loss_adversarial_separation_target",
    "triplet",
    "--batch_mining",
    "intra_random",
]
SMOKE = "miner semihard"


def objective_flags(name: str) -> list[str]:
    """A run of an objective, with the first of its miners if it cannot take any."""
    miners = criteria.REGISTRY[name].MINERS
    mining = ["--batch_mining", miners[0]] if miners else []
    return ["--loss", name, *mining, *FLAGS.get(name, [])]


def miner_flags(name: str) -> list[str]:
    """A run of a miner, with the objective that is made for it if there is one."""
    if name == "intra_random":
        return INTRA_RANDOM
    made_for_it = [
        loss for loss, criterion in criteria.REGISTRY.items() if name in (criterion.MINERS or ())
    ]
    return ["--loss", (made_for_it or [MINED_WITH])[0], "--batch_mining", name]


def all_runs() -> dict[str, list[str]]:
    """Name of a run, its kind and the component, -> its flags."""
    objectives = {f"loss {name}": objective_flags(name) for name in criteria.REGISTRY}
    miners = {f"miner {name}": miner_flags(name) for name in batchminer.REGISTRY}
    samplers = {f"sampler {name}": ["--data_sampler", name] for name in datasampler.REGISTRY}
    return objectives | miners | samplers


def chosen(runs: dict[str, list[str]], wanted: list[str]) -> dict[str, list[str]]:
    """Those of a wanted kind or name; all if nothing is named."""
    if not wanted:
        return runs
    return {name: flags for name, flags in runs.items() if {name, name.split()[0]} & set(wanted)}


def untrained(flags: list[str]) -> float:
    """R@1 of the network as every run starts with it."""
    settings = parameters.parse(
        [*flags, "--no_train_metrics", "--evaluation_metrics", "e_recall@1"]
    )
    runtime = build.build_runtime(settings)
    seeding.seed_everything(settings.seed)
    data = build.build_data(settings)
    network, transform = build.build_network(settings, runtime, load_weights=True)
    evaluator = build.build_evaluator(settings, data.splits, transform, runtime)
    values = evaluator.run(network)["Test"].values
    return values["embeds_e_recall"]["e_recall@1"]


def train_all(
    runs: dict[str, list[str]], common: list[str], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Name -> R@1 of the run: best, last and their epochs."""
    save_path, threads = options.save_path.resolve(), options.threads
    with ThreadPoolExecutor(options.jobs) as pool:
        results = {
            name: pool.submit(
                shared.train, name.replace(" ", "_"), 0, common + flags, save_path, threads
            )
            for name, flags in runs.items()
        }
    return {name: result.result()["metrics"]["Test"][RECALL] for name, result in results.items()}


def table(before: float, after: dict[str, dict[str, float]]) -> str:
    """Percentages."""
    rows = []
    for name, recall in after.items():
        values = (before, recall["last"], recall["best"])
        rows.append((name, *(f"{100 * value:.1f}" for value in values)))
    return shared.markdown(("run", "before", "after", "best"), rows)


def read_command_line() -> tuple[argparse.Namespace, list[str]]:
    """Own arguments, and what stands behind `--`."""
    own, further = shared.split_at_dashes(sys.argv[1:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each run")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        help="'loss', 'miner', 'sampler' or names such as 'loss triplet'",
    )
    parser.add_argument(
        "--save_path", type=shared.place, default=ROOT / "Training_Results" / "catalogue"
    )
    parser.add_argument("--smoke", action="store_true", help="whether it runs, in seconds")
    return parser.parse_args(own), further


def main() -> int:
    options, further = read_command_line()
    torch.set_num_threads(options.threads)
    common = ["--config", str(shared.FROM_SCRATCH), "--source_path", str(ROOT / "Datasets")]
    with tempfile.TemporaryDirectory() as temporary:
        if options.smoke:
            common = shared.smoke_flags(Path(temporary))
            options.epochs, options.only = 1, options.only or [SMOKE]
            options.save_path = Path(temporary) / "runs"
        common += ["--n_epochs", str(options.epochs), *further]
        runs = all_runs()
        for flags in runs.values():
            parameters.parse(common + flags)  # a wrong flag ends the study before it has begun
        before = untrained(common)
        after = train_all(chosen(runs, options.only), common, options)
    print(
        f"R@1 (%) of the unseen classes after {options.epochs} epochs; "
        f"untrained: {100 * before:.1f}\n"
    )
    print(table(before, after))
    below = [name for name, recall in after.items() if recall["last"] < before]
    print(f"\nBelow untrained: {', '.join(below) or 'none'}")
    return int(bool(below) and not options.smoke)


if __name__ == "__main__":
    sys.exit(main())
