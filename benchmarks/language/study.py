"""Does language help, and is it the words? Baseline, guidance and its controls, tuned alike.

    python benchmarks/language/study.py --source_path DATA --save_path RUNS --jobs 2
    python benchmarks/language/study.py --smoke                 # whether it runs, in seconds

DATA holds `cars196_half/`, `cub100/` and `cifar100/`, each with `images/<class>/`; the first half
of the classes trains. For each dataset and objective:

1. Every variant makes as many trials as any other, on a part of the training classes, and is
   measured on the rest of them (`--use_tv_split`): six learning rates for the baseline, two
   learning rates and three weights for what is guided. The number of epochs is chosen with them.
2. Every variant trains on all training classes, as chosen, with several seeds. The test classes are
   read once, after the last epoch.

Both are sweeps: what has finished is left out, what was ended goes on, so the same command again
takes the study further. What was chosen and the tables are written into RUNS. Flags of main.py
behind `--` go to all runs, such as `-- --image_size 128`.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import yaml

from benchmarks import shared
from programs import compare, sweep
from programs.results import runs

Settings = dict[str, Any]

COMMON: Settings = {
    "arch": "tf_efficientnet_lite0_frozen_normalize",
    "freeze_until": "blocks.3",
    "image_size": 96,
    "channels_last": True,
    "cache": "disk",  # decoded once for all runs: an epoch takes a fifth less time
    "embed_dim": 128,
    "bs": 112,
    "no_train_metrics": True,
    "language_model": "minilm",
}
S2SD: Settings = {
    "loss": "s2sd",
    "loss_s2sd_source": "multisimilarity",
    "loss_s2sd_target": "multisimilarity",
    "loss_s2sd_T": 1,
    "loss_s2sd_w": 50,
    "loss_s2sd_pool_aggr": True,
    "loss_s2sd_target_dims": [512, 1024],
    "loss_s2sd_feat_distill": True,
    "loss_s2sd_feat_distill_delay": 0,
    "loss_s2sd_feat_w": 50,
}
OBJECTIVES: dict[str, Settings] = {
    "multisimilarity": {"loss": "multisimilarity"},
    "margin": {"loss": "margin", "batch_mining": "distance", "loss_margin_beta": 1.2},
    "s2sd": S2SD,
}
PSEUDOLABELS: Settings = {
    "language_pseudoclass": True,
    "language_pseudoclass_arch": "tf_efficientnet_lite0",
}
BASELINE, SHUFFLED, WORDS = "baseline", "shuffled", "word_vectors"
VARIANTS: dict[str, Settings] = {
    BASELINE: {},
    "names": {},
    "pseudolabels": PSEUDOLABELS,
    SHUFFLED: {"language_control": "shuffle"},
    "by_image": PSEUDOLABELS | {"language_pseudoclass_level": "sample"},
    "both": PSEUDOLABELS | {"language_pseudoclass_share": 0.5},
    "random": {"language_control": "random"},
    WORDS: {},
}
MAIN = list(VARIANTS)[:4]
DATASETS = ("cars196_half", "cub100", "cifar100")
BASELINE_RATES = (5e-5, 1e-4, 1.4e-4, 2e-4, 2.8e-4, 4e-4)
GUIDED_RATES, WEIGHTS = (1e-4, 2e-4), (3.0, 10.0, 30.0)
TUNING_SEED = 100  # of none of the runs that are reported
CHOSEN_BY = ("Val", "embeds_e_recall: e_recall@1")
# The second ones are by the texts that guide a run; word vectors, which know no Geococcyx, are
# other texts than those of all other variants, and are not measured by them.
BY_LABELS = ("e_recall@1", "mAP_1000", "mAP@R")
REPORTED = (*BY_LABELS, "semantic_consistency", "mistake_severity")


class Trial(NamedTuple):
    """The settings that tuning chooses, but for the number of epochs."""

    lr: float
    weight: float

    @property
    def settings(self) -> Settings:
        return {"lr": self.lr, "language_distill_w": self.weight}

    @property
    def name(self) -> str:
        return f"lr{self.lr:g}" + (f"_w{self.weight:g}" if self.weight else "")


class Tried(NamedTuple):
    """A trial with its best epoch, counted from 1, and the validation R@1 there."""

    trial: Trial
    epoch: int
    value: float


class Part(NamedTuple):
    """A dataset under an objective, with the place of its runs and tables."""

    dataset: str
    objective: str
    variants: dict[str, Settings]
    folder: Path

    def place(self, stage: str) -> Path:
        return self.folder / self.objective / stage


class Size(NamedTuple):
    """
    Attributes:
        epochs: of a trial. trials, guided_trials: how many of each kind, of those above.
        seeds, main_seeds: of all variants, and of the main ones on the first dataset.
    """

    epochs: int = 10
    trials: int = len(BASELINE_RATES)
    guided_trials: int = len(GUIDED_RATES) * len(WEIGHTS)
    seeds: int = 3
    main_seeds: int = 5


SMOKE = Size(epochs=1, trials=1, guided_trials=1, seeds=1, main_seeds=1)

SMOKE_FLAGS = """
    --arch test_resnet_normalize --not_pretrained --device cpu --image_size 32 --embed_dim 8 --bs 8
    --kernels 0 --tv_split_perc 0.5 --freeze_until layer1 --no_figures
