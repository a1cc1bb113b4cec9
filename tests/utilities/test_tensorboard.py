"""Event files, as TensorBoard reads them."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from utilities import tensorboard
from utilities.errors import UserError
from utilities.logger import RunLog
from utilities.rows import Picture
from utilities.tensorboard import EventFiles

SETTINGS = {"lr": 0.001, "quiet": True, "tau": [1, 2], "notes": None, "source_path": "d\udcf6g"}


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    found = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in found.Scalars(name)]


def make_epochs(files: EventFiles, first: int, last: int, loss: float) -> None:
    """Of three steps each."""
    for epoch in range(first, last + 1):
        for step in range(3 * epoch - 2, 3 * epoch + 1):
            files.log_steps(step, {"loss": loss})
        files.log(epoch, 3 * epoch, {"Train": {"loss": {"loss": loss}}})
        files.summarise(epoch, {"Test": {"embeds_nmi: nmi": {"best": loss}}})


def test_what_a_resumed_run_makes_again_is_there_once(tmp_path):
    """As after a kill, with records that go further than the checkpoint of the first epoch."""
    killed = EventFiles(tmp_path, SETTINGS)
    assert killed.is_new
    make_epochs(killed, 1, 3, loss=1.0)
    killed.epochs.flush()
    killed.steps.flush()
    resumed = EventFiles(tmp_path, SETTINGS, first=2)
    assert not resumed.is_new
    resumed.summarise(1, {"Test": {"embeds_nmi: nmi": {"best": 9.0}}})  # is there already
    make_epochs(resumed, 2, 2, loss=0.5)
    resumed.finish()
    assert points(tmp_path, "Train: loss") == [(1, 1.0), (2, 0.5)]
    assert points(tmp_path, "Test: embeds_nmi: nmi (best)") == [(1, 1.0), (2, 0.5)]
    losses = [(step, 1.0 if step < 4 else 0.5) for step in range(1, 7)]
    assert points(tmp_path / "steps", "Steps/loss") == losses
    killed.finish(exit_code=1)


def test_epochs_that_it_did_not_see_are_there_when_it_sees_the_run_again(tmp_path):
    """A run is shown, goes on without it, and is shown again."""

    def epoch_of(log: RunLog) -> RunLog:
        with log:
            number = len(log.history.get("Train", {}).get("loss", {}).get("loss", []))
            log.log(number, {"Train": {"loss": {"loss": float(number)}}})
        return log

    first = epoch_of(RunLog(tmp_path, boards=[EventFiles(tmp_path, SETTINGS)]))
    unseen = epoch_of(RunLog(tmp_path, first.history))
    boards = [EventFiles(tmp_path, SETTINGS, first=3)]
    epoch_of(RunLog(tmp_path, unseen.history, boards))
    assert points(tmp_path, "Train: loss") == [(1, 0.0), (2, 1.0), (3, 2.0)]


def test_an_end_is_written_of_runs_that_came_to_it(tmp_path):
    for name, exit_code in (("done", 0), ("failed", 1)):
        files = EventFiles(tmp_path / name, SETTINGS)
        files.log(1, 3, {"Test": {"embeds_nmi": {"nmi": float("nan")}}})
        make_epochs(files, 2, 2, loss=1.0)
        files.finish(exit_code)
        found = EventAccumulator(str(tmp_path / name)).Reload()
        plugin = found.PluginTagToContent("hparams")
        assert ("_hparams_/session_end_info" in plugin) == (name == "done")
        assert "Test: embeds_nmi: nmi" not in found.Tags()["scalars"]


def test_figures_are_images_of_their_epoch(tmp_path):
    Image.new("RGBA", (6, 4), (255, 0, 0, 255)).save(tmp_path / "projection.png")
    files = EventFiles(tmp_path, SETTINGS)
    files.log_figures(2, {"Test: projection": tmp_path / "projection.png"})
    files.finish()
    (image,) = EventAccumulator(str(tmp_path)).Reload().Images("Test: projection")
    assert (image.step, image.width, image.height) == (2, 6, 4)
    with Image.open(BytesIO(image.encoded_image_string)) as read:
        assert read.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_settings_are_numbers_or_words():
    assert tensorboard._as_hyperparameters(SETTINGS) == {
        "lr": 0.001,
        "quiet": "yes",
        "tau": "1 2",
        "notes": None,
        "source_path": "d\\udcf6g",
    }


def test_tables_are_text_of_so_many_rows(monkeypatch):
    monkeypatch.setattr(tensorboard, "MOST_ROWS", 2)
    rows = [
        {"class": f"a|{number}\nb", "picture": Picture(lambda: None, "1.png")}
        for number in range(4)
    ]
    assert tensorboard._as_markdown(rows[:2]).splitlines() == [
        "| class | picture |",
        "|---|---|",
        "| a\\|0 b | 1.png |",
        "| a\\|1 b | 1.png |",
    ]
    assert tensorboard._as_markdown(rows).endswith("| 1.png |\n\n2 more rows are not shown.")


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--tensorboard: the event files in .* cannot be written"):
        EventFiles(tmp_path / "file" / "run", SETTINGS)
