"""What the command lines share.

Imports nothing heavy, so that `--help` and wrong flags answer first.
"""

import argparse
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

from programs.constants import DEVICES, PRECISIONS
from utilities import processes
from utilities.errors import MemoryAdvice, UserError, on_one_line
from utilities.flags import abridged
from utilities.paths import expanded
from utilities.run_folder import absent_checkpoint, checkpoint_at

Flags = TypeVar("Flags", bound=argparse.Namespace)
LOG = logging.getLogger(__name__)
DIGITS = 9  # of a whole number at most
OF_EMBEDDING = MemoryAdvice(
    host="lower --bs or --kernels",
    gpu="lower --bs, or use --precision bf16 or --device cpu",
)
OF_OTHER_WORK = MemoryAdvice(
    host="end other programs, or take a machine with more of it",
    gpu="end other programs on it",
)


class Parser(argparse.ArgumentParser):
    """What is wrong with the flags is one line, whatever was typed, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        is_told = processes.speaks_for_machine()  # once, where torchrun has started several
        self.exit(2, f"{self.prog}: error: {on_one_line(message)}\n" if is_told else None)


class CheckpointFlags(argparse.Namespace):
    """Of a program that starts from a checkpoint."""

    checkpoint: Path


class EmbeddingFlags(CheckpointFlags):
    """Of a program that embeds images."""

    bs: int
    kernels: int
    device: str
    gpu: list[int] | None
    on_bad_image: str
    precision: str

    @property
    def gpu_index(self) -> int:
        return self.gpu[0] if self.gpu else 0


def build_parser(program: str, description: str) -> argparse.ArgumentParser:
    """A parser of `python -m programs.<program>`."""
    return Parser(prog=f"python -m programs.{program}", description=description, allow_abbrev=False)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """The network that a program starts from."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        type=checkpoint,
        help="Checkpoint of a run of main.py, or the run's folder: its last one.",
    )


def add_embedding_flags(parser: argparse.ArgumentParser) -> None:
    """How images are embedded, as in main.py."""
    group = parser.add_argument_group("how images are embedded")
    group.add_argument("--bs", type=at_least(1), default=112, help="Batch size (%(default)s).")
    group.add_argument(
        "--kernels",
        type=at_least(0),
        default=6,
        help="Number of data loading processes (%(default)s); 0 loads in the main process.",
    )
    group.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="auto, the default, takes the GPU if there is one.",
    )
    group.add_argument("--gpu", type=at_least(0), nargs=1, help="Index of the GPU (0).")
    group.add_argument(
        "--on_bad_image",
        choices=("raise", "skip"),
        default="raise",
        help="What broken images do: end the program (the default), or stay out, counted and "
        "named.",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="Number format of the network (%(default)s).",
    )


def place(text: str) -> Path:
    """The type of a flag that takes a path; `~` at its beginning is the home folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; give a path")
    try:
        path = Path(expanded(text))
        path.exists()  # raises where it cannot even be looked at
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from error
    return path


def output(text: str) -> Path:
    """The type of a flag that takes a file to write, which is then put in the place of another.

    That of a link is its target, and nothing takes the place of a pipe or a device.
    """
    path = place(text)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: it is a pipe or a device, not a file")
    try:
        return path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as error:  # Python before 3.13 raises the latter
        raise argparse.ArgumentTypeError(f"{text}: it is a link that leads nowhere") from error


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag that takes whole numbers from `least` on, as far as anything counts."""

    def parse(text: str) -> int:
        rule = f"a whole number of at least {least}"
        if text.isdecimal() and len(text.lstrip("0")) > DIGITS:
            rule = f"at most {10**DIGITS - 1}"
        elif text.isdecimal() and int(text) >= least:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be {rule}, not {abridged(text)}")

    return parse


def run(program: str, work: Callable[[Flags], None], flags: Flags) -> int:
    """Exit status of `work(flags)`.

    What it says goes to standard error, because standard output is for results.
    """
    from utilities import report  # here, because it loads torch

    report.configure_logging(sys.stderr)
    name = f"python -m programs.{program}"
    if isinstance(flags, EmbeddingFlags) and flags.gpu and flags.device == "cpu":
        LOG.info("--gpu %d has no effect, because --device is cpu.", flags.gpu_index)
    advice = OF_EMBEDDING if isinstance(flags, EmbeddingFlags) else OF_OTHER_WORK
    told = partial(_told, name, work)
    return report.exit_status(told, flags, program=name, advice=advice)


def _told(name: str, work: Callable[[Flags], None], flags: Flags) -> None:
    """Raises UserError under torchrun."""
    processes.require_alone(name)
    work(flags)


def checkpoint(text: str) -> Path:
    """The type of a flag that takes a checkpoint, or a run folder: its last one."""
    path = checkpoint_at(place(text))
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: {absent_checkpoint(text).rstrip('.')}")
    return path
