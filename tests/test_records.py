"""What a run says and what it leaves to read: console, log file, results.json, tables."""

import csv
import json
import platform
import re
from pathlib import Path

import pytest
from small_runs import CLASSES

import main

TINY = """
    --dataset birds --arch test_resnet_normalize --not_pretrained --image_size 32 --embed_dim 8
    --loss margin --bs 8 --lr 1e-3 --kernels 0 --device cpu --n_epochs 2 --no_figures
    --no_train_metrics --evaluation_metrics e_recall@1 --group g
"""
GUIDED = ["--language_distill_w", "1", "--language_model", "minilm"]
RATES = ["--fc_lr", "0.01", "--tau", "1", "--gamma", "0.1"]


@pytest.fixture
def call(photos, tmp_path):
    """Call main with the tiny settings, which name the run `g_s0`; returns its exit status."""

    def run(*argv: str) -> int:
        places = ["--source_path", photos, "--save_path", tmp_path / "runs"]
        cache = ["--cache_path", tmp_path / "cache"]
        return main.main([*TINY.split(), *map(str, places), *map(str, cache), *argv])

    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    """Of the run with the tiny settings."""
    return tmp_path / "runs" / "birds" / "g_s0"


def log_of(folder: Path) -> str:
    return (folder / "log.txt").read_text()


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_a_quiet_run_says_its_results_and_its_log_has_everything(call, folder, tmp_path, capsys):
    texts = {name: [f"a small {name}", f"one {name}"] for name in CLASSES}
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(texts))
    assert call(*GUIDED, *RATES, "--class_text", str(file), "--wandb_key", "s3cret", "--quiet") == 0
    said, log = capsys.readouterr(), log_of(folder)
    assert said.out.startswith("\nsplit") and f"Results: {folder}" in said.out
    assert all(line in log for line in said.out.splitlines())
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  Started: python main.py --dataset", log)
    for text in ("captions of", "--wandb_key is ignored", "Epoch 1 of 2", "Epoch 2 of 2", "left"):
        assert text in log and text not in said.out
    assert "lr 0.001 (trunk), 0.01 (head), 0.0005 (margin beta)" in log
    assert "\r" not in log and "\x1b" not in log and "s3cret" not in log

    rows = [[name, text] for name in CLASSES[:3] for text in texts[name]]
    assert table(folder / "class_texts.csv") == [["class", "text"], *rows]
    names, *rates = table(folder / "CSV_Logs" / "Data_Train_learning_rate.csv")
    assert names == ["epoch", "trunk", "head", "margin beta"]
    assert [[float(cell) for cell in row] for row in rates] == [
        [1, *map(pytest.approx, (1e-3, 1e-2, 5e-4))],
        [2, *map(pytest.approx, (1e-4, 1e-3, 5e-5))],
    ]
    assert len(table(folder / "CSV_Logs" / "Data_Train_images_per_second.csv")) == 3
    assert table(folder / "CSV_Logs" / "Data_Train_peak_memory.csv")[0] == ["epoch", "host_gb"]


def test_results_say_what_was_run_on_what_and_where(call, folder, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "s3cret-of-the-environment")
    assert call("--wandb_key=s3cret", "--use_tv_split", "--tv_split_by_samples") == 0
    results = json.loads((folder / "results.json").read_text())
    assert results["command"].startswith("python main.py --dataset birds --arch")
    assert results["command"].endswith("'--wandb_key=***' --use_tv_split --tv_split_by_samples")
    assert results["host"] == platform.node() and results["device"]
    assert results["epochs"] == 2
    assert results["data"] == {
        "Train": {"classes": 3, "images": 18},
        "Val": {"classes": 3, "images": 6},
        "Test": {"classes": 3, "images": 24},
    }
    weights = results["weights"]
    assert weights["all"] == weights["trainable"] > 10_000
    assert results["peak_memory"]["host_gb"] > 0.01
    assert not any(b"s3cret" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_resumed_run_appends_to_the_log_and_says_from_where(call, folder):
    assert call() == 0
    first = log_of(folder)
    assert call("--n_epochs", "3", "--resume", "auto") == 0
    whole = log_of(folder)
    assert whole.startswith(first)
    checkpoint = folder / "checkpoint_last.pth.tar"
    added = whole.removeprefix(first).split("\n", 2)
    assert f"  Resumed from {checkpoint}: python main.py" in added[1]
    assert "2 of 3 epochs are done" in added[2] and "Epoch 3 of 3" in added[2]
    rows = table(folder / "CSV_Logs" / "Data_Train_learning_rate.csv")
    assert [row[0] for row in rows] == ["epoch", "1", "2", "3"]


def test_what_ends_a_run_is_in_its_log(call, folder, monkeypatch, capsys):
    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.TrainingEpoch, "run", interrupted)
    assert call() == 130
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert log_of(folder).endswith(f"  {sentence}\n")

    def broken(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(main.TrainingEpoch, "run", broken)
    with pytest.raises(ZeroDivisionError):
        call("--savename", "broken")
    log = log_of(folder.with_name("broken"))
    assert "Traceback (most recent call last)" in log
    assert log.endswith("ZeroDivisionError: unforeseen\n")


def test_an_evaluation_has_a_log_and_is_quiet_where_asked(call, folder, capsys):
    assert call() == 0
    capsys.readouterr()
    assert main.main(["--evaluate_only", str(folder), "--no_figures", "--quiet"]) == 0
    said, again = capsys.readouterr().out, folder.with_name("g_s0_evaluation")
    assert (
        said.splitlines()[0].endswith("after 2 epochs, on birds:") and f"Results: {again}" in said
    )
    assert all(line in log_of(again) for line in said.splitlines())
    assert "Started: python main.py --evaluate_only" in log_of(again)
    results = json.loads((again / "results.json").read_text())
    assert results["epochs"] == 2 and results["data"]["Test"] == {"classes": 3, "images": 24}
    assert results["peak_memory"]["host_gb"] > 0
    assert not list((again / "CSV_Logs").glob("Data_Train_*")), "an evaluation trains nothing"
    assert "  results.json, log.txt, CSV_Logs/, Progression_Plots/, args.yaml, Param" in said
