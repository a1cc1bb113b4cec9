"""The folder of a run: `<save_path>/<dataset>/<savename>/`.

It is never one that another run has written to.
"""

import csv
import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count, islice
from pathlib import Path

import yaml

from utilities import durable, processes, signals
from utilities.documents import from_yaml
from utilities.errors import UserError, named, of_loading
from utilities.paths import absent, expanded
from utilities.run_names import run_name
from utilities.signals import Stopped

LAST_CHECKPOINT = "checkpoint_last.pth.tar"
RESULTS = "results.json"
SETTINGS = "args.yaml"
RESULTS_OF_ANY_KIND = (RESULTS, "*.pth.tar", "CSV_Logs/*.csv", "Figures/*")
LOOKED_AT = 1000  # folders, for runs in them


def checkpoint_at(path: str | Path) -> Path:
    """The checkpoint that a path names: itself, or a run folder's last one."""
    path = Path(expanded(path))
    return path / LAST_CHECKPOINT if path.is_dir() else path


def absent_checkpoint(path: str | os.PathLike[str], or_else: str = "") -> str:
    """Why a path names no checkpoint, as the end of a sentence.

    Args:
        or_else: what else may be said instead of a file or a run folder: "or auto".
    """
    folder = Path(expanded(path))
    if not folder.exists():
        forms = f"a file or a run folder{f', {or_else}' if or_else else ''}"
        return absent(folder, f"checkpoint ({forms})")
    if not folder.is_dir():
        return absent(folder, "checkpoint")
    if (folder / SETTINGS).is_file():
        return "its run has no checkpoint yet; the command that began it begins it again."
    if below := _runs_below(folder):
        return f"the folder is of no run, but has {named([str(run) for run in below])}."
    return f"the folder is of no run: there is no {LAST_CHECKPOINT} in it."


def _runs_below(folder: Path) -> list[Path]:
    """Of the first folders in and below one, those that have a checkpoint."""
    some: list[Path] = []
    with suppress(OSError):  # a folder that is closed to us
        some += (path for path in islice(folder.iterdir(), LOOKED_AT) if path.is_dir())
        some += islice(chain.from_iterable(path.iterdir() for path in list(some)), LOOKED_AT)
    return sorted(path for path in some if (path / LAST_CHECKPOINT).is_file())


def runs_named(save_path: str, dataset: str, savename: str) -> list[Path]:
    """Existing folders of that name, the oldest first: `name`, `name_1`, `name_2`, ..."""
    numbered = re.compile(re.escape(savename) + r"(?:_(\d+))?")
    parent = Path(save_path) / dataset
    runs = []
    for path in parent.iterdir() if parent.is_dir() else ():
        match = numbered.fullmatch(path.name)
        if match and (not match[1] or _savename(path) in (savename, None)):
            runs.append((int(match[1] or 0), path))
    return [path for _, path in sorted(runs)]


def _savename(folder: Path) -> str | None:
    """The name that the run was given, None if it says none.

    `name_1` is the second run of `name`, unless that was its name.
    """
    try:
        settings = from_yaml((folder / SETTINGS).read_bytes())
        return run_name(settings["savename"], settings.get("group"), settings.get("seed"))
    except (OSError, AttributeError, ArithmeticError, LookupError, TypeError, ValueError):
        return None


def create(save_path: str, dataset: str, savename: str) -> Path:
    """Make the next free folder of that name; raises UserError where it cannot be written."""
    for folder in _candidates(save_path, dataset, savename):
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if not folder.is_dir():
                raise UserError(f"--save_path: {folder} is in the way of the run folder.") from None
        except OSError as error:
            raise UserError(
                f"--save_path {save_path}: the run folder {folder} cannot be made "
                f"({error.strerror})."
            ) from error
    return folder


def require_place(save_path: str, dataset: str) -> None:
    """Raises UserError where no folder can be made, before what is to lie there has taken hours.

    The place may be inherited from a run of another machine, or of somebody else.
    """
    nearest = Path(save_path) / dataset
    while not os.path.exists(nearest):  # nor may be looked at
        nearest = nearest.parent
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        why = f"{nearest} cannot be written" if nearest.is_dir() else f"{nearest} is no folder"
        raise UserError(
            f"--save_path {save_path}: no run folder can be made there ({why}); name another place."
        )


def begun(save_path: str, dataset: str, savename: str) -> Path | None:
    """The newest folder of that name, if its run was left before it had any result to keep."""
    folder = next(reversed(runs_named(save_path, dataset, savename)), None)
    if folder is None or not (folder / SETTINGS).is_file():
        return None
    has_any = any(any(folder.glob(pattern)) for pattern in RESULTS_OF_ANY_KIND)
    return None if has_any else folder


