"""A sweep as an array of SLURM jobs, a task for each run."""

import logging
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import parameters
from programs.sweeping import standing
from programs.sweeping.study import Planned, Study
from utilities import run_folder
from utilities.errors import UserError, on_one_line

LOG = logging.getLogger(__name__)
# Ahead of the time limit the shell of a task is sent USR1 (B: is the shell alone), in time for a
# checkpoint, and has the task begin again, which goes on from it.
USUAL = {"requeue": None, "open-mode": "append", "signal": "B:USR1@120"}
TASK = """
asked=
trap 'asked=again; kill -USR1 "$process"' USR1
trap 'asked=end; kill -TERM "$process"' TERM
"${run[@]}" &
process=$!
wait "$process"
status=$?
while kill -0 "$process" 2>/dev/null; do wait "$process"; status=$?; done
if [[ $asked == again && $status != 0 ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$status"
"""


def script(study: Study, runs: Sequence[Planned]) -> str:
    """The script of the array. Raises UserError for a run that could not go on by itself."""
    _require_own_names(runs)
    file = on_one_line(shlex.quote(str(study.file)))
    lines = [
        "#!/usr/bin/env bash",
        f"# The runs of {file}, a task each: python -m programs.sweep {file} --slurm",
        *(f"#SBATCH --{name}{_equals(value)}" for name, value in _options(study, runs).items()),
        "",
        f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
        "case $SLURM_ARRAY_TASK_ID in",
        *_cases(runs),
        "esac",
    ]
    return "\n".join(lines) + "\n" + TASK


def submit(study: Study, runs: Sequence[Planned]) -> None:
    """Write the script and hand it to sbatch, whose answer is told."""
    path = _folder(runs) / f"{study.file.stem}.sbatch"
    path.parent.mkdir(parents=True, exist_ok=True)
    run_folder.write_atomically(path, script(study, runs))
    program = shutil.which("sbatch")
    if program is None:
        raise UserError(
            f"--slurm: there is no sbatch on this machine; submit {path} where there is one."
        )
    answer = subprocess.run([program, str(path)], capture_output=True, text=True)
    if answer.returncode:
        why = on_one_line((answer.stderr.strip() or "it says nothing").splitlines()[-1])
        raise UserError(f"--slurm: sbatch refuses {path} ({why}).")
    LOG.info("%s: %d runs of %s.", answer.stdout.strip(), len(runs), path)


def _options(study: Study, runs: Sequence[Planned]) -> dict[str, str | None]:
    """Of sbatch; those of the file come last."""
    name = on_one_line(study.file.stem)
    at_once = f"%{study.jobs}" if study.jobs else ""
    beginning = f"{_folder(runs)}/{name}".replace("%", "%%")  # % begins what sbatch fills in
    return {
        "job-name": name,
        "array": f"0-{len(runs) - 1}{at_once}",
        "output": f"{beginning}-%A-%a.log",  # task 0 is another run next time
        **USUAL,
        **study.slurm,
    }


def _equals(value: str | None) -> str:
    return "" if value is None else f"={shlex.quote(value)}"  # sbatch divides at blanks


def _folder(runs: Sequence[Planned]) -> Path:
    return Path(runs[0].settings.save_path) / "slurm"


def _cases(runs: Sequence[Planned]) -> Iterator[str]:
    for number, run in enumerate(runs):
        words = parameters.without_secrets(run.command("auto"))
        yield f"    {number}) run=({shlex.join(words)}) ;;"


def _require_own_names(runs: Sequence[Planned]) -> None:
    """A task that begins again goes on with the newest run of its name, whatever that is."""
    for run in runs:
        if beside := standing.beginning(run).beside:
            raise UserError(
                f"--slurm: {beside} is a run of the name {run.name} with other settings; move it "
                "away, or rename the variant."
            )
