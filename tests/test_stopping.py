"""A run that is told to stop, anywhere, and goes on to the same end."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from forked import Program

import main
from evaluation import Evaluator
from training import Learner
from utilities import checkpoints
from utilities.errors import UserError
from utilities.run_folder import LAST_CHECKPOINT, RESULTS

ROOT = Path(__file__).resolve().parents[1]
TINY = """
    --dataset birds --arch test_resnet_normalize --not_pretrained --image_size 32 --embed_dim 8
    --loss margin --batch_mining distance --bs 4 --lr 1e-3 --kernels 0 --device cpu --n_epochs 3
    --no_figures --no_train_metrics --evaluation_metrics e_recall@1 --savename r
    --evaluate_every 2 --resume auto --scheduler cosine
"""
VARIANTS = {
    "plain": "",
    "processes": "--kernels 1",
    "stored": "--data_sampler d2_coreset --data_batchmatch_bigbs 12",
    "guided": "--language_distill_w 1 --language_model minilm",
}


def flags(photos: Path, folder: Path, variant: str) -> list[str]:
    places = ["--source_path", str(photos), "--save_path", str(folder)]
    return [*TINY.split(), *VARIANTS[variant].split(), *places]


def checkpoint_of(folder: Path) -> dict:
    return torch.load(folder / "birds" / "r" / LAST_CHECKPOINT, weights_only=True)


def tables(folder: Path) -> dict[str, str]:
    """All records but those of speed and memory, by their names."""
    files = (folder / "birds" / "r" / "CSV_Logs").iterdir()
    costs = ("time", "second", "memory")
    return {
        file.name: file.read_text()
        for file in files
        if not any(word in file.name for word in costs)
    }


@pytest.fixture(scope="session")
def whole(photos, tmp_path_factory) -> Callable[[str], Path]:
    """Variant -> where its uninterrupted run lies."""

    @cache
    def run(variant: str) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        assert main.main(flags(photos, folder, variant)) == 0
        return folder

    return run


def stop_within(monkeypatch, kind: type, method: str, call: int, number: int) -> None:
    """Send a signal in the middle of the n-th call of a method."""
    calls, original = [], getattr(kind, method)

    def signalled(self, *arguments):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    monkeypatch.setattr(kind, method, signalled)


@pytest.mark.parametrize(
    "variant, kind, method, call, number, done",
    [
        ("plain", Learner, "step", 2, signal.SIGTERM, "0 of 3 epochs are done, and 2 steps"),
        ("plain", Learner, "step", 8, signal.SIGUSR1, "1 of 3 epochs are done, and 2 steps"),
        ("plain", Learner, "step", 12, signal.SIGINT, "1 of 3 epochs are done, and 6 steps"),
        ("plain", Evaluator, "run", 1, signal.SIGTERM, "1 of 3 epochs are done, and 6 steps"),
        ("plain", Evaluator, "run", 2, signal.SIGINT, "2 of 3 epochs are done, and 6 steps"),
        ("processes", Learner, "step", 9, signal.SIGTERM, "1 of 3 epochs are done, and 3 steps"),
        ("guided", Learner, "step", 10, signal.SIGTERM, "1 of 3 epochs are done, and 4 steps"),
        ("stored", Learner, "step", 9, signal.SIGTERM, "1 of 3 epochs are done, and 3 steps"),
    ],
)
def test_a_stopped_run_ends_as_if_it_had_not_been(
    whole, photos, tmp_path, monkeypatch, capsys, variant, kind, method, call, number, done
):
    expected = whole(variant)
    argv = flags(photos, tmp_path, variant)
    with monkeypatch.context() as patched:
        stop_within(patched, kind, method, call, number)
        status = main.main(argv)
    said = capsys.readouterr()
    assert status == (130 if number == signal.SIGINT else 143)
    last = tmp_path / "birds" / "r" / LAST_CHECKPOINT
    assert said.err.splitlines()[-1].endswith(f"--resume {last}")
    steps = done.rpartition("and ")[2]
    assert kind is Evaluator or f"{steps} of epoch" in said.out
    assert main.main(argv) == 0
    assert f"Resuming {last}: {done} of the next." in capsys.readouterr().out
    ours, theirs = checkpoint_of(tmp_path), checkpoint_of(expected)
    for part in ("state_dict", "criterion"):
        assert ours[part].keys() == theirs[part].keys()
        assert all(map(torch.equal, ours[part].values(), theirs[part].values()))
    assert ours["within"] is None and tables(tmp_path) == tables(expected)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_killed_evaluation_costs_no_epoch(photos, tmp_path, monkeypatch, capsys):
    argv = flags(photos, tmp_path, "plain")

    def killed(self, network):
        raise ZeroDivisionError  # as far as the files go, like SIGKILL

    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(Evaluator, "run", killed)
        main.main(argv)
    capsys.readouterr()
    assert main.main(argv) == 0
    said = capsys.readouterr().out
    assert "1 of 3 epochs are done, and 6 steps of the next." in said
    assert "Epoch 2" in said and (tmp_path / "birds" / "r" / RESULTS).exists()


def test_checkpoints_within_an_epoch_on_request(photos, tmp_path, monkeypatch):
    steps, save = [], checkpoints.save

    def saved(path, state):
        steps.append(state["within"]["training"]["meter"]["steps"] if state["within"] else None)
        save(path, state)

    monkeypatch.setattr(checkpoints, "save", saved)
    argv = [*flags(photos, tmp_path, "plain"), "--n_epochs", "1", "--checkpoint_every"]
    assert main.main([*argv, "1e-9"]) == 0
    assert steps == [1, 2, 3, 4, 5, 6, 6, None]
    steps.clear()
    assert main.main([*argv, "60", "--savename", "other"]) == 0
    assert steps == [6, None]  # ahead of the evaluation, and at the end of the epoch


def test_fewer_epochs_than_were_begun_are_refused(photos, tmp_path, monkeypatch, capsys):
    argv = flags(photos, tmp_path, "plain")
    with monkeypatch.context() as patched:
        stop_within(patched, Learner, "step", 8, signal.SIGTERM)
        assert main.main(argv) == 143
    capsys.readouterr()
    assert main.main([*argv, "--n_epochs", "1"]) == 2
    message = capsys.readouterr().err
    assert "is within epoch 2: --n_epochs must be at least that" in message


def test_a_damaged_state_within_an_epoch_is_a_sentence(photos, tmp_path, monkeypatch, capsys):
    argv = flags(photos, tmp_path, "plain")
    with monkeypatch.context() as patched:
        stop_within(patched, Learner, "step", 2, signal.SIGTERM)
        assert main.main(argv) == 143
    last = tmp_path / "birds" / "r" / LAST_CHECKPOINT
    for within in ({}, {"training": {"meter": {"steps": 1}}}, {"training": 3}, 4):
        torch.save(checkpoint_of(tmp_path) | {"within": within}, last)
        capsys.readouterr()
        assert main.main(argv) == 2
        error = capsys.readouterr().err
        assert error.startswith("main.py: error: --resume") and error.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_whole_job_is_answered_by_the_run(photos, tmp_path, number):
    """A scheduler signals the loading processes too."""
    argv = [*flags(photos, tmp_path, "processes"), "--n_epochs", "500", "--evaluate_every", "500"]
    program = Program(ROOT / "main.py", argv, tmp_path / "said")
    program.await_file(tmp_path / "birds" / "r" / LAST_CHECKPOINT)
    program.signal(number)
    assert program.wait(120) == 143
    error = program.err.read_text()
    assert error.startswith(f"main.py: stopped by {signal.Signals(number).name}; go on with: ")
    assert error.count("\n") == 1 and not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    "other",
    [["--bs", "8"], ["--seed", "3"], ["--language_distill_w", "1", "--language_model", "minilm"]],
)
def test_a_begun_epoch_of_other_steps_begins_anew(photos, tmp_path, monkeypatch, capsys, other):
    argv = flags(photos, tmp_path, "plain")
    with monkeypatch.context() as patched:
        stop_within(patched, Learner, "step", 8, signal.SIGTERM)
        assert main.main(argv) == 143
    steps, step = [], Learner.step

    def counted(self, batch, seed):
        steps.append(len(batch.labels))
        return step(self, batch, seed)

    monkeypatch.setattr(Learner, "step", counted)
    last = tmp_path / "birds" / "r" / LAST_CHECKPOINT
    capsys.readouterr()
    assert main.main([*argv, *other, "--n_epochs", "2", "--resume", str(last)]) == 0
    assert "begins anew, with what it has learned" in capsys.readouterr().out
    assert sum(steps) == 24
    if other[0] == "--bs":  # what the network keeps of the steps before is on record
        (time,) = json.loads((last.parent / RESULTS).read_text())["earlier_settings"]
        assert (time["epochs"], time["steps"], time["settings"]["bs"]) == (1, 2, 4)


@pytest.mark.parametrize(
    "other", [["--bs", "8"], ["--data_sampler", "d2_coreset", "--data_batchmatch_bigbs", "12"]]
)
def test_an_epoch_whose_steps_are_made_does_not_begin_anew(photos, tmp_path, monkeypatch, other):
    """Else the schedule would have counted it already, and the rates would fall too early."""
    argv = flags(photos, tmp_path, "plain")
    with monkeypatch.context() as patched:
        stop_within(patched, Evaluator, "run", 1, signal.SIGTERM)
        assert main.main(argv) == 143
    assert main.main([*argv, *other]) == 0
    state = checkpoint_of(tmp_path)
    assert state["epoch"] == 2 and state["scheduler"]["last_epoch"] == 3
    rates = state["history"]["Train"]["learning_rate"]["head"]
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.25e-3])


@pytest.mark.parametrize("name, is_full", [("stdout", False), ("stderr", False), ("stdout", True)])
def test_a_stream_that_takes_nothing_ends_no_run(photos, tmp_path, monkeypatch, name, is_full):
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, name, full if is_full else None)
        assert main.main([*flags(photos, tmp_path, "plain"), "--n_epochs", "1"]) == 0
        monkeypatch.undo()
    folder = tmp_path / "birds" / "r"
    assert (folder / RESULTS).exists() and "Epoch 1 of 1" in (folder / "log.txt").read_text()


def test_streams_that_are_closed_end_no_run(photos, tmp_path):
    argv = [*flags(photos, tmp_path, "plain"), "--n_epochs", "1"]
    command = f"{shlex.quote(sys.executable)} main.py {shlex.join(argv)} >&- 2>&- <&-"
    ended = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0 and not ended.stderr
    folder = tmp_path / "birds" / "r"
    assert (folder / RESULTS).exists() and "Epoch 1 of 1" in (folder / "log.txt").read_text()


def test_a_full_disk_when_told_to_stop_leaves_the_checkpoint_before(
    photos, tmp_path, monkeypatch, capsys
):
    argv, save = flags(photos, tmp_path, "plain"), checkpoints.save

    def full(path, state):
        if state["within"] and state["within"]["training"]["meter"]["steps"] < 6:
            raise UserError("No room.")
        save(path, state)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", full)
        stop_within(patched, Learner, "step", 8, signal.SIGTERM)
        assert main.main(argv) == 143
    said = capsys.readouterr()
    assert "No room." in said.out and "stopped by SIGTERM; go on with" in said.err
    assert checkpoint_of(tmp_path)["epoch"] == 0


@pytest.mark.parametrize("where", ["the checkpoint", "a step"])
def test_a_second_ctrl_c_says_what_is_lost(photos, tmp_path, monkeypatch, capsys, where):
    argv, save, step, calls = flags(photos, tmp_path, "plain"), checkpoints.save, Learner.step, []

    def interrupted_save(path, state):
        if where == "the checkpoint" and len(calls) == 8:
            raise KeyboardInterrupt
        save(path, state)

    def interrupted_step(self, batch, seed):
        calls.append(1)
        if where == "a step" and len(calls) == 8:
            raise KeyboardInterrupt
        if where == "the checkpoint" and len(calls) == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, seed)

    monkeypatch.setattr(checkpoints, "save", interrupted_save)
    monkeypatch.setattr(Learner, "step", interrupted_step)
    assert main.main(argv) == 130
    said = capsys.readouterr()
    assert "Nothing of epoch 2 is kept; the steps made or begun (2) are lost." in said.out
    assert "go on with: " in said.err and checkpoint_of(tmp_path)["epoch"] == 0


def test_a_checkpoint_that_is_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(state, path):
        Path(path).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path / "a.pth.tar", {})
    assert not list(tmp_path.iterdir())
