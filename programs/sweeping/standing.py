"""How a run of a sweep stands: finished, begun, or not there yet."""

from pathlib import Path
from typing import NamedTuple

from programs.results import runs
from programs.sweeping.study import Planned, differing
from utilities import run_folder
from utilities.errors import UserError


class Beginning(NamedTuple):
    """How a run begins.

    Attributes:
        resume: what its `--resume` is given, None for a run from its beginning.
        beside: the newest run of its name, where that has other settings and is left alone.
    """

    resume: str | None
    beside: Path | None = None


def finished(run: Planned) -> Path | None:
    """The newest finished run of its name and settings, if any: what `--completed` looks for."""
    for folder in run_folder.finished_runs(*_place(run)):
        if not differing(run_folder.settings_in_results(folder), run):
            return folder
    return None


def beginning(run: Planned) -> Beginning:
    """Where it goes on.

    With 'auto', unless that would go on with a run of other settings.
    """
    begun = [
        folder
        for folder in reversed(run_folder.runs_named(*_place(run)))
        if (folder / run_folder.LAST_CHECKPOINT).is_file()
    ]
    fitting = next((folder for folder in begun if _leads_to(folder, run)), None)
    if fitting == next(iter(begun), None):
        return Beginning("auto")
    return Beginning(str(fitting) if fitting else None, begun[0])


def _place(run: Planned) -> tuple[str, str, str]:
    return run.settings.save_path, run.settings.dataset, run.name


def _leads_to(folder: Path, run: Planned) -> bool:
    """Whether a begun run has the settings of this one, or is a shorter one of them."""
    try:
        stored = runs.read(folder).settings
    except UserError:
        return False
    is_longer = stored.get("n_epochs", 0) > run.settings.n_epochs
    return not is_longer and set(differing(stored, run)) <= {"n_epochs"}
