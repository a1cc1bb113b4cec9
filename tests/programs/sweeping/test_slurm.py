"""Arrays of SLURM jobs, on a stand-in of the scheduler that runs the tasks at once."""

import os
import stat
from pathlib import Path

import pytest

from programs import sweep
from programs.sweeping import study

STAND_IN = Path(__file__).parent / "stand_in.py"
STUDY = """
settings: {{save_path: {here}/runs, dataset: birds, project: {what}}}
variants: {{base: , "it's": {{language_distill_w: 5}}}}
seeds: [0, 1]
jobs: 2
slurm:
  time: 24:00:00
  gres: gpu:1
  exclusive: true
  requeue: true
  mail_type: null
  partition: a
"""
# Tells each task to stop as soon as it has said a line, and begins again what asks for it.
SBATCH = """#!/usr/bin/env bash
set -u
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
here=$(dirname "$0")
for task in $(seq 0 "$last"); do
    while :; do
        rm -f "$here/again" "$here/task$task"
        export SLURM_ARRAY_TASK_ID=$task SLURM_JOB_ID=job$task
        bash "$1" >"$here/task$task" 2>&1 &
        job=$!
        until grep -qs Epoch "$here/task$task" || ! kill -0 $job 2>/dev/null; do sleep 0.02; done
        kill -USR1 $job 2>/dev/null
        wait $job
        echo "task $task: status $?" >>"$here/ended"
        [[ -e $here/again ]] || break
    done
done
echo Submitted batch job 7
"""
SCONTROL = """#!/usr/bin/env bash
here=$(dirname "$0")
echo "$@" | tee -a "$here/asked" >"$here/again"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Path:
    """The folder of the stand-ins, which is on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "scontrol": SCONTROL}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(study, "MAIN", STAND_IN)
    return folder


def write(here: Path, what: str) -> str:
    (here / "paper.yaml").write_text(STUDY.format(here=here, what=what))
    return str(here / "paper.yaml")


def test_each_run_is_a_task_that_begins_again_and_goes_on(cluster, tmp_path, capsys):
    argv = [write(tmp_path, "wait"), "--only", "_s0", "--slurm"]
    assert sweep.main(argv) == 0
    assert "Submitted batch job 7: 2 runs of " in capsys.readouterr().err
    ended = (cluster / "ended").read_text().splitlines()
    assert ended == [f"task {task}: status {status}" for task in (0, 1) for status in (143, 0)]
    assert (cluster / "asked").read_text() == "requeue job0\nrequeue job1\n"
    for name in ("base_s0", "it's_s0"):
        assert (tmp_path / "runs" / "birds" / name / "results.json").is_file()
    assert sweep.main(argv) == 0 and "nothing to submit" in capsys.readouterr().err


def test_a_failure_does_not_begin_again(cluster, tmp_path):
    assert sweep.main([write(tmp_path, "fail"), "--only", "base_s0", "--slurm"]) == 0
    assert (cluster / "ended").read_text() == "task 0: status 2\n"
    assert not (cluster / "asked").exists()


def test_the_script_is_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert sweep.main([write(tmp_path, "x"), "--slurm", "--dry_run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    assert options == [
        "--job-name=paper",
        "--array=0-3%2",
        f"--output={tmp_path}/runs/slurm/paper-%A-%a.log",
        "--requeue",
        "--open-mode=append",
        "--signal=B:USR1@120",
        "--time=24:00:00",
        "--gres=gpu:1",
        "--exclusive",
        "--partition=a",
    ]
    assert not (tmp_path / "runs").exists()


def test_a_percent_sign_in_a_path_is_none_of_sbatchs_patterns(tmp_path, capsys):
    assert (
        sweep.main([write(tmp_path, "x"), "--slurm", "--dry_run", "--", "--save_path", "50%j"]) == 0
    )
    assert "#SBATCH --output=50%%j/slurm/paper-%A-%a.log\n" in capsys.readouterr().out


def test_without_a_cluster_the_script_is_left_for_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert sweep.main([write(tmp_path, "x"), "--slurm"]) == 2
    said = capsys.readouterr().err
    assert "there is no sbatch on this machine; submit " in said and said.count("\n") <= 2
    assert (tmp_path / "runs" / "slurm" / "paper.sbatch").is_file()


def test_a_task_would_not_go_on_with_a_run_of_other_settings(cluster, tmp_path, capsys):
    other = tmp_path / "runs" / "birds" / "base_s0"
    other.mkdir(parents=True)
    (other / "args.yaml").write_text("lr: 5")
    (other / "checkpoint_last.pth.tar").touch()
    assert sweep.main([write(tmp_path, "x"), "--slurm"]) == 2
    assert f"--slurm: {other} is a run of the name base_s0 with other" in capsys.readouterr().err
    assert not (cluster / "ended").exists()