def following(save_path: str, dataset: str, savename: str) -> Path:
    """The folder that a new run of that name would get."""
    candidates = _candidates(save_path, dataset, savename)
    return next(folder for folder in candidates if not folder.exists())


def _candidates(save_path: str, dataset: str, savename: str) -> Iterator[Path]:
    """`name`, `name_1`, `name_2`, and so on without end."""
    parent = Path(save_path) / dataset
    return (parent / (f"{savename}_{number}" if number else savename) for number in count())


def latest_checkpoint(save_path: str, dataset: str, savename: str) -> Path | None:
    """The newest run's last checkpoint for `--resume auto`, if there is one."""
    for folder in reversed(runs_named(save_path, dataset, savename)):
        if (folder / LAST_CHECKPOINT).is_file():
            return folder / LAST_CHECKPOINT
    return None


def finished_runs(save_path: str, dataset: str, savename: str) -> list[Path]:
    """The finished runs of that name, the newest first."""
    return [
        folder
        for folder in reversed(runs_named(save_path, dataset, savename))
        if has_results(folder)
    ]


def finished_run(save_path: str, dataset: str, savename: str) -> Path | None:
    """The newest finished run of that name, if any."""
    return next(iter(finished_runs(save_path, dataset, savename)), None)


def results(folder: Path) -> dict:
    """What results.json holds; nothing where it cannot be read."""
    try:
        content = json.loads((folder / RESULTS).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def has_results(folder: Path) -> bool:
    """Whether results.json is there and whole: a damaged one is of no finished run."""
    return isinstance(results(folder).get("metrics"), dict)


def settings_begun(folder: Path) -> dict:
    """The settings of a run that was begun; nothing where args.yaml does not say them."""
    try:
        settings = from_yaml((folder / SETTINGS).read_bytes())
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def settings_in_results(folder: Path) -> dict:
    """The settings of a finished run; of args.yaml where results.json does not say them."""
    settings = results(folder).get("settings")
    return settings if isinstance(settings, dict) else settings_begun(folder)


def home(checkpoint: Path, losses: list[float]) -> Path | None:
    """The run folder that a checkpoint lies in, if its records end with the checkpoint.

    None where there are no records, those of another run, or of epochs beyond the checkpoint: they
    are not overwritten.

    Args:
        losses: of each epoch that the checkpoint knows.
    """
    folder = checkpoint.parent
    try:
        with (folder / "CSV_Logs" / "Data_Train_loss.csv").open(newline="") as file:
            recorded = [float(row["loss"]) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError, csv.Error):
        return None
    except OSError:
        if losses:
            return None
        recorded = []  # a checkpoint within the first epoch comes before them
    # A run may be killed after an epoch is recorded and before its checkpoint is written.
    known = len(losses) + (checkpoint.name == LAST_CHECKPOINT)
    goes_further = len(recorded) > known or _finished_epochs(folder) > len(losses)
    is_its_own = recorded[: len(losses)] == losses and (folder / SETTINGS).is_file()
    return folder if is_its_own and not goes_further else None


def _finished_epochs(folder: Path) -> int:
    """Epochs that results.json speaks of."""
    found = results(folder)
    try:
        if "epochs" in found:
            return int(found["epochs"])
        # Before this line was written, epochs were counted from 0.
        return int(found["metrics"]["Train"]["loss"]["last_epoch"]) + 1
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never half of one.

    Raises UserError for a full disk.
    """
    with durable.written(path) as temporary:
        temporary.write_text(text)


def write_settings(folder: Path, settings: dict) -> None:
    """`args.yaml`, a file for `--config`, and `Parameter_Info.txt`, the same for reading."""
    write_atomically(folder / SETTINGS, yaml.safe_dump(settings, sort_keys=False))
    width = max(map(len, settings))
    write_atomically(
        folder / "Parameter_Info.txt",
        "".join(f"{name:<{width}}  {value}\n" for name, value in settings.items()),
    )


def how_to_resume(folder: Path) -> str:
    """The end of the sentence that an interrupted run says."""
    last = folder / LAST_CHECKPOINT
    if not last.is_file():
        return (
            " before the first checkpoint, so there is nothing to resume; the same command begins "
            f"again in {folder}."
        )
    words = ["main.py", "--config", str(folder / SETTINGS), "--resume", str(last)]
    return f"; go on with: {shlex.join([*processes.starter(), *words])}"


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """A signal, or a killed process, says how to go on from the last checkpoint."""
    try:
        yield
    except RuntimeError as error:
        if sentence := of_loading(error) or processes.of_others(error):
            raise UserError(sentence + how_to_resume(folder)) from error
        raise
    except KeyboardInterrupt:
        signals.end()
        raise KeyboardInterrupt(how_to_resume(folder)) from None
    except Stopped as stopped:
        signals.end()
        raise Stopped(stopped.number, how_to_resume(folder)) from None
