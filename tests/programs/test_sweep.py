"""Many runs from one file: listed, run, interrupted, gone on with, and compared."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import parameters
from programs import sweep
from programs.sweeping import study

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).parent / "sweeping" / "stand_in.py"
TWO = """
settings:
  save_path: {here}/runs
  dataset: birds
  device: cpu
variants:
  base: {{}}
  guided: {{language_distill_w: 5}}
seeds: [0, 10]
"""
REAL = """
settings:
  source_path: PHOTOS
  save_path: {here}/runs
  cache_path: {here}/cache
  dataset: birds
  arch: test_resnet_normalize
  not_pretrained: true
  image_size: 32
  embed_dim: 16
  loss: multisimilarity
  bs: 8
  kernels: 0
  device: cpu
  n_epochs: 1
  no_train_metrics: true
  no_figures: true
  evaluation_metrics: [e_recall@1]
variants:
  slow: --lr 1e-3 --decay 0
  fast: {{lr: 0.01}}
"""


@pytest.fixture
def compared(monkeypatch) -> list[list[str]]:
    """With what the comparison has been called."""
    calls: list[list[str]] = []

    def compare(words: list[str]) -> int:
        calls.append(words)
        return 0

    monkeypatch.setattr(sweep, "compare", compare)
    monkeypatch.setattr(study, "MAIN", STAND_IN)
    return calls


@pytest.fixture
def write(tmp_path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "study.yaml").write_text(text.format(here=tmp_path))
        return str(tmp_path / "study.yaml")

    return write


def await_epoch(*logs: Path) -> None:
    """Until each run has said its first line."""
    deadline = time.monotonic() + 30
    while not all(log.exists() and "Epoch 1" in log.read_text() for log in logs):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def names(folders: list[str]) -> list[str]:
    return [Path(folder).name for folder in folders]


def test_all_run_and_are_compared(write, compared, tmp_path, capsys):
    file = write(TWO)
    assert sweep.main([file, "--jobs", "2"]) == 0
    (words,) = compared
    assert names(words[:-2]) == ["base_s0", "guided_s0", "base_s10", "guided_s10"]
    assert words[-2:] == ["--baseline", "base"]
    said = capsys.readouterr()
    assert said.err.count(": started") == said.err.count(": finished in") == 4
    assert "(4 of 4 finished)" in said.err and "left)" in said.err and not said.out
    log = (tmp_path / "runs" / "birds" / "guided_s10.log").read_text()
    assert "--language_distill_w 5.0 --seed 10 --group guided --completed --resume auto" in log
    settings = json.loads((tmp_path / "runs/birds/guided_s10/results.json").read_text())["settings"]
    assert settings["language_distill_w"] == "5.0" and settings["group"] == "guided"

    assert sweep.main([file]) == 0  # nothing is left to do
    assert compared[0] == compared[1] and "started" not in capsys.readouterr().err


def test_only_those_of_other_settings_run_again(write, compared, tmp_path, capsys):
    assert sweep.main([write(TWO)]) == 0
    results = tmp_path / "runs" / "birds" / "guided_s0" / "results.json"
    results.write_text(results.read_text().replace("5.0", "7"))
    capsys.readouterr()
    sweep.main([str(tmp_path / "study.yaml")])
    said = capsys.readouterr().err
    assert "3 of 4 runs are finished already" in said and said.count(": started") == 1


def test_one_failure_stops_no_other(write, compared, capsys):
    text = TWO.replace("{{}}", "{{project: fail}}")
    assert sweep.main([write(text)]) == 1
    assert names(compared[0]) == ["guided_s0", "guided_s10"]  # there is no baseline to compare with
    said = capsys.readouterr().err
    assert said.count("birds/base_s0: failed: nothing here works.") == 1
    assert "Not finished, of 4 runs:\n  birds/base_s0: nothing here works.\n" in said


@pytest.mark.parametrize(
    "what, why",
    [
        ("die", "killed by SIGKILL, perhaps because memory ran out"),
        ("empty", "without the results"),
    ],
)
def test_a_run_that_leaves_no_results_is_a_failure(write, compared, capsys, what, why):
    status = sweep.main([write(TWO), "--only", "base_s0", "--", "--project", what])
    assert status == 1 and not compared
    said = capsys.readouterr().err
    assert why in said and "base_s0.log" in said and "base_s10" not in said


@pytest.mark.parametrize(
    "number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_waits_for_checkpoints_and_the_same_command_goes_on(
    write, compared, tmp_path, capsys, terminal, number, status
):
    """A second signal, while the checkpoints are written, changes nothing."""
    argv = [write(TWO), "--jobs", "2", "--", "--project", "wait"]
    logs = [tmp_path / "runs" / "birds" / f"{name}_s0.log" for name in ("base", "guided")]

    def interrupt() -> None:
        await_epoch(*logs)
        os.kill(os.getpid(), number)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert sweep.main(argv) == status and not compared
    thread.join()
    said = capsys.readouterr().err
    assert "Waiting for the checkpoints of birds/base_s0 (process " in said
    assert said.endswith("0 of 4 runs are finished. The same command goes on where they are.\n")
    for log in logs:
        assert (log.parent / log.stem / "checkpoint_last.pth.tar").read_text() == "a checkpoint\n"
        assert "main.py: stopped by SIGTERM" in log.read_text()
    only = ["--only", "_s0", *argv[3:]]
    assert sweep.main([argv[0], *only]) == 0
    assert names(compared[0][:2]) == ["base_s0", "guided_s0"]


def test_what_another_sweep_runs_is_left_to_it(write, compared, tmp_path, capsys):
    """Also where that sweep has been killed, and its run goes on alone."""
    argv = [write(TWO), "--only", "base_s0", "--", "--project", "wait"]
    code = "from programs import sweep; from programs.sweeping import study\n"
    code += f"from pathlib import Path; study.MAIN = Path({str(STAND_IN)!r}); sweep.main({argv})"
    first = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    log = tmp_path / "runs" / "birds" / "base_s0.log"
    await_epoch(log)
    first.kill()
    first.wait()
    alone = int(log.read_text().split("process ")[1].split()[0])
    assert sweep.main(argv) == 1 and not compared
    assert "birds/base_s0: failed: it is running already" in capsys.readouterr().err
    os.kill(alone, signal.SIGTERM)


def test_a_dry_run_lists_commands_that_can_be_copied(write, compared, tmp_path, capsys):
    text = TWO.replace(
        "device: cpu", "n_epochs: 3\n  evaluation_metrics: [e_recall@1, nmi]\n  project: a b'c"
    )
    file = write(text)
    assert sweep.main([file, "--only", "guided_s0"]) == 0
    capsys.readouterr()
    assert sweep.main([file, "--dry_run", "--", "--n_epochs", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "#" not in "".join(lines)  # of other epochs than the finished one
    python, program, *words = shlex.split(lines[1])
    settings = parameters.parse(words)
    assert (python, program) == ("python", str(STAND_IN)) and settings.group == "guided"
    assert settings.project == "a b'c" and settings.evaluation_metrics == ["e_recall@1", "nmi"]
    assert settings.n_epochs == 7 and settings.completed and settings.resume == "auto"
    sweep.main([file, "--dry_run"])
    lines = capsys.readouterr().out.splitlines()
    finished = [line.partition("  # finished: ")[2] for line in lines]
    assert finished == ["", f"{tmp_path}/runs/birds/guided_s0", "", ""]


def test_a_run_that_cannot_start_stops_no_other(write, compared, tmp_path, capsys):
    (tmp_path / "runs" / "birds" / "base_s0.log").mkdir(parents=True)
    argv = [write(TWO), "--only", "_s0", "--", "--wandb_key", "secret"]
    assert sweep.main(argv) == 1 and names(compared[0]) == ["guided_s0"]
    assert "birds/base_s0: failed: it cannot be started (" in capsys.readouterr().err
    assert "secret" not in (tmp_path / "runs" / "birds" / "guided_s0.log").read_text()


def test_datasets_of_one_kind_are_compared_each_with_its_own_baseline(write, compared, tmp_path):
    text = TWO.replace("dataset: birds", "dataset: folder").replace("[0, 10]", "[0]")
    text += "datasets: {{mine: {{source_path: A}}, yours: {{source_path: B}}}}\nbaseline: guided\n"
    assert sweep.main([write(text)]) == 0
    assert [names(words[:2]) + words[2:] for words in compared] == [
        [f"{name}_base_s0", f"{name}_guided_s0", "--baseline", f"{name}_guided"]
        for name in ("mine", "yours")
    ]


@pytest.mark.parametrize(
    "settings, split",
    [
        ("use_tv_split: true", "Val"),
        ("no_train_metrics: false, evaluation_metrics: [e_recall@1]", "Train"),
    ],
)
def test_without_test_classes_what_is_evaluated_is_compared(write, compared, settings, split):
    text = TWO.replace("[0, 10]", "[0]") + f"datasets: {{{{birds: {{{{{settings}}}}}}}}}\n"
    assert sweep.main([write(text), "--", "--no_test_metrics"]) == 0
    (words,) = compared
    assert words[2:4] == ["--split", split]


def test_runs_share_the_cores_and_get_a_gpu_each(write, compared, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("utilities.cores.usable", lambda: 8)
    argv = [write(TWO), "--gpus", "3", "GPU-ab"]
    assert sweep.main(argv) == 0
    logs = [log.read_text() for log in (tmp_path / "runs" / "birds").glob("*.log")]
    assert all("OMP 4 GPU" in log for log in logs)
    assert {log.split("GPU ")[1].strip() for log in logs} == {"3", "GPU-ab"}


@pytest.mark.parametrize("gpus", ["0,1", "", "-1", "cuda:0"])
def test_gpus_stand_apart(write, capsys, gpus):
    with pytest.raises(SystemExit):
        sweep.main([write(TWO), f"--gpus={gpus}"])
    assert "is not the number of one GPU; several stand apart" in capsys.readouterr().err


def test_what_is_wrong_is_told_with_its_line_before_anything_starts(write, tmp_path, capsys):
    file = write(TWO.replace("device: cpu", "lrr: 1\n  bs: 7").replace("[0, 10]", "[0, 0]"))
    assert sweep.main([file]) == 2
    lines = capsys.readouterr().err.splitlines()
    start = f"python -m programs.sweep: error: {file}, line "
    assert lines[0].startswith(f"{start}5: there is no setting lrr (did you mean lr?)")
    assert f"{start}6: --bs 7 is not a multiple of --samples_per_class 2." in lines
    assert f"{start}10: seeds holds a seed twice." in lines and len(lines) == 3
    assert not (tmp_path / "runs").exists()


def test_two_real_runs(photos, write, tmp_path, capsys):
    """Compared by the program itself; a switch, a list and flags as they are typed among them."""
    file = write(REAL.replace("PHOTOS", str(photos)))
    assert sweep.main([file, "--jobs", "2"]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "slow" in said.out and "fast" in said.out
    facts = json.loads((tmp_path / "runs" / "birds" / "fast_s0" / "results.json").read_text())
    assert facts["settings"]["lr"] == 0.01 and facts["settings"]["not_pretrained"] is True
    assert sweep.main([file]) == 0 and "started" not in capsys.readouterr().err