"""


class Flags(argparse.Namespace):
    source_path: Path
    save_path: Path
    datasets: list[str]
    objectives: list[str]
    variants: list[str]
    word_vectors: Path | None
    epochs: int
    jobs: int
    smoke: bool


def trials(variant: str, size: Size) -> list[Trial]:
    if variant == BASELINE:
        return [Trial(lr, 0.0) for lr in BASELINE_RATES[: size.trials]]
    guided = itertools.starmap(Trial, itertools.product(GUIDED_RATES, WEIGHTS))
    return list(guided)[: size.guided_trials]


def run_sweep(path: Path, content: Settings, jobs: int, further: list[str]) -> None:
    """A sweep whose file is kept. Ends the study where a run of it failed or was ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    status = sweep.main([str(path), "--jobs", str(jobs), "--", *further])
    if status:
        raise SystemExit(status)


def settings_of(part: Part, stage: str) -> Settings:
    place = {"dataset": part.dataset, "save_path": str(part.place(stage))}
    return COMMON | OBJECTIVES[part.objective] | place


def tune(part: Part, size: Size, jobs: int, further: list[str]) -> None:
    """The trials of all variants, on a validation part of the training classes."""
    stage = "tuning"
    variants = {
        f"{variant}_{trial.name}": its | trial.settings
        for variant, its in part.variants.items()
        for trial in trials(variant, size)
    }
    settings = settings_of(part, stage) | {
        "n_epochs": size.epochs,
        "use_tv_split": True,
        "no_test_metrics": True,
        "evaluation_metrics": ["e_recall@1", "mAP_1000"],
    }
    content = {"settings": settings, "variants": variants, "seeds": [TUNING_SEED]}
    run_sweep(part.place(f"{stage}_{part.dataset}.yaml"), content, jobs, further)


def choose(part: Part, size: Size) -> dict[str, Settings]:
    """Variant -> learning rate, weight and epochs of its best validation value, which is told.

    Of equal values the earlier trial and the earlier epoch are taken.
    """
    best = {
        variant: max(_tried(part, variant, size), key=lambda tried: (tried.value, -tried.epoch))
        for variant in part.variants
    }
    rows: list[tuple[str, ...]] = [
        (variant, f"{lr:g}", f"{weight:g}", str(epoch), f"{100 * value:.1f}")
        for variant, ((lr, weight), epoch, value) in best.items()
    ]
    header = (part.dataset, "learning rate", "weight", "epochs", "validation R@1")
    table = shared.markdown(header, rows) + "\n"
    part.place(f"chosen_{part.dataset}.md").write_text(table)
    print(table)
    return {
        variant: tried.trial.settings | {"n_epochs": tried.epoch} for variant, tried in best.items()
    }


def _tried(part: Part, variant: str, size: Size) -> Iterator[Tried]:
    """The trials of a variant, each with its best epoch."""
    for trial in trials(variant, size):
        name = f"{variant}_{trial.name}_s{TUNING_SEED}"
        (run,) = runs.find([part.place("tuning") / part.dataset / name])
        curve = run.curve(*CHOSEN_BY)
        value, negative_epoch = max(
            (value, -epoch) for epoch, value in zip(curve.epochs, curve.values)
        )
        yield Tried(trial, -negative_epoch, value)


def metrics_of(variant: str) -> tuple[str, ...]:
    return BY_LABELS if variant == WORDS else REPORTED


