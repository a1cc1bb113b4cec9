"""The records of a run."""

import csv
import json

import pytest

from utilities import logger, report
from utilities.errors import UserError
from utilities.logger import RunLog
from utilities.online import OnlineRun


def values(loss: float, recall: float, **more: float) -> logger.Values:
    return {
        "Train": {"loss": {"loss": loss}, "time": {"time": 1.0}},
        "Test": {"embeds_e_recall": {"e_recall@1": recall, **more}},
    }


def table(folder, name: str) -> list[list[str]]:
    with open(folder / "CSV_Logs" / f"Data_{name}.csv", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def log(tmp_path, monkeypatch) -> RunLog:
    monkeypatch.setattr(logger, "PLOT_INTERVAL", float("inf"))
    return RunLog(tmp_path)


def test_a_table_per_family_with_a_row_per_epoch(log):
    log.log(0, values(2.0, 0.25, **{"e_recall@2": 0.5}))
    log.log(1, values(1.5, 0.3, **{"e_recall@2": 0.6}))
    assert table(log.folder, "Test_embeds_e_recall") == [
        ["epoch", "e_recall@1", "e_recall@2"],
        ["1", "0.25", "0.5"],
        ["2", "0.3", "0.6"],
    ]
    assert table(log.folder, "Train_loss") == [["epoch", "loss"], ["1", "2.0"], ["2", "1.5"]]
    assert not list(log.folder.rglob("*.tmp"))


def test_a_resumed_run_writes_the_same_files(log, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    uninterrupted = RunLog(whole)
    for epoch in range(4):
        uninterrupted.log(epoch, values(1 / (epoch + 1), epoch / 10))
    for epoch in range(2):
        log.log(epoch, values(1 / (epoch + 1), epoch / 10))
    resumed = RunLog(log.folder, json.loads(json.dumps(log.history)))
    for epoch in range(2, 4):
        resumed.log(epoch, values(1 / (epoch + 1), epoch / 10))
    assert resumed.history == uninterrupted.history and resumed.summary() == uninterrupted.summary()
    for file in (whole / "CSV_Logs").iterdir():
        assert (log.folder / "CSV_Logs" / file.name).read_text() == file.read_text()


def test_a_metric_that_joins_later_keeps_the_rows_of_the_others(log):
    log.log(0, values(2.0, 0.25))
    log.log(1, values(1.5, 0.3, **{"e_recall@2": 0.6}))
    assert table(log.folder, "Test_embeds_e_recall") == [
        ["epoch", "e_recall@1", "e_recall@2"],
        ["1", "0.25", ""],
        ["2", "0.3", "0.6"],
    ]
    assert log.summary()["Test"]["embeds_e_recall: e_recall@2"]["last_epoch"] == 2


def test_a_metric_that_is_dropped_keeps_its_epochs(log):
    log.log(0, values(2.0, 0.25, **{"e_recall@2": 0.6}))
    log.log(1, values(1.5, 0.3))
    assert table(log.folder, "Test_embeds_e_recall") == [
        ["epoch", "e_recall@1", "e_recall@2"],
        ["1", "0.25", "0.6"],
        ["2", "0.3", ""],
    ]
    assert log.summary()["Test"]["embeds_e_recall: e_recall@2"]["last_epoch"] == 1


def test_epochs_without_evaluation_have_no_row_in_its_table(log):
    trained = {"Train": {"loss": {"loss": 1.0}}}
    for epoch in range(4):
        log.log(epoch, values(1.0, epoch / 10) if epoch % 2 else trained)
    assert table(log.folder, "Test_embeds_e_recall") == [
        ["epoch", "e_recall@1"],
        ["2", "0.1"],
        ["4", "0.3"],
    ]
    assert len(table(log.folder, "Train_loss")) == 5
    assert {path.stem for path in (log.folder / "CSV_Logs").iterdir()} == {
        "Data_Train_loss",
        "Data_Train_time",
        "Data_Test_embeds_e_recall",
    }


def test_summary_names_best_and_last(log):
    for epoch, (loss, recall) in enumerate([(2.0, 0.3), (1.0, 0.5), (1.5, 0.5), (1.2, 0.4)]):
        log.log(epoch, values(loss, recall))
    assert log.summary() == {
        "Train": {"loss": {"best": 1.0, "best_epoch": 2, "last": 1.2, "last_epoch": 4}},
        "Test": {
            "embeds_e_recall: e_recall@1": {
                "best": 0.5,
                "best_epoch": 2,
                "last": 0.4,
                "last_epoch": 4,
            }
        },
    }


def test_improved(log):
    found = []
    for epoch, recall in enumerate([0.3, 0.2, 0.3, 0.4]):
        log.log(epoch, values(1.0, recall))
        found.append(log.improved("Test", "embeds_e_recall", "e_recall@1"))
    assert found == [True, False, False, True]


def test_finish_writes_results_and_plots(log):
    log.log(0, values(2.0, 0.25))
    log.finish({"dataset": "cub200", "run": "folder", "settings": {"lr": 1e-5}}, 12.345)
    results = json.loads((log.folder / "results.json").read_text())
    assert (
        results["dataset"] == "cub200"
        and results["settings"] == {"lr": 1e-5}
        and results["seconds"] == 12.35
    )
    assert results["metrics"] == log.summary() and results["epochs"] == 1
    assert {"git_revision", "versions", "platform"} <= set(results) and {
        "python",
        "torch",
        "timm",
    } <= set(results["versions"])
    assert {file.name for file in (log.folder / "Progression_Plots").iterdir()} == {
        "Graph_Train_loss.svg",
        "Graph_Test_embeds_e_recall.svg",
    }


def test_the_online_run_gets_the_values_and_the_end(tmp_path, monkeypatch):
    seen = []

    class Online:
        def log(self, epoch, values):
            seen.append((epoch, values))

        def finish(self, exit_code):
            seen.append(exit_code)

    monkeypatch.setattr(logger, "PLOT_INTERVAL", float("inf"))
    with RunLog(tmp_path, online=Online()) as log:
        log.log(0, values(2.0, 0.25))
    with pytest.raises(KeyboardInterrupt), RunLog(tmp_path, online=Online()):
        raise KeyboardInterrupt
    of_the_first = values(2.0, 0.25)
    of_the_first["Train"]["epochs"] = {"epochs": 1}
    assert seen == [(1, of_the_first), 0, 1]


def test_online_keys_are_those_of_the_papers_code():
    class Run:
        def log(self, values, step):
            self.seen = values, step

    online = object.__new__(OnlineRun)
    online.run = Run()
    online.log(3, values(2.0, 0.25))
    assert online.run.seen == (
        {
            "Train: loss": 2.0,
            "Train: time": 1.0,
            "Test: embeds_e_recall: e_recall@1": 0.25,
        },
        3,
    )


def test_a_metric_without_any_value_ends_nothing(log, caplog):
    nothing = float("nan")
    for epoch in range(2):
        log.log(epoch, values(1.0, nothing, **{"e_recall@2": 0.5}))
    log.finish({}, 1.0)
    results = json.loads((log.folder / "results.json").read_text())["metrics"]["Test"]
    assert results["embeds_e_recall: e_recall@1"] == {}
    assert results["embeds_e_recall: e_recall@2"]["last"] == 0.5
    assert (log.folder / "Progression_Plots" / "Graph_Test_embeds_e_recall.svg").is_file()
    with caplog.at_level("INFO"):
        report.print_results(log.summary(), log.folder)
    assert "no value" in caplog.text
    assert not log.improved("Test", "embeds_e_recall", "e_recall@1")


def test_plots_that_cannot_be_written_cost_no_results(log):
    log.log(0, values(2.0, 0.25))
    (log.folder / "Progression_Plots").rmdir()
    with pytest.raises(UserError, match="Graph_Train_loss.svg cannot be written"):
        log.finish({}, 1.0)
    assert (log.folder / "results.json").is_file()


def test_a_metric_of_one_evaltype_is_asked_of_no_other(log):
    name = "rho_spectrum@1@embeds"
    log.log(0, {"Test": {"embeds_rho_spectrum": {name: 0.5}}})
    paths = log.improvements(["Test"], ["embeds", "avg_features"], [name])
    assert [path.name for path in paths] == [f"checkpoint_Test_embeds_{name}.pth.tar"]


def test_results_come_when_all_else_is_there(log, monkeypatch):
    log.log(0, values(2.0, 0.25))

    def stopped(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RunLog, "draw", stopped)
        log.finish({}, 1.0)
    assert not (log.folder / "results.json").exists()
