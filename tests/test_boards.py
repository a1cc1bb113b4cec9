"""A run as people watch it: W&B, read back from an offline run, and TensorBoard from its files."""

import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import wandb_files
import yaml
from PIL import Image
from small_runs import CLASSES
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import main
import parameters

TINY = """
    --dataset birds --arch test_resnet_normalize --not_pretrained --image_size 32 --embed_dim 8
    --loss margin --bs 8 --lr 1e-3 --kernels 0 --device cpu --n_epochs 2 --no_train_metrics
    --evaluation_metrics dists@intra --no_figures --group g --use_tv_split --tv_split_by_samples
    --language_distill_w 1 --language_model minilm
"""
BOARDS = ["--log_online", "--tensorboard", "--log_steps", "2"]
LABELS = ["--tags", "first", "second", "--entity", "us", "--notes", "what it is for"]
PLAIN = ["--language_distill_w", "0"]
SPREAD = "embeds_dists: dists@intra"  # the less, the better


class Watched(NamedTuple):
    """Folder of a run of two epochs, resumed for a third; and of the same run that nobody saw."""

    folder: Path
    unseen: Path
    said: str  # on the console by the resumed part, which is quiet


def call(photos: Path, runs: Path, *argv: str) -> int:
    places = ["--source_path", photos, "--save_path", runs, "--cache_path", photos / "cache"]
    return main.main([*TINY.split(), *map(str, places), *argv])


@pytest.fixture(scope="module")
def watched(photos, tmp_path_factory) -> Watched:
    runs = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WANDB_MODE", "offline")
        patched.setenv("WANDB_API_KEY", "s3cret" * 8)
        patched.setenv("WANDB_DATA_DIR", str(runs))
        argv = [*BOARDS, *LABELS]
        assert call(photos, runs, *argv) == 0
        argv += ["--n_epochs", "3", "--resume", "auto", "--quiet"]
        with redirect_stdout(StringIO()) as said, redirect_stderr(said):
            assert call(photos, runs, *argv) == 0
    unseen = ["--n_epochs", "3", "--savename", "unseen"]
    assert call(photos, runs, *unseen) == 0
    return Watched(runs / "birds" / "g_s0", runs / "birds" / "unseen", said.getvalue())


