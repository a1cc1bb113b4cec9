"""Which runs are finished, and how others begin."""

import json
from pathlib import Path

import pytest
import yaml

import parameters
from programs.sweeping import standing, study
from programs.sweeping.run_log import RunLog
from programs.sweeping.study import Planned

CHECKPOINT = "checkpoint_last.pth.tar"


@pytest.fixture
def run(tmp_path) -> Planned:
    (tmp_path / "a.yaml").write_text(
        f"settings: {{save_path: {tmp_path}, dataset: birds, n_epochs: 4}}\nvariants: {{v: }}"
    )
    return study.read(tmp_path / "a.yaml").runs[0]


def begin(run: Planned, name: str, **other: object) -> Path:
    """A begun run of the settings of one, but for some."""
    folder = Path(run.settings.save_path) / "birds" / name
    folder.mkdir(parents=True)
    stored = parameters.stored(run.settings) | other
    (folder / "args.yaml").write_text(yaml.safe_dump(stored))
    (folder / CHECKPOINT).touch()
    return folder


@pytest.mark.parametrize(
    "others, goes_on",
    [
        ([], "auto"),
        ([{}], "auto"),
        ([{"kernels": 0, "loss_margin_beta": 1.2}], "auto"),  # what makes no other run
        ([{"n_epochs": 3}], "auto"),
        ([{"n_epochs": 5}], None),
        ([{"lr": 1.0}], None),
        ([{"lr": 1.0}, {}], "auto"),
        ([{}, {"lr": 1.0}], "v_s0"),
    ],
)
def test_a_run_goes_on_with_its_own_settings_only(run, tmp_path, others, goes_on):
    """Runs of its name, the oldest first; auto would take the last."""
    names = ["v_s0", "v_s0_1"]
    folders = [begin(run, name, **other) for name, other in zip(names, others)]
    beginning = standing.beginning(run)
    expected = str(tmp_path / "birds" / goes_on) if goes_on == "v_s0" else goes_on
    assert beginning.resume == expected
    assert beginning.beside == (None if goes_on == "auto" else folders[-1])
    assert standing.finished(run) is None


@pytest.mark.parametrize(
    "results, settings, is_finished",
    [
        ('{"metrics": {}}', {}, True),  # of before results.json had the settings
        ('{"metrics": {}}', {"lr": 1.0}, False),
        ('{"metrics": {"Te', {}, False),
        ('{"settings": {}, "metrics": {}}', {}, False),  # n_epochs had another default
    ],
)
def test_a_run_is_finished_if_its_records_say_so_themselves(run, results, settings, is_finished):
    """Nothing that they leave open is taken to be as asked for."""
    folder = begin(run, "v_s0", **settings)
    (folder / "results.json").write_text(results)
    assert standing.finished(run) == (folder if is_finished else None)


def test_a_setting_that_came_later_had_its_default_in_a_run_before(tmp_path, run):
    folder = begin(run, "v_s0")
    stored = parameters.stored(run.settings)
    del stored["layer_decay"]
    (folder / "results.json").write_text(json.dumps({"settings": stored, "metrics": {}}))
    assert standing.finished(run) == folder
    (tmp_path / "b.yaml").write_text(
        f"settings: {{save_path: {tmp_path}, dataset: birds, n_epochs: 4}}\n"
        "variants: {v: {layer_decay: 0.5}}"
    )
    assert standing.finished(study.read(tmp_path / "b.yaml").runs[0]) is None


def test_settings_that_cannot_be_read_are_not_gone_on_with(run):
    folder = begin(run, "v_s0")
    (folder / "args.yaml").write_text("[")
    assert standing.beginning(run).resume is None


def test_the_log_tells_the_last_line_and_the_last_epoch(tmp_path):
    (tmp_path / "run.log").write_text("Epoch 7 of 9: of an earlier process\n")
    log = RunLog(tmp_path / "run.log")
    log.begin(["python", "a b"])
    assert (log.last_line(), log.epoch()) == ("it said nothing", "")
    log.file.write(b"Epoch 1 of 9: x\nEpoch 2 of 9: y\nbar 1\rbar 2\x1b[0m\nmain.py: no \xff\n\n")
    assert (log.last_line(), log.epoch()) == ("no �", "2/9")
    log.release()
    assert "$ python 'a b'\n" in log.path.read_text(errors="replace")
