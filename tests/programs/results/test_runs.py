"""Run folders read as data, whatever state they are in."""

import errno
import io
import json
import math
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made_runs import MAP, R1, make_run, unfinished

from programs.results import runs
from programs.results.comparison import compare
from utilities.errors import UserError


def test_a_real_run_is_read(run_folder):
    (run,) = runs.find([run_folder])
    assert run.is_finished and not run.is_evaluation and not run.problem
    assert (run.dataset, run.group, run.seed) == ("birds", "run", 0)
    values = run.values()[R1]
    assert 0 < values.last <= values.best and values.last_epoch == 2
    curve = run.curve("Test", R1)
    assert curve.epochs == [1, 2] and max(curve.values) == values.best
    assert curve == run.curves["Test"][R1]
    assert run.curve("Train", "loss").epochs == [1, 2] and run.splits == ["Train", "Test"]
    assert run.counts["Test"]["classes"] == 3 and run.progress() == "finished"


def test_runs_are_found_once_at_any_depth_and_in_order(tmp_path):
    for seed in (10, 1, 2):
        make_run(tmp_path / "deep" / "here", "a", seed)
    found = runs.find([tmp_path / "deep" / "here" / "shapes" / "a_s2", tmp_path, tmp_path])
    assert [run.seed for run in found] == [2, 1, 10]


def test_links_are_followed_and_a_circle_ends(tmp_path):
    here, away = tmp_path / "here", tmp_path / "away"
    make_run(here, "a", 0)
    linked, below = make_run(away / "x", "a", 1), make_run(away / "y", "a", 2)
    (here / "shapes" / "a_s1").symlink_to(linked)
    (here / "more").symlink_to(away / "y")
    (away / "y" / "back").symlink_to(here)
    (here / "again").symlink_to(".")
    found = runs.find([here])
    assert sorted(run.seed or 0 for run in found) == [0, 1, 2]
    assert {linked, below} < {run.folder for run in found}


def test_settings_that_were_copied_above_runs_hide_none(tmp_path):
    whole, begun = make_run(tmp_path, "a", 0), unfinished(make_run(tmp_path, "a", 1))
    for place in (tmp_path, tmp_path / "shapes"):
        (place / "args.yaml").write_bytes((whole / "args.yaml").read_bytes())
    alone = tmp_path / "shapes" / "b_s2"  # all that was brought of it
    alone.mkdir()
    (alone / "args.yaml").write_text("seed: 2")
    assert [run.folder for run in runs.find([tmp_path])] == [whole, begun, alone]


@pytest.mark.parametrize("name", ["log.txt", "results.json", "checkpoint_last.pth.tar"])
def test_nothing_below_a_run_is_one(tmp_path, name):
    make_run(tmp_path, "below", 0)
    (tmp_path / "args.yaml").write_text("seed: 2")
    (tmp_path / name).touch()
    assert [run.folder for run in runs.find([tmp_path])] == [tmp_path]


def closed(path: Path) -> Callable[..., Any]:
    """A function of the system that takes paths, for which one is closed, whoever tests."""

    def denied(asked, *arguments, original, **named):
        if Path(asked) == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(asked))
        return original(asked, *arguments, **named)

    return denied


@pytest.mark.parametrize("name", ["", "shapes", "shapes/a_s1"])
def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path, monkeypatch, name):
    make_run(tmp_path / "b", "b", 0)
    make_run(tmp_path, "a", 1)
    monkeypatch.setattr(os, "scandir", partial(closed(tmp_path / name), original=os.scandir))
    closed_one = next(run for run in runs.find([tmp_path]) if run.folder == tmp_path / name)
    assert closed_one.problem == "the folder cannot be read (Permission denied)"
    if name:
        (sentence,) = compare(runs.find([tmp_path])).left_out
        assert sentence == f"{tmp_path / name}: the folder cannot be read (Permission denied)."


def test_results_that_cannot_be_read_are_told_as_such(tmp_path, monkeypatch):
    file = make_run(tmp_path, "a", 1) / "results.json"
    monkeypatch.setattr(io, "open", partial(closed(file), original=io.open))
    run = runs.read(file.parent)
    assert run.problem == "results.json cannot be read (Permission denied)" and run.seed == 1
    (file.parent / "args.yaml").unlink()
    with pytest.raises(UserError, match="results.json cannot be read .*, and there is no args"):
        runs.read(file.parent)


