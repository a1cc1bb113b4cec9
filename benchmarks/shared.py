"""What the benchmarks share: a run at its smallest, runs of main.py, tables, command lines."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from training import Learner
    from utilities.runtime import Runtime

ROOT = Path(__file__).resolve().parents[1]
FROM_SCRATCH = ROOT / "configs" / "from_scratch.yaml"
SHAPES = ("star", "heart", "cross", "arrow")
SMOKE_CLASSES = [f"{colour} {shape}" for colour in ("red", "blue") for shape in SHAPES]
DASHES = "--"  # own arguments stand before, flags of main.py behind
# glibc must not return memory at every step, and idle threads must not take the cores of others.
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
}


def place(text: str) -> Path:
    """The type of a flag that takes a path; `~` at its beginning is the home folder."""
    return Path(os.path.expanduser(text))


def split_at_dashes(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first `--`, and what behind it."""
    if DASHES not in words:
        return words, []
    place = words.index(DASHES)
    return words[:place], words[place + 1 :]


def smoke_flags(folder: Path) -> list[str]:
    """Flags of main.py for the shapes at their smallest: images of noise, written into `folder`.

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
        "config": FROM_SCRATCH,
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


def learner_of(
    arch: str,
    objective: str,
    pixels: int,
    *,
    runtime: "Runtime | None" = None,
    micro_batch: int = 0,
) -> "Learner":
    """A learner of a pretrained trunk, in training, as main.py builds one."""
    # Here, because step.py imports this module and must not get this checkout's rooms.
    import torch

    import architectures
    import criteria
    from training import Learner, Updates, optimizers, schedules
    from utilities.runtime import Runtime, keep_freed_memory

    keep_freed_memory()
    torch.manual_seed(0)
    network = architectures.select(
        arch, embed_dim=128, image_size=pixels, pretrained=True, weights_file=None
    )
    groups = [{"params": list(network.parameters()), "lr": 1e-5, "name": "network"}]
    optimizer = optimizers.select("adam", groups)
    updates = Updates(optimizer, schedules.select("none", optimizer, schedules.Course(1)))
    learner = Learner(
        network,
        criteria.select(objective),
        updates,
        runtime=runtime or Runtime(),
        micro_batch=micro_batch,
    )
    learner.start_epoch(0)
    return learner


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


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    separator = tuple("---" for _ in header)
    lines = [f"| {' | '.join(row)} |" for row in [header, *rows]]
    return "\n".join([lines[0], f"|{'|'.join(separator)}|", *lines[1:]])
