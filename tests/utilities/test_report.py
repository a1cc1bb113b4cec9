"""What a run says on the console, and in how many columns."""

import errno
import logging
import re
from functools import partial

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed
from torch._inductor.exc import InductorError

from utilities import report
from utilities.costs import Costs, Pace
from utilities.report import WIDTH

LOSSES = {"objective": 1.25, "guidance": 0.5, "loss": 1.75, "time": 12.34}
LONG = [
    "avg_features_rho_spectrum: rho_spectrum@-1@avg_features",
    "avg_features_superclass_recall: superclass_recall@1000",
    "embeds_dists: dists@intra_over_inter",
    f"embeds_{'far_' * 20}away: {'nowhere' * 9}@1",
]


def said(caplog) -> list[str]:
    return "\n".join(record.getMessage() for record in caplog.records).split("\n")


def epoch_said(caplog, spent: Costs, values: dict, done: int = 1) -> list[str]:
    pace = Pace(0, 10, 1)
    for _ in range(done):
        pace.end_epoch()
    evaltypes = ["embeds", "avg_features"]
    with caplog.at_level("INFO"):
        report.print_epoch(done - 1, 10, evaltypes, LOSSES, values, spent, pace)
    return said(caplog)


def test_an_epoch_says_what_it_gave_and_took(caplog):
    spent = Costs({"trunk": 1e-5, "head": 1e-5}, 1234.5, {"host_gb": 2.34, "gpu_gb": 11.0})
    text = " ".join(" ".join(epoch_said(caplog, spent, {})).split())
    assert text == (
        "Epoch 1 of 10: objective 1.2500 guidance 0.5000 loss 1.7500 lr 1e-05 training 12.3 s "
        "1,234 images/s memory 2.3 GB, GPU 11.0 GB 0 s left"
    )


def test_rates_that_differ_are_said_by_group(caplog):
    rates = {"trunk": 1e-5, "head": 1e-3, "margin beta": 5e-4, "s2sd target_nets": 1e-5}
    text = " ".join(epoch_said(caplog, Costs(rates, 3.25, {"host_gb": 1.0}), {}))
    assert "lr 1e-05 (trunk, s2sd target_nets), 0.001 (head), 0.0005 (margin beta)" in text
    assert "3.2 images/s" in text and "GPU" not in text


@pytest.mark.parametrize("trunk", ["trunk", "trunk's adapters"])
@pytest.mark.parametrize("parted", [False, True])
def test_rates_of_many_layers_fit_a_line(caplog, trunk, parted):
    rates = {
        f"{trunk} layer {number} of 14": 1e-3 * 0.5 ** (14 - number) for number in range(1, 15)
    }
    rates |= {"head": 1e-3, "margin beta": 5e-4}
    if parted:  # as --decay_matrices_only does
        rates |= {f"{name}, vectors": rate for name, rate in rates.items() if name != "margin beta"}
    lines = epoch_said(caplog, Costs(rates, 3.25, {"host_gb": 1.0}), {})
    assert f"lr 1.2207e-07 to 0.001 ({trunk}), 0.001 (head), 0.0005 (margin beta)" in lines[1]
    assert max(map(len, lines)) <= WIDTH


def test_nothing_is_left_after_the_last_epoch(caplog):
    spent = Costs({"trunk": 1.0}, 100, {"host_gb": 1.0})
    lines = epoch_said(caplog, spent, {}, done=10)
    assert "Epoch 10 of 10" in lines[0] and "left" not in " ".join(lines)


@pytest.mark.parametrize(
    "by", [InductorError, partial(BackendCompilerFailed, None)], ids=["inductor", "others"]
)
def test_a_compiler_that_fails_within_a_run_is_a_sentence(capsys, by):
    """As that of an optimiser, of which no look at --compile knows."""

    def run() -> None:
        raise by(OSError("main.so: file too short"), None)

    assert report.exit_status(run) == 2
    told = capsys.readouterr().err
    assert "main.py: error: torch could not compile (OSError: main.so: file too short)" in told
    assert told.count("\n") == 1 and "C++ compiler" in told and "timm:kron" in told


def test_values_of_an_epoch_fit_the_width(caplog):
    metrics = {f"e_recall@{k}": 0.5 for k in (1, 2, 4, 8, 10, 16, 32, 64, 100, 1000)}
    values = {"Test": {"avg_features_e_recall": metrics, "embeds_e_recall": metrics}}
    lines = epoch_said(caplog, Costs({"trunk": 1.0}, 100, {"host_gb": 1.0}), values)
    assert max(map(len, lines)) <= WIDTH
    words = " ".join(lines).split()
    assert all(words.count(name) == 2 for name in metrics)


