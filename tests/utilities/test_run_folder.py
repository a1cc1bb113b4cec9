"""Run folders: names, order, and files that are whole."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from utilities import run_folder
from utilities.errors import UserError


def touched(folder, name: str):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("")
    return folder


def test_each_run_has_a_folder_of_its_own(tmp_path):
    created = [run_folder.create(str(tmp_path), "cub200", "run") for _ in range(12)]
    assert [folder.name for folder in created] == [
        "run",
        *(f"run_{number}" for number in range(1, 12)),
    ]
    assert all(folder.parent == tmp_path / "cub200" and folder.is_dir() for folder in created)


def test_runs_of_a_name_are_in_order(tmp_path):
    for name in (
        "run_10",
        "run",
        "run_2",
        "run_1",
        "runner",
        "run_x",
        "other_1",
        "a_run",
        "run_1_1",
        "xrun",
    ):
        (tmp_path / "cub200" / name).mkdir(parents=True)
    assert [path.name for path in run_folder.runs_named(str(tmp_path), "cub200", "run")] == [
        "run",
        "run_1",
        "run_2",
        "run_10",
    ]
    assert run_folder.runs_named(str(tmp_path), "cars196", "run") == []


def test_a_name_is_no_pattern(tmp_path):
    for name in ("a.b", "axb", "a.b_1"):
        (tmp_path / "cub200" / name).mkdir(parents=True)
    assert [path.name for path in run_folder.runs_named(str(tmp_path), "cub200", "a.b")] == [
        "a.b",
        "a.b_1",
    ]


def test_latest_checkpoint(tmp_path):
    for name in ("run", "run_2", "run_10"):
        touched(tmp_path / "cub200" / name, run_folder.LAST_CHECKPOINT)
    (tmp_path / "cub200" / "run_11").mkdir()
    assert (
        run_folder.latest_checkpoint(str(tmp_path), "cub200", "run")
        == tmp_path / "cub200" / "run_10" / run_folder.LAST_CHECKPOINT
    )
    assert run_folder.latest_checkpoint(str(tmp_path), "cub200", "other") is None


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": ' * 100_000, "\0", '"\\ud800"', "", "3"])
def test_other_runs_whose_files_are_damaged_are_passed_over(tmp_path, content):
    folder = tmp_path / "cub200" / "run_1"
    touched(folder, run_folder.RESULTS)
    for name in ("args.yaml", run_folder.RESULTS):
        (folder / name).write_text(content)
    assert run_folder.runs_named(str(tmp_path), "cub200", "run") == [folder]
    assert run_folder.finished_runs(str(tmp_path), "cub200", "run") == []
    assert run_folder.results(folder) == {}


def test_finished_run(tmp_path):
    assert run_folder.finished_run(str(tmp_path), "cub200", "run") is None
    for name in ("run_1", "run_3"):
        touched(tmp_path / "cub200" / name, run_folder.RESULTS)
        (tmp_path / "cub200" / name / run_folder.RESULTS).write_text('{"metrics": {}}')
    (tmp_path / "cub200" / "run_4").mkdir()
    assert run_folder.finished_run(str(tmp_path), "cub200", "run").name == "run_3"


@pytest.mark.parametrize("blocked", ["", "cub200", "cub200/run"])
def test_a_file_in_the_way(tmp_path, blocked):
    root = tmp_path / "results"
    (root / blocked).parent.mkdir(parents=True, exist_ok=True)
    (root / blocked).write_text("")
    with pytest.raises(UserError, match="--save_path"):
        run_folder.create(str(root), "cub200", "run")


def test_write_atomically(tmp_path):
    run_folder.write_atomically(tmp_path / "a.txt", "old")
    run_folder.write_atomically(tmp_path / "a.txt", "new é")
    assert (tmp_path / "a.txt").read_text() == "new é" and [
        path.name for path in tmp_path.iterdir()
    ] == ["a.txt"]


def test_an_interrupted_writing_leaves_the_old_file(tmp_path, monkeypatch):
    run_folder.write_atomically(tmp_path / "a.txt", "old")
    monkeypatch.setattr("os.replace", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run_folder.write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"


def test_settings_are_readable_and_loadable(tmp_path):
    settings = {"lr": 1e-5, "dataset": "cub200", "tau": [1000], "source_path": None, "frozen": True}
    run_folder.write_settings(tmp_path, settings)
    assert yaml.safe_load((tmp_path / "args.yaml").read_text()) == settings
    assert (tmp_path / "Parameter_Info.txt").read_text().splitlines()[0].split() == ["lr", "1e-05"]


def test_how_to_resume(tmp_path):
    folder = tmp_path / "with space"
    folder.mkdir()
    assert "nothing to resume" in run_folder.how_to_resume(folder)
    touched(folder, run_folder.LAST_CHECKPOINT)
    words = shlex.split(run_folder.how_to_resume(folder))
    assert str(folder / "args.yaml") in words and str(folder / run_folder.LAST_CHECKPOINT) in words


def recorded(
    folder, losses: list[float], last_epoch: int | None = None, *, is_older: bool = False
) -> Path:
    """A run folder with records, finished if it has a last epoch; returns its last checkpoint.

    Older ones have no column of epochs and count from 0.
    """
    (folder / "CSV_Logs").mkdir(parents=True)
    (folder / "args.yaml").write_text("{}")
    rows = [f"{number},{loss}" for number, loss in enumerate(losses, 1)]
    table = "\n".join(map(str, ["loss", *losses] if is_older else ["epoch,loss", *rows]))
    (folder / "CSV_Logs" / "Data_Train_loss.csv").write_text(table + "\n")
    if last_epoch is not None:
        metrics = {"Train": {"loss": {"last_epoch": last_epoch - is_older}}}
        results = {"metrics": metrics} | ({} if is_older else {"epochs": last_epoch})
        (folder / run_folder.RESULTS).write_text(json.dumps(results))
    return folder / run_folder.LAST_CHECKPOINT


@pytest.mark.parametrize("is_older", [False, True])
@pytest.mark.parametrize(
    "losses, last_epoch, name, is_home",
    [
        ([3.0, 2.0], None, "last", True),
        ([3.0, 2.0], 2, "last", True),
        ([3.0, 2.0, 1.0], None, "last", True),  # killed before the third checkpoint
        ([3.0, 2.0, 1.0], 2, "last", True),  # so was a finished run that goes on
        ([3.0, 2.0, 1.0], 3, "last", False),  # it would shorten results
        ([3.0, 2.0, 1.0, 0.5], None, "last", False),
        ([3.0, 2.0, 1.0], None, "best", False),
        ([3.0, 2.0], None, "best", True),
        ([3.0, 2.5], None, "last", False),  # another run's
        ([3.0], None, "last", False),
    ],
)
def test_a_checkpoint_goes_on_where_the_records_end_with_it(
    tmp_path, losses, last_epoch, name, is_home, is_older
):
    last = recorded(tmp_path / "run", losses, last_epoch, is_older=is_older)
    checkpoint = last if name == "last" else last.with_name("checkpoint_Test_best.pth.tar")
    home = run_folder.home(checkpoint, [3.0, 2.0])
    assert home == (tmp_path / "run" if is_home else None)


def test_a_checkpoint_elsewhere_has_no_run_folder(tmp_path):
    assert run_folder.home(tmp_path / run_folder.LAST_CHECKPOINT, [3.0]) is None
    recorded(tmp_path, [3.0])
    (tmp_path / "args.yaml").unlink()
    assert run_folder.home(tmp_path / run_folder.LAST_CHECKPOINT, [3.0]) is None


def test_numbered_runs_of_another_name_that_group_and_seed_gave(tmp_path):
    """`g_s1_1` is the second run of `g_s1`, or the first of group g_s1, seed 1."""
    settings = {"savename": "group_plus_seed", "group": "g", "seed": 1}
    for name, seed in (("g_s1", 1), ("g_s1_1", 1), ("g_s1_2", 2)):
        (tmp_path / "cub200" / name).mkdir(parents=True)
        run_folder.write_settings(tmp_path / "cub200" / name, settings | {"seed": seed})
    runs = run_folder.runs_named(str(tmp_path), "cub200", "g_s1")
    assert [path.name for path in runs] == ["g_s1", "g_s1_1"]


def test_a_killed_loading_process_says_how_to_go_on(tmp_path):
    killed = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    (tmp_path / run_folder.LAST_CHECKPOINT).touch()
    with pytest.raises(UserError, match="by SIGKILL.*--resume"), run_folder.resumable(tmp_path):
        raise killed
    with pytest.raises(RuntimeError, match="another"), run_folder.resumable(tmp_path):
        raise RuntimeError("another")


def test_damaged_records_are_as_none(tmp_path):
    folder = run_folder.create(str(tmp_path), "birds", "run_1")
    deep = "[" * 5000
    for settings in (deep, "a: b: c", "[1]", "savename: 1", "2026-99-99"):
        (folder / "args.yaml").write_text(settings)
        assert run_folder.runs_named(str(tmp_path), "birds", "run") in ([folder], [])
    for results in (deep, "[]", "{", '{"metrics": {"Train": {"loss": {"last_epoch": Infinity}}}}'):
        (folder / "results.json").write_text(results)
        assert isinstance(run_folder.results(folder), dict)
        assert run_folder._finished_epochs(folder) == 0
    (folder / "CSV_Logs").mkdir()
    (folder / "CSV_Logs" / "Data_Train_loss.csv").write_text("loss\n" + "1" * 200_000 + "\n")
    assert run_folder.home(folder / run_folder.LAST_CHECKPOINT, [1.0]) is None
