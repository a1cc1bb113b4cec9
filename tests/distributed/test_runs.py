"""Runs of several processes: their records, how they stop, fail and go on, as those of one."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import runs
import torch
from group import Group, free_port

import main
from utilities.run_folder import LAST_CHECKPOINT, RESULTS

ROOT = Path(__file__).resolve().parents[2]
SAMPLER = "--data_sampler d2_coreset --data_batchmatch_bigbs 12"  # asks for all embeddings
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]


def flags(photos: Path, folder: Path, more: str = "") -> list[str]:
    """Texts are encoded once for all tests."""
    places = ["--source_path", photos, "--save_path", folder, "--cache_path", photos / "cache"]
    return [*runs.TINY.split(), *more.split(), *map(str, places)]


def tables(folder: Path) -> dict[str, list[float]]:
    """All records but those of speed and memory, by their names."""
    found = {}
    for file in (folder / "birds" / "r" / "CSV_Logs").iterdir():
        if not any(word in file.name for word in ("time", "second", "memory")):
            rows = list(csv.reader(file.open()))[1:]
            found[file.name] = [float(cell or "nan") for row in rows for cell in row]
    return found


def checkpoint_of(folder: Path) -> dict:
    return torch.load(folder / "birds" / "r" / LAST_CHECKPOINT, weights_only=True)


def assert_alike(folder: Path, expected: Path) -> None:
    """Records to what the order of sums in single precision allows."""
    ours, theirs = tables(folder), tables(expected)
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        assert ours[name] == pytest.approx(values, rel=1e-4, abs=1e-6, nan_ok=True), name
    weights = zip(
        checkpoint_of(folder)["state_dict"].values(), checkpoint_of(expected)["state_dict"].values()
    )
    apart = 0
    for our_weights, their_weights in weights:
        torch.testing.assert_close(our_weights, their_weights, rtol=1e-3, atol=3e-4)
        apart += int((~our_weights.isclose(their_weights, rtol=1e-3, atol=1e-4)).sum())
    assert apart <= 3  # of 370,000, of which Adam makes steps of gradients that are rounding


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory) -> Path:
    """Where the run of one process lies."""
    folder = tmp_path_factory.mktemp("whole")
    assert main.main(flags(photos, folder)) == 0
    return folder


def test_a_run_of_two_processes_is_that_of_one(whole, photos, tmp_path):
    argv = [*flags(photos, tmp_path), "--cache_path", str(tmp_path / "cache")]
    group = Group(2, tmp_path / "said", runs.run, argv)
    assert group.statuses() == [0, 0], group.errors()
    assert_alike(tmp_path, whole)
    assert len([*(tmp_path / "cache").glob("text-*.pt")]) == 1
    assert group.said(1) == "" and group.errors() == []
    assert group.said().count("Epoch 3 of 3") == 1
    folder = tmp_path / "birds" / "r"
    results = json.loads((folder / RESULTS).read_text())
    assert results["processes"] == 2
    assert results["command"].startswith("torchrun --nproc_per_node 2 main.py --dataset birds")
    assert (folder / "Language").is_dir()
    assert [path.name for path in folder.parent.iterdir()] == ["r"]


@pytest.mark.parametrize("rank, number", [(0, signal.SIGINT), (1, signal.SIGTERM)])
def test_a_signal_to_one_process_stops_all_at_one_step(whole, photos, tmp_path, rank, number):
    argv = flags(photos, tmp_path)
    group = Group(3, tmp_path / "said", runs.signalled, argv, rank, 4, number)
    assert group.statuses() == [130 if number == signal.SIGINT else 143] * 3, group.errors()
    (sentence,) = group.errors()
    assert "go on with: torchrun --nproc_per_node 3 main.py --config" in sentence
    assert "steps of epoch 2 are kept in the last checkpoint" in group.said()
    within = checkpoint_of(tmp_path)["within"]
    assert within["training"]["meter"]["steps"] in (2, 3)  # of the step after that, or the last
    more = Group(4 if rank else 1, tmp_path / "more", runs.run, argv)
    assert not any(more.statuses()), more.errors()
    assert_alike(tmp_path, whole)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_stops_alone_waits_for_none_that_waits_for_it(photos, tmp_path, rank):
    group = Group(
        2, tmp_path / "said", runs.interrupted_at_the_start, flags(photos, tmp_path), rank
    )
    statuses = group.statuses(120)
    assert statuses[rank] == 130 and statuses[1 - rank] == 2, group.errors()
    (sentence,) = group.errors()
    assert "go on with: torchrun --nproc_per_node 2 main.py --config" in sentence


def test_a_second_ctrl_c_of_the_first_process_leaves_nobody_waiting(photos, tmp_path):
    group = Group(2, tmp_path / "said", runs.interrupted_twice, flags(photos, tmp_path))
    assert group.statuses(120) == [130, 130], group.errors()
    assert "Nothing of epoch 1 is kept" in group.said()


def test_a_stored_network_is_evaluated_by_two(whole, photos, tmp_path):
    argv = ["--evaluate_only", str(whole / "birds" / "r"), *flags(photos, tmp_path)]
    argv.remove("--resume")
    argv.remove("auto")
    group = Group(2, tmp_path / "said", runs.run, argv)
    assert group.statuses() == [0, 0], group.errors()
    assert group.said(1) == "" and group.errors() == []
    (folder,) = (tmp_path / "birds").iterdir()
    ours, theirs = (
        json.loads((place / RESULTS).read_text())["metrics"]["Test"]
        for place in (folder, whole / "birds" / "r")
    )
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        assert ours[name]["last"] == pytest.approx(values["last"], abs=1e-6), name


def test_a_sampler_that_asks_for_embeddings_averaged_weights_and_remembered_rows(photos, tmp_path):
    more = f"{SAMPLER} --n_epochs 2 --language_distill_w 0 --ema 0.5 --xbm_size 12"
    assert main.main(flags(photos, tmp_path / "one", more)) == 0
    group = Group(2, tmp_path / "said", runs.run, flags(photos, tmp_path / "two", more))
    assert group.statuses() == [0, 0], group.errors()
    assert_alike(tmp_path / "two", tmp_path / "one")


def test_a_killed_process_ends_the_others(photos, tmp_path):
    argv = flags(photos, tmp_path)
    group = Group(3, tmp_path / "said", runs.killed, argv, 1, 5)
    group.members[1].join(400)
    killed = time.monotonic()
    assert group.statuses() == [2, -signal.SIGKILL, 2]
    assert time.monotonic() - killed < 20
    (sentence,) = group.errors()
    assert "another process of this run has ended" in sentence and "go on with: " in sentence
    assert sentence in (tmp_path / "birds" / "r" / "log.txt").read_text()


def test_what_is_wrong_for_one_process_is_said_once(photos, tmp_path):
    """A file that ends as it should, and is broken: it is read by one of them."""
    shutil.copytree(photos, tmp_path / "data")
    broken = tmp_path / "data" / "birds" / "images" / "Auklet" / "Auklet_3.png"
    content = bytearray(broken.read_bytes())
    content[200:400] = bytes(200)
    broken.write_bytes(content)
    group = Group(2, tmp_path / "said", runs.run, flags(tmp_path / "data", tmp_path))
    assert 2 in group.statuses()
    (sentence,) = group.errors()
    assert str(broken) in sentence and "cannot be read" in sentence


@pytest.mark.parametrize("split, row", [("train", 0), ("test", -1)])
def test_machines_with_other_images_are_told(photos, tmp_path, split, row):
    shutil.copytree(photos, tmp_path / "data")
    image = sorted((tmp_path / "data" / "birds" / "images").rglob("*.png"))[row]
    image.with_name(f"a_{image.name}").write_bytes(image.read_bytes())
    places = [str(photos), str(tmp_path / "data")]
    group = Group(
        2, tmp_path / "said", runs.with_own_images, flags(photos, tmp_path / "runs"), places
    )
    assert group.statuses() == [2, 2]
    (sentence,) = group.errors()
    assert f"process 1 has not the same {split} images as the first" in sentence


@pytest.mark.parametrize(
    "more, problem", [("--bs 2", "--bs 2: a batch is shared by 3"), ("--lr x", "--lr")]
)
def test_what_is_wrong_for_all_is_said_once(photos, tmp_path, more, problem):
    group = Group(3, tmp_path / "said", runs.run, flags(photos, tmp_path, more))
    assert group.statuses() == [2, 2, 2]
    (sentence,) = group.errors()
    assert problem in sentence and not (tmp_path / "birds").exists()


def test_a_program_of_one_process_says_so(tmp_path):
    group = Group(2, tmp_path / "said", runs.program, [str(tmp_path)])
    assert group.statuses() == [2, 2]
    (sentence,) = group.errors()
    assert "start it without torchrun" in sentence


def test_torchrun_is_stopped_and_goes_on_in_one_process(whole, photos, tmp_path):
    argv = flags(photos, tmp_path)
    command = [*TORCHRUN, "--master_port", str(free_port()), "main.py", *argv]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}, **pipes
    ) as torchrun:
        for line in torchrun.stdout:
            if line.startswith("Epoch 1 of 3"):
                torchrun.send_signal(signal.SIGTERM)
                break
        said, errors = torchrun.communicate(timeout=400)
    (sentence,) = [line for line in errors.splitlines() if line.startswith("main.py: ")]
    assert sentence.startswith("main.py: stopped by SIGTERM; go on with: torchrun"), errors
    assert "exitcode" not in said
    assert main.main(argv) == 0
    assert_alike(tmp_path, whole)