@pytest.mark.parametrize("epoch", [9, 12345])
@pytest.mark.parametrize("has_validation", [False, True])
def test_the_final_table_fits_the_width_and_loses_nothing(caplog, epoch, has_validation):
    values = {"best": 0.5, "best_epoch": epoch, "last": 0.25, "last_epoch": epoch}
    if has_validation:
        values |= {"at_best_val": 0.375, "best_val_epoch": epoch}
    summary = {"Test": dict.fromkeys(LONG, values), "Val": {LONG[0]: {}}}
    with caplog.at_level("INFO"):
        report.print_results(summary, "runs/cub200/name")
    lines = said(caplog)
    assert max(map(len, lines)) <= WIDTH
    rows = lines[lines.index("") + 1 :]
    names = "".join(re.sub(r"^(Test|Val)|\d\.\d{4} \(epoch \d+\)|\s", "", row) for row in rows)
    assert all(name.replace(" ", "") in names for name in LONG)
    assert sum(f"0.2500 (epoch {epoch})" in row for row in rows) == len(LONG)
    assert "Results: runs/cub200/name" in lines


def test_a_table_that_fits_keeps_a_line_a_metric(caplog):
    values = {"best": 0.5, "best_epoch": 1, "last": 0.25, "last_epoch": 2}
    with caplog.at_level("INFO"):
        report.print_results({"Test": {"embeds_nmi: nmi": values}}, "runs")
    assert "Test   embeds_nmi: nmi  0.5000 (epoch 1)  0.2500 (epoch 2)" in said(caplog)


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (97200, "1 d 3 h"),
    ],
)
def test_durations(seconds, text):
    assert report.duration(seconds) == text


@pytest.mark.parametrize("quiet, heard", [(False, "note result warning"), (True, "result warning")])
def test_a_quiet_console_says_results_and_warnings(capsys, quiet, heard):
    report.configure_logging(quiet=quiet)
    speaker = logging.getLogger("utilities.test")
    for level, text in ((20, "note"), (report.RESULT, "result"), (30, "warning")):
        speaker.log(level, text)
    assert capsys.readouterr().out.split() == heard.split()


@pytest.mark.parametrize(
    "error, said",
    [
        (OSError(errno.ESTALE, "Stale file handle", "data/1.jpg"), "data/1.jpg: Stale file handle"),
        (OSError("image file is truncated"), "image file is truncated"),  # as libraries raise it
    ],
)
def test_a_file_or_a_disk_that_fails_is_a_sentence(capsys, error, said):
    def run() -> None:
        raise error

    assert report.exit_status(run) == 2
    assert capsys.readouterr().err == f"main.py: error: {said}.\n"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce] DefaultCPUAllocator: x")])
def test_memory_that_cannot_be_had_is_a_sentence(capsys, error):
    def run() -> None:
        raise error

    assert report.exit_status(run) == 2
    assert capsys.readouterr().err.startswith("main.py: error: the memory of this machine is too")


def test_a_norm_of_one_value_is_a_sentence_and_other_faults_of_values_are_none(capsys):
    norm = torch.nn.BatchNorm2d(2)
    assert report.exit_status(lambda: norm(torch.ones(1, 2, 1, 1))) == 2
    said = capsys.readouterr().err
    assert said.startswith("main.py: error: a BatchNorm that learns got one image")
    assert said.count("\n") == 1 and "--micro_batch" in said and "_frozen" in said
    with pytest.raises(ValueError, match="invalid literal"):
        report.exit_status(lambda: int("a"))


def test_all_that_a_run_wrote_is_named(tmp_path):
    for name in ("CSV_Logs", "wandb", "Language", "steps"):
        (tmp_path / name).mkdir()
    checkpoints = [f"checkpoint_{name}.pth.tar" for name in ("last", "Test_e@1", "Test_e@2")]
    events = [f"events.out.tfevents.{number}" for number in (1, 2)]
    for name in ("args.yaml", "results.json", "my\nnote", *checkpoints, *events):
        (tmp_path / name).write_text("")
    where, *lines = report.results_in(tmp_path).splitlines()
    assert where == f"Results: {tmp_path}" and max(map(len, lines)) <= WIDTH
    assert " ".join(map(str.strip, lines)) == (
        "results.json, CSV_Logs/, Language/, checkpoint_last.pth.tar, args.yaml, "
        "checkpoint_*.pth.tar, events.out.tfevents.*, my\\nnote, steps/, wandb/"
    )
