"""Does each objective, miner and sampler train? A short run of the demo apiece, R@1 of the untrained network beside it.

    python benchmarks/catalogue.py --epochs 3 --jobs 2

Miners run with an objective that takes any of them, samplers with the demo's; intra_random, whose
triplets know no second class, mines for the auxiliary embedding of adversarial_separation, its
place in the paper that brought it. What stands behind `--` goes to every run. A finished run is not
repeated, so an interrupted study goes on where it was. Ends with status 1 if any is below
untrained.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import seeds

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import batchminer  # noqa: E402
import criteria  # noqa: E402
import datasampler  # noqa: E402
import main as training  # noqa: E402
import parameters  # noqa: E402
from utilities import devices, seeding  # noqa: E402

MINED_WITH = "margin"
# Learning rates of the papers are multiples of 1e-5; the demo's trunk has 1e-3, so that these would
# be 100 times theirs.
FLAGS = {
    "oproxy": ["--loss_oproxy_lrmulti", "20"],
    "proxynca": ["--loss_proxynca_lrmulti", "5"],
    "proxyanchor": ["--loss_proxyanchor_lrmulti", "5"],
    "softmax": ["--loss_softmax_lr", "1e-3"],
    "arcface": ["--loss_arcface_lr", "5e-3"],
}


def runs(wanted: list[str]) -> dict[str, list[str]]:
    """Name of a run -> its flags."""
    objectives = {
        f"loss {name}": [
            "--loss",
            name,
            *(["--batch_mining", component.MINERS[0]] if component.MINERS else []),
            *FLAGS.get(name, []),
        ]
        for name, component in criteria.REGISTRY.items()
    }
    fitting = {
        name: next(
            (
                loss
                for loss, component in criteria.REGISTRY.items()
                if name in (component.MINERS or ())
            ),
            MINED_WITH,
        )
        for name in batchminer.REGISTRY
    }
    miners = {
        f"miner {name}": ["--loss", loss, "--batch_mining", name] for name, loss in fitting.items()
    }
    miners["miner intra_random"] = [
        "--loss",
        "adversarial_separation",
        "--loss_adversarial_separation_target",
        "triplet",
        "--batch_mining",
        "intra_random",
    ]
    samplers = {f"sampler {name}": ["--data_sampler", name] for name in datasampler.REGISTRY}
    return {
        name: flags
        for name, flags in (objectives | miners | samplers).items()
        if not wanted or name in wanted or name.split()[0] in wanted
    }


def untrained(flags: list[str]) -> float:
    """R@1 of the network as every run starts with it."""
    opt = parameters.parse([*flags, "--no_train_metrics", "--evaluation_metrics", "e_recall@1"])
    device = devices.select(opt.device, opt.gpu)
    seeding.seed_everything(opt.seed)
    data = training.build_data(opt)
    network, transform = training.build_network(opt, data.splits, device, load_weights=True)
    values = training.evaluate_epoch(
        opt, network, {"Test": data.splits.testing.with_transform(transform.evaluation)}, device
    )
    return values["Test"]["embeds_e_recall"]["e_recall@1"]


def main() -> int:
    own, common = (
        (sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :])
        if "--" in sys.argv
        else (sys.argv[1:], [])
    )
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
    parser.add_argument("--save_path", type=Path, default=ROOT / "Training_Results" / "catalogue")
    args = parser.parse_args(own)
    torch.set_num_threads(args.threads)
    common = [
        "--config",
        str(ROOT / "configs" / "demo.yaml"),
        "--n_epochs",
        str(args.epochs),
        *common,
    ]
    before = untrained(common)
    with ThreadPoolExecutor(args.jobs) as pool:
        started = {
            name: pool.submit(
                seeds.train, name.replace(" ", "_"), 0, common + flags, args.save_path, args.threads
            )
            for name, flags in runs(args.only).items()
        }
        after = {
            name: run.result()["metrics"]["Test"]["embeds_e_recall: e_recall@1"]
            for name, run in started.items()
        }
    print(
        f"R@1 (%) of the unseen classes after {args.epochs} epochs; untrained: {100 * before:.1f}\n\n| run | before | after | best |\n|---|---|---|---|"
    )
    for name, values in after.items():
        print(
            f"| {name} | {100 * before:.1f} | {100 * values['last']:.1f} | {100 * values['best']:.1f} |"
        )
    below = [name for name, values in after.items() if values["last"] < before]
    print(f"\nBelow untrained: {', '.join(below) or 'none'}")
    return int(bool(below))


if __name__ == "__main__":
    sys.exit(main())
