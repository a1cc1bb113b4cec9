"""Loss meters, seeds, the runtime and tables."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from utilities import report, seeding
from utilities.errors import NonFiniteLoss, UserError, on_one_line
from utilities.logger import values_of_epoch
from utilities.meters import LossMeter, StepLosses
from utilities.processes import Place
from utilities.runtime import Runtime, select_device

ROOT = Path(__file__).resolve().parents[2]


def metered(*losses) -> LossMeter:
    meter = LossMeter()
    for objective, guidance in losses:
        meter.update(objective=torch.tensor(objective), guidance=torch.tensor(guidance))
    return meter


def test_means():
    assert metered((1.0, 4.0), (2.0, 0.0), (6.0, 2.0)).means() == {
        "objective": 3.0,
        "guidance": 2.0,
    }


def test_means_can_be_read_in_between():
    meter = metered((1.0, 1.0))
    assert meter.means()["objective"] == 1
    meter.update(objective=torch.tensor(3.0), guidance=torch.tensor(3.0))
    assert meter.means()["objective"] == 2


def test_means_of_many_small_losses_are_exact():
    meter = LossMeter()
    for _ in range(1000):
        meter.update(loss=torch.tensor(0.1))
    assert meter.means()["loss"] == pytest.approx(0.10000000149, abs=1e-12)


@pytest.mark.parametrize(
    "losses, name, step",
    [
        ([(1.0, 1.0), (float("nan"), 1.0), (1.0, 1.0)], "objective", 1),
        ([(1.0, 1.0), (1.0, 1.0), (1.0, float("inf"))], "guidance", 2),
        ([(1.0, -float("inf")), (float("nan"), 1.0)], "guidance", 0),
        ([(float("nan"), float("nan"))], "objective", 0),
    ],
)
def test_the_first_non_finite_loss_is_named(losses, name, step):
    with pytest.raises(NonFiniteLoss, match=f"{name} loss .* step {step + 1} of epoch 1$"):
        metered(*losses).means()


def test_the_meter_is_due_after_its_interval():
    assert not LossMeter(interval=100).due() and LossMeter(interval=0).due()


class Untouched(dict):
    """Losses of which nobody may ask for a value."""

    def values(self):
        raise AssertionError("the device is waited for")


def test_losses_of_steps_are_read_at_every_nth_step_of_the_run_alone():
    told = []
    sampled = StepLosses(3, 4, lambda *step: told.append(step))
    for epoch in range(2):
        for step in range(1, 5):
            number = 4 * epoch + step
            losses = {"objective": torch.tensor(1.5), "loss": torch.tensor(float(number))}
            sampled.hear(epoch, step, losses if number % 3 == 0 else Untouched(losses))
    assert told == [(number, {"objective": 1.5, "loss": float(number)}) for number in (3, 6)]
    StepLosses(0, 4, lambda *step: told.append(step)).hear(0, 1, Untouched())
    assert len(told) == 2


def test_a_meter_keeps_no_graph():
    meter, loss = LossMeter(), torch.tensor(1.0, requires_grad=True)
    meter.update(loss=loss * 2)
    assert not meter.sums["loss"].requires_grad


def test_derived_seeds_are_distinct_and_stable():
    seeds = [seeding.derive(seed, epoch) for seed in range(18) for epoch in range(30)]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**32 for seed in seeds)
    assert seeding.derive(1, 2) == seeding.derive(1, 2) != seeding.derive(2, 1)


def test_seed_everything():
    def draw():
        seeding.seed_everything(5)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert draw() == draw()


def test_the_cpu_where_it_is_asked_or_alone(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("cpu", [0]) == select_device("auto", [0]) == torch.device("cpu")
    with pytest.raises(UserError, match="--device cuda"):
        select_device("cuda", [0])


@pytest.mark.parametrize("gpu", [2, -1])
def test_a_gpu_that_is_not_there(monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=f"--gpu {gpu}.*0 to 1"):
        select_device("auto", [gpu])


def test_the_chosen_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    assert select_device("auto", [1]) == torch.device("cuda", 1)
    assert select_device("cpu", [1]) == torch.device("cpu")


@pytest.fixture
def four_gpus(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)


@pytest.mark.parametrize(
    "gpu, chosen",
    [([0], [0, 1]), ([2], [2, 3]), ([3, 1], [3, 1]), ([2, 2], [2, 3]), ([3, 3, 1], [3, 1])],
)
def test_each_process_takes_a_gpu(four_gpus, gpu, chosen):
    places = [Place(rank + 2, 4, rank, 2) for rank in range(2)]  # of the second machine
    assert [select_device("auto", gpu, place).index for place in places] == chosen


@pytest.mark.parametrize(
    "gpu, problem", [([0, 1, 2], "2 processes on this machine need as many"), ([3], "each of 2")]
)
def test_gpus_that_processes_cannot_share(four_gpus, gpu, problem):
    with pytest.raises(UserError, match=problem):
        select_device("auto", gpu, Place(1, 2, 1, 2))


@pytest.mark.parametrize("precision, expected", [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast(precision, expected):
    with Runtime(precision=precision).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


def test_only_fp16_scales_the_loss():
    assert [
        Runtime(precision=precision).gradient_scaler().is_enabled()
        for precision in ("fp32", "bf16", "fp16")
    ] == [False, False, True]


def test_table():
    assert report.table([("Test", 0.5), ("Validation", 12)], ("split", "best")) == (
        "split       best\n------------------\nTest        0.5000\nValidation  12"
    )


def test_the_values_of_an_epoch_keep_all_families_of_a_split():
    evaluated = {"Train": {"nmi": {}}, "Test": {"f1": {}}}
    assert values_of_epoch({"loss": 0.5}, evaluated, {"rate": {"head": 1.0}}) == {
        "Train": {"loss": {"loss": 0.5}, "rate": {"head": 1.0}, "nmi": {}},
        "Test": {"f1": {}},
    }


def test_an_epoch_names_each_evaltype_in_full(caplog):
    values = {
        "Test": {
            "avg_features_e_recall": {"e_recall@1": 0.5},
            "embeds_e_recall": {"e_recall@1": 0.25},
        }
    }
    with caplog.at_level("INFO"):
        report.print_values(["avg_features", "embeds"], values)
    lines = [record.getMessage() for record in caplog.records]
    assert any("avg_features" in line and "0.5000" in line for line in lines)
    assert any("embeds" in line and "0.2500" in line for line in lines)


TALKS = """
import logging, sys, time
from tqdm import tqdm
from utilities import report

def run():
    for number in tqdm(range(3000), mininterval=0):
        logging.getLogger("main").info("a line of some length, number %d", number)
    open(sys.argv[1], "w").write("done")

report.configure_logging()
sys.exit(report.exit_status(run))
"""


@pytest.mark.parametrize("both", [False, True])
def test_a_reader_that_leaves_ends_no_run(tmp_path, both):
    reader = "2>&1 | head -n 1" if both else "| head -n 1"
    script = f'"$0" -c "$1" "$2" {reader} >/dev/null; echo ${{PIPESTATUS[0]}}'
    command = ["bash", "-c", script, sys.executable, TALKS, str(tmp_path / "done")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout == "0\n" and (tmp_path / "done").read_text() == "done"
    assert "Error" not in ended.stderr and "Traceback" not in ended.stderr


def test_a_sentence_stays_on_one_line():
    odd = "a\nb\x1b[31m\0\u202e\udcff"
    assert on_one_line(odd) == "a\\nb\\x1b[31m\\x00\\u202e\\udcff"
    assert on_one_line("Käfer, 'a b' 鳥") == "Käfer, 'a b' 鳥"
