"""Run folders read as data, whatever state they are in."""

import json
import math
import re

import pytest
from made_runs import MAP, R1, make_run, unfinished

from programs.results import runs
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