def test_a_folder_whose_files_cannot_be_looked_at_is_told(tmp_path, monkeypatch):
    """It is listed, and nothing more."""
    folder = make_run(tmp_path, "a", 1)

    def denied(asked, *ignored, original, **named):
        if Path(asked).parent == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(asked))
        return original(asked, *ignored, **named)

    monkeypatch.setattr(io, "open", partial(denied, original=io.open))
    monkeypatch.setattr(os, "stat", partial(denied, original=os.stat))
    (run,) = runs.find([tmp_path])
    assert run.problem == f"The settings {folder / 'args.yaml'} of a run cannot be read."


@pytest.mark.parametrize(
    "place, message",
    [
        ("none", "there is no such folder."),
        ("runz", "did you mean runs?"),
        ("empty", "holds no run"),
        ("file", "it is a file, not a folder."),
    ],
)
def test_a_wrong_place_is_a_sentence(tmp_path, place, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    make_run(tmp_path / "runs", "a", 0)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        runs.find([tmp_path / "runs", tmp_path / place])
    assert place in str(caught.value)


@pytest.mark.parametrize(
    "group, seed, savename, expected",
    [
        ("plain", 1, "group_plus_seed", "plain"),
        ("mine_s1", 1, "group_plus_seed", "mine_s1"),
        ("mine_s1", 10, "group_plus_seed", "mine_s1"),
        ("other", 1, "own", "own"),
        ("other", 1, "own_s1", "own"),
        ("other", 10, "own_s1", "own_s1"),
        ("other", 1, "own_s10", "own_s10"),
    ],
)
def test_the_group_is_what_seeds_have_in_common(tmp_path, group, seed, savename, expected):
    run = runs.read(make_run(tmp_path, group, seed, savename=savename))
    assert run.group == expected and run.seed == seed


def test_an_evaluation_has_a_group_of_its_own(tmp_path):
    run = runs.read(make_run(tmp_path, "a", 1, facts={"checkpoint": "a_s1"}))
    assert run.is_evaluation and run.group == "a_evaluation"


@pytest.mark.parametrize(
    "log, ending",
    [
        ("", ""),
        ("2026-11-26 08:15:04  Epoch 1 of 3: loss 1.0\n    0.1 GB\n", ""),
        (
            "2026-11-26 08:15:04  Epoch 1: 3 of 17\n"
            "2026-11-26 08:26:53  main.py: stopped by SIGTERM; go on with: python main.py --x\n",
            "; stopped by SIGTERM",
        ),
        (
            "2026-11-26 08:15:04  main.py: interrupted\n\n2026-11-26 09:15:04  Resumed from x\n",
            "",
        ),
        (
            "2026-11-26 08:15:04  Epoch 1\n2026-11-26 08:15:05  Traceback (most recent call last):"
            '\n  File "x.py", line 1, in y\nValueError: of something\n',
            "; ValueError: of something",
        ),
    ],
)
def test_a_run_that_has_not_ended_says_how_far_it_is(tmp_path, log, ending):
    folder = unfinished(make_run(tmp_path, "a", 1, {R1: [0.1, 0.2]}, n_epochs=3), log)
    run = runs.read(folder)
    assert not run.is_finished and run.group == "a" and run.values() == {}
    assert run.progress() == f"not finished, 2 of 3 epochs done{ending}"
    assert run.curve("Test", R1) == ([1, 2], [0.1, 0.2])
    assert run.curve("Test", MAP) == ([], []) and run.finished_at == -math.inf


def test_a_damaged_run_has_a_problem_and_others_are_read(tmp_path):
    whole, cut, no_settings = (make_run(tmp_path, "a", seed) for seed in (0, 1, 2))
    (cut / "results.json").write_text('{"metrics": {"Te')
    unfinished(no_settings)
    (no_settings / "args.yaml").write_text("seed: [1")
    by_folder = {run.folder: run for run in runs.find([tmp_path])}
    assert not by_folder[whole].problem and by_folder[whole].is_finished
    assert by_folder[cut].problem == "results.json holds no results" and by_folder[cut].seed == 1
    assert "args.yaml of a run cannot be read" in by_folder[no_settings].problem
    assert not by_folder[cut].is_finished and not by_folder[no_settings].is_finished
    with pytest.raises(UserError, match="cannot be read"):
        runs.read(no_settings)


def test_settings_of_an_unfinished_run_are_those_of_a_finished_one(tmp_path):
    """YAML writes a small number otherwise than JSON, and a name of digits may be edited in."""
    folder = make_run(tmp_path, "a", 0)
    unfinished(folder)
    text = "seed: 0\nlr: 1.0e-05\nminer_parametric_support_lim: [1.0e-05, 1]\ngroup: 1.50\nold: 1"
    (folder / "args.yaml").write_text(text)
    settings = runs.read(folder).settings
    lr, limits = 1e-05, [1e-05, 1.0]
    assert str(settings) == str(
        {"seed": 0, "lr": lr, "miner_parametric_support_lim": limits, "group": "1.50", "old": 1}
    )


@pytest.mark.parametrize(
    "three",
    [
        None,
        {},
        "best",
        {"best": 0.5},
        {"best": math.nan, "best_epoch": 1, "last": 0.5, "last_epoch": 1},
        {"best": "0.5", "best_epoch": 1, "last": 0.5, "last_epoch": 1},
        {"best": 0.5, "best_epoch": 1, "last": 0.5, "last_epoch": 1, "other": 3},
    ],
)
def test_what_is_no_value_is_left_out(tmp_path, three):
    good = {"best": 0.5, "best_epoch": 1, "last": 0.5, "last_epoch": 1}
    facts = {"metrics": {"Test": {R1: three, MAP: good}, "Val": []}}
    run = runs.read(make_run(tmp_path, "a", 1, facts=facts))
    assert list(run.values()) == [MAP] and run.values("Val") == {} and run.splits == ["Test"]


def test_epochs_of_records_of_before_are_counted_from_one(tmp_path):
    folder = make_run(tmp_path, "a", 1, {R1: [0.1, 0.3, 0.2]}, best_val=2)
    facts = json.loads((folder / "results.json").read_text())
    for three in facts["metrics"]["Test"].values():
        three |= {name: three[name] - 1 for name in three if name.endswith("epoch")}
    del facts["epochs"]
    (folder / "results.json").write_text(json.dumps(facts))
    assert runs.read(folder).values()[R1] == (0.3, 2, 0.2, 3, 0.3, 2)
    (folder / "CSV_Logs" / "Data_Test_embeds_e_recall.csv").write_text("e_recall@1\n0.1\n0.3\n")
    assert runs.read(folder).curve("Test", R1) == ([1, 2], [0.1, 0.3])


def test_a_table_that_is_none_is_a_sentence(tmp_path):
    folder = make_run(tmp_path, "a", 1)
    (folder / "CSV_Logs" / "Data_Test_embeds_e_recall.csv").write_text("epoch,e_recall@1\n1,x\n")
    with pytest.raises(UserError, match="Data_Test_embeds_e_recall.csv of a run cannot be read"):
        runs.read(folder).curve("Test", R1)


def test_the_time_of_the_end_knows_its_zone(tmp_path):
    times = ["2026-11-26T10:00:00+02:00", "2026-11-26T09:00:00+00:00", "x"]
    found = [
        runs.read(make_run(tmp_path, "a", seed, facts={"finished": time}))
        for seed, time in enumerate(times)
    ]
    assert found[1].finished_at - found[0].finished_at == 3600
    assert found[2].finished_at == (found[2].folder / "results.json").stat().st_mtime


def test_a_place_is_told_from_here(tmp_path, monkeypatch):
    run = runs.read(make_run(tmp_path / "runs", "a", 1))
    assert run.place == str(run.folder)
    monkeypatch.chdir(tmp_path)
    assert run.place == "runs/shapes/a_s1"
    monkeypatch.chdir(run.folder)
    assert run.place == str(run.folder)