def both(watched: Watched) -> list[list]:
    """The records of the two W&B runs, the resumed one last."""
    files = sorted(watched.folder.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    return [wandb_files.wandb_records(file) for file in files]


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return found.Reload()


def points(found: EventAccumulator, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in found.Scalars(name)]


def column(folder: Path, name: str) -> list[tuple[int, float]]:
    """Numbers of the epochs and the last column of a table of the run."""
    lines = (folder / "CSV_Logs" / f"Data_{name}.csv").read_text().splitlines()[1:]
    return [(int(line.split(",")[0]), float(line.split(",")[-1])) for line in lines]


def test_watching_changes_no_number(watched):
    weights = [
        torch.load(folder / "checkpoint_last.pth.tar", weights_only=True)["state_dict"]
        for folder in (watched.folder, watched.unseen)
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert column(watched.folder, "Train_loss") == column(watched.unseen, "Train_loss")
    test = "Test_embeds_dists"
    assert column(watched.folder, test) == column(watched.unseen, test)


def test_rows_stand_at_steps_of_training_and_go_on_where_they_were(watched):
    first, second = map(wandb_files.history, both(watched))
    steps = [[row["_step"] for row in rows] for rows in (first, second)]
    assert steps == [[0, 2, 4], [6]]  # a row may hold losses of a step and an epoch's values
    assert [row.get("step") for row in first] == [None, 2, 4]
    assert [row["Train: epochs"] for row in (*first[1:], *second)] == [1, 2, 3]
    assert {"Steps/loss", "Steps/objective", "Steps/guidance", "Train: loss"} <= first[1].keys()
    epochs = [row["Train: loss"] for row in (*first[1:], *second)]
    assert epochs == [value for _, value in column(watched.folder, "Train_loss")]


def test_epochs_and_steps_are_axes_and_the_best_is_beside_the_last(watched):
    first, second = both(watched)
    metrics = {
        metric.glob_name or metric.name: metric for metric in wandb_files.of_kind(first, "metric")
    }
    for split in ("Train", "Val", "Test"):
        assert metrics[f"{split}: *"].step_metric == "Train: epochs"
    assert metrics["Steps/*"].step_metric == "step"
    assert metrics["Train: epochs"].options.hidden and metrics["step"].options.hidden
    spreads = [value for _, value in column(watched.folder, "Test_embeds_dists")]
    losses = [value for _, value in column(watched.folder, "Train_loss")]
    for records, epochs in ((first, 2), (second, 3)):
        summary = wandb_files.updated(records, "summary")
        assert summary[f"Test: {SPREAD}"] == spreads[epochs - 1]
        assert summary[f"Test: {SPREAD} (best)"] == min(spreads[:epochs])
        assert f"Test: {SPREAD} (at_best_val)" in summary
        assert summary["Train: loss (best)"] == min(losses[:epochs])
    places = {
        kind: [
            number
            for number, record in enumerate(first)
            if record.WhichOneof("record_type") == kind
        ]
        for kind in ("summary", "history")
    }
    names = [
        {item.key for item in first[place].summary.update}
        for place in places["summary"]
        if place < places["history"][-1]
    ]
    assert any("Train: loss (best)" in name for name in names)  # while the run lives


def test_labels_and_config_say_what_ran_where(watched):
    (run,) = wandb_files.of_kind(both(watched)[0], "run")[:1]
    (resumed,) = wandb_files.of_kind(both(watched)[1], "run")[:1]
    assert run.run_id == resumed.run_id
    assert (run.entity, run.run_group, run.job_type) == ("us", "g", "train")
    assert (list(run.tags), run.notes) == (["first", "second"], "what it is for")
    config = wandb_files.updated(both(watched)[0], "config")
    results = json.loads((watched.folder / "results.json").read_text())
    assert config["git_revision"] == results["git_revision"]
    assert config["device_name"] == results["device"]
    assert config["lr"] == 1e-3 and config["log_steps"] == 2 and "wandb_key" not in config


def table(watched: Watched, name: str) -> tuple[dict[str, Any], dict[str, Path]]:
    """What a table holds, and the files of its pictures by their paths in it."""
    artifacts = wandb_files.of_kind(both(watched)[0], "artifact")
    files = {entry.path: Path(entry.local_path) for a in artifacts for entry in a.manifest.contents}
    return json.loads(files[f"{name}.table.json"].read_text()), files


def test_tables_hold_pictures(watched):
    texts, files = table(watched, "Train: class_texts")
    assert texts["columns"] == ["class", "text", "picture"]
    assert [row[:2] for row in texts["data"]] == [[name, name] for name in CLASSES[:3]]
    pictures = [row[2] for row in texts["data"]]
    assert [picture["caption"] for picture in pictures] == [f"{name}_0.png" for name in CLASSES[:3]]
    for picture in pictures:
        with Image.open(files[picture["path"]]) as image:
            assert max(image.size) == 160


def test_a_quiet_run_says_results_alone(watched):
    assert "wandb:" not in watched.said
    assert watched.said.startswith("\nsplit") and "Results: " in watched.said


def test_no_key_is_written_anywhere(watched):
    files = [path for path in watched.folder.rglob("*") if path.is_file()]
    assert len(files) > 25 and not any(b"s3cret" in path.read_bytes() for path in files)


def test_event_files_hold_every_point_once(watched):
    found, folder = events(watched.folder), watched.folder
    tables = {
        "Train: loss": "Train_loss",
        f"Test: {SPREAD}": "Test_embeds_dists",
        f"Val: {SPREAD}": "Val_embeds_dists",
        "Train: learning_rate: margin beta": "Train_learning_rate",
        "Train: images_per_second": "Train_images_per_second",
        "Train: peak_memory: host_gb": "Train_peak_memory",
    }
    for name, csv in tables.items():
        expected = [(epoch, pytest.approx(value)) for epoch, value in column(folder, csv)]
        assert points(found, name) == expected and len(expected) == 3, name
    spreads = [value for _, value in column(folder, "Test_embeds_dists")]
    best = [(epoch, pytest.approx(min(spreads[:epoch]))) for epoch in (1, 2, 3)]
    assert points(found, f"Test: {SPREAD} (best)") == best
    losses = points(events(folder / "steps"), "Steps/loss")
    rows = [row for records in both(watched) for row in wandb_files.history(records)]
    assert losses == [
        (row["step"], pytest.approx(row["Steps/loss"])) for row in rows if "step" in row
    ]
    assert [step for step, _ in losses] == [2, 4, 6]


def test_event_files_hold_texts_and_settings(watched):
    found = events(watched.folder)
    (text,) = found.Tensors("Train: class_texts/text_summary")
    assert (
        f"| {CLASSES[0]} | {CLASSES[0]} | {CLASSES[0]}_0.png |"
        in text.tensor_proto.string_val[0].decode()
    )
    plugin = found.PluginTagToContent("hparams")
    assert {name.split("/")[-1] for name in plugin} == {
        "experiment",
        "session_start_info",
        "session_end_info",
    }
    assert b"test_resnet_normalize" in plugin["_hparams_/session_start_info"]
    assert f"Test: {SPREAD} (best)".encode() in plugin["_hparams_/experiment"]


@pytest.fixture
def anew(monkeypatch) -> Iterator[pytest.MonkeyPatch]:
    """Environment variables that W&B reads as a process of its own would."""
    import wandb

    wandb.teardown()
    yield monkeypatch
    monkeypatch.undo()
    wandb.teardown()


def test_an_agent_of_a_sweep_chooses_the_settings_and_the_run(photos, tmp_path, anew, capsys):
    chosen = {"wandb_version": 1, "lr": {"value": "2e-3"}, "loss": {"value": "triplet"}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(chosen))
    of_agent = {
        "MODE": "offline",
        "SWEEP_ID": "sweep1",
        "RUN_ID": "run1",
        "PROJECT": "of_the_sweep",
        "SWEEP_PARAM_PATH": str(tmp_path / "sweep.yaml"),
    }
    for name, value in of_agent.items():
        anew.setenv(f"WANDB_{name}", value)
    argv = ["--log_online", "--n_epochs", "1", "--loss", "triplet", *PLAIN]
    assert call(photos, tmp_path, *argv) == 2
    said = capsys.readouterr()
    assert "the W&B sweep has chosen --lr 0.002 (here 0.001)" in said.err
    assert "triplet" not in said.err and "Ignoring" not in said.err
    assert "${args_no_boolean_flags}" in said.err
    records = wandb_files.offline_run(tmp_path / "birds" / "g_s0")
    (run,) = wandb_files.of_kind(records, "run")[:1]
    assert (run.run_id, run.sweep_id, run.project) == ("run1", "sweep1", "of_the_sweep")
    assert wandb_files.of_kind(records, "exit")[0].exit_code == 1
    agreeing = parameters.parse([*TINY.split(), "--loss", "triplet", "--lr=2e-3"])
    assert parameters.disagreeing(agreeing, {"lr": "2e-3", "loss": "triplet", "other": 1}) == []
    assert "bs: 1.5 is not a whole number" in parameters.disagreeing(agreeing, {"bs": 1.5})[0]


def test_a_mode_that_wandb_has_not_is_a_sentence(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "ofline")
    assert call(photos, tmp_path, "--log_online") == 2
    assert "--log_online: WANDB_MODE=ofline is none of online, " in capsys.readouterr().err
    assert not (tmp_path / "birds").exists()


def test_a_disabled_run_writes_nothing_of_its_own(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    argv = ["--log_online", "--log_steps", "1", "--n_epochs", "1", "--quiet", *PLAIN]
    assert call(photos, tmp_path, *argv) == 0
    folder = tmp_path / "birds" / "g_s0"
    assert not (folder / "wandb").exists() and (folder / "results.json").is_file()
    state = torch.load(folder / "checkpoint_last.pth.tar", weights_only=True)
    assert state["wandb_id"] is None


def test_a_missing_package_is_one_sentence_before_anything_begins(
    photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert call(photos, tmp_path, "--tensorboard") == 2
    message = capsys.readouterr().err
    assert "--tensorboard needs the package tensorboard: pip install" in message
    assert len(message.splitlines()) == 1 and not (tmp_path / "birds").exists()
