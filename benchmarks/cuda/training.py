"""Does a run of main.py on the GPU learn what it learns on the CPU, in each number format?

    python benchmarks/cuda/training.py --results FOLDER
    python benchmarks/cuda/training.py --smoke          # whether it runs: on the CPU, in seconds

The demo's shapes by its small trunk from random weights, guided by their names through vectors of
words that are drawn at random: nothing has to be downloaded. Runs are processes of their own, side
by side. One run is stopped by SIGTERM after an epoch and gone on with, and one may use so little of
the GPU that its memory ends. Ends with status 1 if a run fails, or ends more than `TOLERANCE` below
or above the R@1 of the CPU.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import shared
from benchmarks.cuda.sheets import Sheet, command_line, keep, write_word_vectors
from datasets import shapes

TOLERANCE = 0.06  # of R@1: two seeds of the demo differ by as much
EPOCHS = 3
THREADS = 4  # of a run
FAMILIES = {"R@1": "embeds_e_recall: e_recall@1", "mAP_1000": "embeds_mAP_1000: mAP_1000"}


class Run(NamedTuple):
    """A run's name and its flags beside those of all."""

    name: str
    flags: tuple[str, ...]


ON_GPU = ("--device", "cuda")
CONTIGUOUS = (*ON_GPU, "--memory_format", "contiguous")
RUNS = (
    Run("CPU, fp32", ("--device", "cpu", "--precision", "fp32")),
    Run("GPU, fp32, contiguous", (*CONTIGUOUS, "--precision", "fp32")),
    Run("GPU, fp32, channels_last", (*ON_GPU, "--precision", "fp32", "--channels_last")),
    Run("GPU, fp16, channels_last", (*ON_GPU, "--precision", "fp16", "--channels_last")),
    Run("GPU, as by default (bf16, channels_last)", ON_GPU),
    Run("GPU, distance miner", (*ON_GPU, "--loss", "margin", "--batch_mining", "distance")),
    Run("GPU, s2sd", (*ON_GPU, "--loss", "s2sd", "--loss_s2sd_feat_distill")),
    Run("GPU, sampler by embeddings", (*ON_GPU, "--data_sampler", "fid_batchmatch")),
)
SHORT_OF_MEMORY = """
import sys, torch
whole = torch.cuda.get_device_properties(0).total_memory
torch.cuda.set_per_process_memory_fraction(200 * 2**20 / whole)
import main
sys.exit(main.main(sys.argv[1:]))
"""
UNLIKE_THE_CPU = {"GPU, distance miner", "GPU, s2sd", "GPU, sampler by embeddings"}


class Outcome(NamedTuple):
    """Of a run: its results, what is wrong with it, or what it said last where it had to fail."""

    results: dict
    problem: str = ""
    said: str = ""

    def value(self, family: str) -> float:
        return self.results["metrics"]["Test"][FAMILIES[family]]["last"]


def common_flags(folder: Path, is_smoke: bool) -> list[str]:
    if is_smoke:
        return [*shared.smoke_flags(folder), "--evaluation_metrics", "e_recall@1", "mAP_1000"]
    words = sorted({word for look in shapes.class_looks() for word in look.name.split()})
    return [
        *("--config", str(shared.FROM_SCRATCH), "--source_path", str(folder)),
        *("--cache_path", str(folder / "cache"), "--n_epochs", str(EPOCHS), "--no_figures"),
        *("--language_model", f"vectors:{write_word_vectors(folder / 'words.txt', words)}"),
        *("--language_distill_w", "1", "--kernels", "2"),
    ]


def train(run: Run, common: list[str], save_path: Path, threads: int) -> Outcome:
    """A run, to its end."""
    name = "".join(letter if letter.isalnum() else "_" for letter in run.name)
    flags = [*common, *run.flags]
    try:
        return Outcome(shared.train(name, 0, flags, save_path, threads))
    except SystemExit as error:
        return Outcome({}, str(error))