def test(
    part: Part, chosen: dict[str, Settings], size: Size, jobs: int, further: list[str]
) -> None:
    """The variants as chosen, on all training classes; the test classes are read at the end."""
    stage = "test"
    variants = {
        variant: its
        | chosen[variant]
        | {
            "evaluate_every": chosen[variant]["n_epochs"],
            "evaluation_metrics": list(metrics_of(variant)),
        }
        for variant, its in part.variants.items()
    }
    settings = settings_of(part, stage) | {"no_figures": True}
    content = {"settings": settings, "variants": variants, "seeds": list(range(size.seeds))}
    run_sweep(part.place(f"{stage}_{part.dataset}.yaml"), content, jobs, further)
    if part.dataset != DATASETS[0] or size.main_seeds == size.seeds:
        return
    content["variants"] = {name: its for name, its in variants.items() if name in MAIN}
    content["seeds"] = list(range(size.main_seeds))
    run_sweep(part.place(f"{stage}_{part.dataset}_main.yaml"), content, jobs, further)


def report(part: Part) -> None:
    """The values of all seeds and the tables of a part, beside its runs; tables are printed too.

    One table holds all variants against the baseline, the other against shuffled texts: what it
    shows is due to what the texts mean.
    """
    write(part, part.place(f"values_{part.dataset}.csv"))
    for name, reference in {"table": BASELINE, "words": SHUFFLED}.items():
        if reference in part.variants:
            table = part.place(f"{name}_{part.dataset}.md")
            write(part, table, "--baseline", reference)
            print(table.read_text())


def write(part: Part, file: Path, *further: str) -> None:
    """A comparison of what was read on the test classes."""
    folder = str(part.place("test") / part.dataset)
    metrics = max(map(metrics_of, part.variants), key=len)
    measured = ["--metrics", *metrics, "--value", "last"]
    if status := compare.main([folder, *measured, "--to", str(file), *further]):
        raise SystemExit(status)


def chosen_variants(flags: Flags, objective: str) -> dict[str, Settings]:
    """Those of the flags; without word vectors, which are nobody's requirement, none of those."""
    names = flags.variants or (MAIN[:3] if objective == "s2sd" else list(VARIANTS))
    found = {name: VARIANTS[name] for name in names}
    if flags.word_vectors and WORDS in found:
        found[WORDS] = {"language_model": f"vectors:{flags.word_vectors}"}
    elif found.pop(WORDS, None) is not None:
        print(f"{objective}: {WORDS} is left out, because --word_vectors is not given.")
    return found


def study(flags: Flags, size: Size, further: list[str]) -> None:
    for objective, dataset in itertools.product(flags.objectives, flags.datasets):
        variants = chosen_variants(flags, objective)
        part = Part(dataset, objective, variants, flags.save_path)
        words = ["--source_path", str(flags.source_path), *further]
        tune(part, size, flags.jobs, words)
        chosen = choose(part, size)
        test(part, chosen, size, flags.jobs, words)
        report(part)


def smoke(flags: Flags) -> None:
    """One trial and one seed of guidance by shuffled names, on images of noise."""
    flags.variants, flags.objectives, flags.datasets = [SHUFFLED], ["multisimilarity"], ["shapes"]
    with tempfile.TemporaryDirectory() as temporary:
        shared.smoke_flags(Path(temporary))
        flags.source_path, flags.save_path = Path(temporary), Path(temporary) / "runs"
        study(flags, SMOKE, [*SMOKE_FLAGS.split(), "--cache_path", f"{temporary}/cache"])


def read_command_line() -> tuple[Flags, list[str]]:
    own, further = shared.split_at_dashes(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source_path", type=shared.place, help="the folder of the datasets")
    parser.add_argument("--save_path", type=shared.place, help="of runs, choices and tables")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="default: all")
    parser.add_argument("--word_vectors", type=shared.place, help="as in vectors:FILE of main.py")
    parser.add_argument("--epochs", type=int, default=Size().epochs, help="of a trial")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--smoke", action="store_true", help="whether it runs, in seconds")
    flags = parser.parse_args(own, Flags())
    if not flags.smoke and not (flags.source_path and flags.save_path):
        parser.error("--source_path and --save_path are needed, or --smoke")
    return flags, further


def main() -> None:
    flags, further = read_command_line()
    if flags.smoke:
        smoke(flags)
    else:
        study(flags, Size(epochs=flags.epochs), further)


if __name__ == "__main__":
    main()
