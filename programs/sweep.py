"""Many runs of main.py from one file: variants, seeds and datasets of a command.

python -m programs.sweep configs/sweeps/demo.yaml --jobs 2
python -m programs.sweep STUDY.yaml --dry_run -- --source_path DATA
"""

import argparse
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from programs import command_line
from utilities.errors import on_one_line

if TYPE_CHECKING:
    import parameters
    from programs.sweeping.local import Outcome
    from programs.sweeping.study import Planned, Study

LOG = logging.getLogger("programs.sweep")
DASHES = "--"  # behind them stand flags of main.py
EPILOG = (
    "FILE is YAML: settings (flags of main.py by name, also config), variants (name: settings), "
    "seeds (a list), datasets (name: settings), baseline (a variant), jobs, gpus, slurm (options "
    "of sbatch) and wandb (of a W&B sweep). What stands behind -- goes to every run, over the "
    "file. Finished runs are recognised by their settings and left out, interrupted ones go on: "
    "give the same command again. Exit status: 0 all are finished, 1 some are not."
)


class Flags(argparse.Namespace):
    file: Path
    jobs: int | None
    gpus: list[str] | None
    only: re.Pattern[str] | None
    dry_run: bool
    slurm: bool
    wandb: bool
    further: list[str]


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 all runs are finished, 1 some are not, 2 wrong flag or file.

    130 interrupted, 143 told to stop by SIGTERM or SIGUSR1, 129 by SIGHUP.
    """
    flags = parse(argv)
    from programs.sweeping import study as studies
    from programs.sweeping.document import WrongFile
    from programs.sweeping.local import Outcome

    try:
        study = studies.read(flags.file, flags.further)
    except WrongFile as wrong:
        return _refuse(wrong.sentences)
    runs = [run for run in study.runs if not flags.only or flags.only.search(run.label)]
    if not runs:
        return _refuse([f"--only matches none of the runs, such as {study.runs[0].label}."])
    outcome = Outcome()
    status = command_line.run("sweep", partial(work, study, runs, outcome), flags)
    if status == 0 and outcome.finished:
        status = max(compare(argv) for argv in _comparisons(study, runs, outcome))
    return status or int(bool(outcome.failed))


def parse(argv: list[str] | None) -> Flags:
    own, further = _divided(sys.argv[1:] if argv is None else argv)
    parser = command_line.build_parser(
        "sweep", "Run variants of one command over seeds and datasets, and compare them."
    )
    parser.usage = f"{parser.prog} FILE [flags] [-- FLAGS OF main.py]"
    parser.epilog = EPILOG
    parser.add_argument("file", metavar="FILE", type=command_line.place, help="The sweep: YAML.")
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=command_line.at_least(1),
        help="Runs at a time: by default one on each GPU, or one.",
    )
    parser.add_argument(
        "--gpus",
        metavar="ID",
        action="extend",
        nargs="+",
        type=_gpu,
        help="GPUs for the runs, in turn; by default all that there are.",
    )
    parser.add_argument(
        "--only",
        metavar="REGEX",
        type=_pattern,
        help="Only runs whose <dataset>/<variant>_s<seed> it is found in.",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="List the commands, or show what --slurm or --wandb would write, and end.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--slurm",
        action="store_true",
        help="Submit an array of SLURM jobs, a task for each run that is not finished.",
    )
    where.add_argument(
        "--wandb",
        action="store_true",
        help="Write a sweep for the agents of Weights & Biases instead of running anything.",
    )
    return parser.parse_args(own, Flags(further=further))


def work(study: "Study", runs: "Sequence[Planned]", outcome: "Outcome", flags: Flags) -> None:
    """What the flags ask for; the outcome says what has become of the runs."""
    from programs.sweeping import online, slurm, standing
    from programs.sweeping.study import notices

    # What acts in a sweep of W&B depends on what it adds, which only its runs know.
    if flags.wandb:
        _write_online(online.files(study, runs), flags)
        return
    for notice in notices(study):
        LOG.info("%s", notice)
    finished = {run.label: folder for run in runs if (folder := standing.finished(run))}
    left = [run for run in runs if run.label not in finished]
    if flags.slurm and flags.dry_run:
        print(slurm.script(study, left or runs), end="")
    elif flags.slurm and left:
        slurm.submit(study, left)
    elif flags.slurm:
        LOG.info("All %d runs are finished; nothing to submit.", len(runs))
    elif flags.dry_run:
        _list(runs, finished)
    else:
        outcome.finished |= finished
        _run_here(study, left, outcome, flags)


def compare(words: list[str]) -> int:
    """Exit status of `python -m programs.compare` with these words."""
    from programs import compare as program

    return program.main(words)


def _divided(words: list[str]) -> tuple[list[str], list[str]]:
    """Own words, and those behind the first `--`."""
    place = words.index(DASHES) if DASHES in words else len(words)
    return words[:place], words[place + 1 :]


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text} is no regular expression: {error}") from error


def _gpu(text: str) -> str:
    from programs.sweeping.machine import names_one_gpu

    if not names_one_gpu(text):
        raise argparse.ArgumentTypeError(
            f"{text} is not the number of one GPU; several stand apart, as --gpus 0 1"
        )
    return text


def _refuse(sentences: Iterable[str]) -> int:
    for sentence in sentences:
        print(f"python -m programs.sweep: error: {on_one_line(sentence)}", file=sys.stderr)
    return 2


def _list(runs: "Sequence[Planned]", finished: "dict[str, Path]") -> None:
    """A command a line; what is said of it stands behind it, as a comment of the shell."""
    from programs.sweeping import standing

    for run in runs:
        if folder := finished.get(run.label):
            print(f"{run.shown('auto')}  # finished: {folder}")
        else:
            print(run.shown(standing.beginning(run).resume))


def _run_here(study: "Study", left: "Sequence[Planned]", outcome: "Outcome", flags: Flags) -> None:
    """Each run that is not finished, as a process of this machine."""
    from programs.sweeping import machine
    from programs.sweeping.local import Pool

    if outcome.finished and left:
        count = len(outcome.finished)
        LOG.info("%d of %d runs are finished already.", count, count + len(left))
    on_cpu = all(run.settings.device == "cpu" for run in left)
    gpus = flags.gpus or study.gpus or ([] if on_cpu else machine.gpus())
    Pool(left, machine.slots(flags.jobs or study.jobs, gpus), outcome).work()
    if outcome.failed:
        reasons = "\n".join(f"  {label}: {why}" for label, why in outcome.failed.items())
        count = len(outcome.finished) + len(outcome.failed)
        LOG.warning("Not finished, of %d runs:\n%s", count, reasons)


def _write_online(contents: "dict[Path, str]", flags: Flags) -> None:
    from programs.sweeping import online

    sweep = next(iter(contents))
    if flags.dry_run:
        print(contents[sweep], end="")
        return
    online.write(contents)
    LOG.info("Written: %s. Begin it with:", sweep)
    print(f"wandb sweep {sweep}")


def _comparisons(
    study: "Study", runs: "Sequence[Planned]", outcome: "Outcome"
) -> Iterator[list[str]]:
    """What the comparison is called with: once, or for each dataset where groups are its own."""
    finished = [run for run in runs if run.label in outcome.finished]
    entries = {run.entry if run.group != run.variant else "" for run in finished}
    for entry in sorted(entries):
        here = [run for run in finished if entry in ("", run.entry)]
        folders = [str(outcome.finished[run.label]) for run in here]
        baseline = [run.group for run in here if run.variant == study.baseline]
        held_against = ["--baseline", baseline[0]] if baseline else []
        yield [*folders, *_compared_split(here[0].settings), *held_against]


def _compared_split(settings: "parameters.Settings") -> list[str]:
    """The flag that takes what is evaluated in the place of the test split."""
    if not settings.no_test_metrics:
        return []
    return ["--split", "Val" if settings.use_tv_split else "Train"]


if __name__ == "__main__":
    sys.exit(main())