def stopped_and_resumed(common: list[str], save_path: Path) -> Outcome:
    """A run on the GPU that gets SIGTERM after its first epoch, and is taken up by its command."""
    command = [sys.executable, "main.py", *common, *ON_GPU, "--save_path", str(save_path)]
    command += ["--group", "resumed", "--savename", "group_plus_seed", "--resume", "auto"]
    environment = shared.environment(THREADS)
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wait_for_epoch(save_path, process)
    process.terminate()
    process.communicate(timeout=120)
    first = process.returncode
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if again.returncode:
        return Outcome({}, f"resumed: {shared.last_line(again.stderr)}")
    problem = "" if first == 143 else f"ended with {first} instead of 143 after SIGTERM"
    return Outcome(shared.results_of("resumed_s0", save_path), problem)


def short_of_memory(common: list[str], save_path: Path) -> Outcome:
    """A run on the GPU that may not use enough of it must say in a sentence which flag helps."""
    flags = [*common, *ON_GPU, "--save_path", str(save_path)]
    command = [sys.executable, "-c", SHORT_OF_MEMORY, *flags]
    environment = shared.environment(THREADS)
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    said = shared.last_line(ended.stderr)
    if ended.returncode == 2 and "--bs" in said and "Traceback" not in ended.stderr:
        return Outcome({}, said=said)
    return Outcome({}, f"ended with {ended.returncode} and: {said}")


def wait_for_epoch(save_path: Path, process: subprocess.Popen, seconds: float = 200) -> None:
    """Until the run has a checkpoint, or has ended."""
    started = time.monotonic()
    while process.poll() is None and time.monotonic() - started < seconds:
        if any(save_path.rglob("*.pth.tar")):
            return
        time.sleep(0.1)


def sheet(outcomes: dict[str, Outcome]) -> Sheet:
    rows: list[tuple[str, ...]] = []
    for name, outcome in outcomes.items():
        if not outcome.results:
            rows.append((name, "-", "-", "-", outcome.problem or outcome.said))
            continue
        metrics = outcome.results["metrics"]["Train"]
        peak = metrics.get("peak_memory: gpu_gb", {}).get("last")
        rows.append(
            (
                name,
                *(f"{100 * outcome.value(family):.1f}" for family in FAMILIES),
                f"{peak:.2f}" if peak else "-",
                outcome.problem or "ended well",
            )
        )
    header = ("run", *(f"{family} (%)" for family in FAMILIES), "peak of tensors (GiB)", "")
    title = f"Training through main.py, {EPOCHS} epochs of the demo from random weights"
    return Sheet(title, header, rows, [])


def judged(outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    """Those that fell too far from the CPU's say so."""
    base = next(iter(outcomes.values()))
    marked = {}
    for name, outcome in outcomes.items():
        is_compared = base.results and outcome.results and name not in UNLIKE_THE_CPU
        if is_compared and abs(outcome.value("R@1") - base.value("R@1")) > TOLERANCE:
            outcome = outcome._replace(problem="far from the CPU's R@1")
        marked[name] = outcome
    return marked


def read_command_line() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--jobs", type=int, default=5, help="runs at a time")
    return parser.parse_args()


def main() -> int:
    options = read_command_line()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        common = common_flags(folder, options.smoke)
        runs = RUNS[:1] if options.smoke else RUNS
        threads = 1 if options.smoke else THREADS
        if not options.smoke:
            shapes.ensure_rendered(
                folder / "shapes"
            )  # once, before the runs ask for it side by side
        with ThreadPoolExecutor(options.jobs) as pool:
            tasks = {
                run.name: pool.submit(train, run, common, folder / "runs", threads) for run in runs
            }
            if not options.smoke:
                name = "GPU, stopped and resumed"
                tasks[name] = pool.submit(stopped_and_resumed, common, folder / "resumed")
                name = "GPU, 200 MB of it"
                tasks[name] = pool.submit(short_of_memory, common, folder / "short")
        outcomes = judged({name: task.result() for name, task in tasks.items()})
    keep(options.results, "training", [sheet(outcomes)])
    return int(any(outcome.problem for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
