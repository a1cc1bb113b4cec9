"""Checkpoints: what is stored comes back, and a wrong file says so."""

import errno

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR

from training.optimizers import PlainOptimizer
from training.schedules import PlainSchedule
from utilities import checkpoints, run_folder
from utilities.errors import UserError
from utilities.runtime import Runtime

SETTINGS = {
    "dataset": "cub200",
    "arch": "resnet50",
    "embed_dim": 8,
    "loss": "margin",
    "optim": "adam",
    "lr": 1e-5,
    "gpu": [0],
    "n_epochs": 3,
}
HISTORY = {"Train": {"loss": {"loss": [2.0, 1.0]}}}


def learner(seed: int, width: int = 3):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    scheduler = MultiStepLR(optimizer, [2, 4], 0.5)
    parts = {
        "state_dict": network,
        "optimizer": optimizer,
        "scaler": Runtime().gradient_scaler(),
        "scheduler": PlainSchedule(scheduler),
    }
    return parts, scheduler


def train(parts, scheduler, epochs: int) -> None:
    random = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        parts["optimizer"].zero_grad()
        parts["state_dict"](torch.randn(5, 2, generator=random)).square().mean().backward()
        parts["optimizer"].step()
        scheduler.step()


def state_of(parts, **changes) -> dict:
    plain: dict = {
        "settings": SETTINGS,
        "epoch": 1,
        "history": HISTORY,
        "seconds": 4.5,
        "wandb_id": None,
    } | changes
    states = {name: part.state_dict() for name, part in parts.items()}
    return checkpoints.snapshot(states, **plain)


def stored(folder, **changes):
    parts, scheduler = learner(0)
    train(parts, scheduler, 3)
    path = folder / run_folder.LAST_CHECKPOINT
    checkpoints.save(path, state_of(parts, **changes))
    return path, parts, scheduler


def find(path, settings=SETTINGS, save_path="."):
    found = checkpoints.find(str(path), str(save_path), "cub200", "run")
    checkpoints.require_fitting(found, settings, free=("gpu",))
    return found


def test_a_restored_learner_goes_on_as_the_stored_one(tmp_path):
    path, parts, scheduler = stored(tmp_path)
    others, other_scheduler = learner(1)
    checkpoints.restore(others, checkpoints.load(path))
    train(parts, scheduler, 3)
    train(others, other_scheduler, 3)
    for name, value in parts["state_dict"].state_dict().items():
        assert torch.equal(value, others["state_dict"].state_dict()[name]), name
    assert scheduler.get_last_lr() == other_scheduler.get_last_lr() == [0.025]


def test_plain_values_come_back(tmp_path):
    path, *_ = stored(tmp_path, wandb_id="abc")
    found = checkpoints.load(path)
    assert (
        found.path,
        found.epoch,
        found.settings,
        found.history,
        found.seconds,
        found.wandb_id,
    ) == (path, 1, SETTINGS, HISTORY, 4.5, "abc")
    assert set(found.tensors) == {"state_dict", "optimizer", "scaler", "scheduler"}
    assert [file.name for file in tmp_path.iterdir()] == [run_folder.LAST_CHECKPOINT]


def test_a_checkpoint_needs_no_pickle(tmp_path):
    path, *_ = stored(tmp_path)
    assert set(torch.load(path, weights_only=True)) >= {"state_dict", "settings", "epoch"}


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 704 vs 598"),
    ],
)
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch, error):
    path, *_ = stored(tmp_path)
    before = path.read_bytes()

    def fail(state, file):
        file.write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(UserError, match="disk full") as told:
        checkpoints.save(path, {})
    assert str(path) in str(told.value)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("content", ["text", "tensor", "weights", "damaged"])
def test_a_foreign_file_is_named(tmp_path, content):
    path, *_ = stored(tmp_path)
    if content == "text":
        path.write_text("no checkpoint")
    elif content == "tensor":
        torch.save(torch.zeros(3), path)
    elif content == "weights":
        torch.save({"state_dict": nn.Linear(2, 2).state_dict()}, path)
    else:
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="--resume") as error:
        checkpoints.load(path)
    assert str(path) in str(error.value)


def test_code_in_a_file_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"settings": Evil()}, tmp_path / "evil.pth.tar")
    with pytest.raises(UserError):
        checkpoints.load(tmp_path / "evil.pth.tar")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name, value",
    [
        ("dataset", "cars196"),
        ("arch", "resnet18"),
        ("embed_dim", 16),
        ("loss", "multisimilarity"),
        ("optim", "sgd"),
    ],
)
def test_fixed_settings_must_agree(tmp_path, name, value):
    path, *_ = stored(tmp_path)
    with pytest.raises(UserError, match=f"--{name} {SETTINGS[name]}.*{value}"):
        find(path, SETTINGS | {name: value})


def test_other_settings_may_change_with_a_notice(tmp_path, caplog):
    path, *_ = stored(tmp_path)
    with caplog.at_level("INFO"):
        assert find(path, SETTINGS | {"gpu": [1]}).epoch == 1
        assert caplog.text == ""
        find(path, SETTINGS | {"lr": 0.5})
    assert "--lr 1e-05 (here 0.5)" in caplog.text


def test_settings_that_are_new_since_the_checkpoint_do_not_matter(tmp_path):
    path, *_ = stored(tmp_path)
    assert find(path, SETTINGS | {"new_flag": 1}).epoch == 1


def test_auto_finds_the_newest_run(tmp_path):
    for name, epoch in (("run", 3), ("run_1", 4), ("run_2", None)):
        folder = tmp_path / "cub200" / name
        folder.mkdir(parents=True)
        if epoch:
            stored(folder, epoch=epoch)
    assert find("auto", save_path=tmp_path).epoch == 4


def test_a_part_that_does_not_fit_is_named(tmp_path):
    path, *_ = stored(tmp_path)
    with pytest.raises(UserError, match="--resume.*state_dict"):
        checkpoints.restore(learner(0, width=4)[0], checkpoints.load(path))


def test_a_part_that_was_not_stored_is_named_unless_it_is_guidance(tmp_path):
    path, *_ = stored(tmp_path)
    parts, _ = learner(0)
    checkpoints.restore(parts | {"guide": nn.Linear(1, 1)}, checkpoints.load(path))
    with pytest.raises(UserError, match="criterion"):
        checkpoints.restore(parts | {"criterion": nn.Linear(1, 1)}, checkpoints.load(path))


def test_auto_finds_nothing_where_nothing_is(tmp_path):
    (tmp_path / "cub200" / "run").mkdir(parents=True)
    assert checkpoints.find("auto", str(tmp_path), "cub200", "run") is None


def test_a_run_folder_is_as_good_as_its_checkpoint(tmp_path):
    path, *_ = stored(tmp_path)
    assert find(tmp_path).path == path


def test_other_images_are_refused_with_what_differs(tmp_path):
    identity = {"images": 8, "classes": 2, "class names": "x", "labels": "y"}
    path, *_ = stored(tmp_path, data=identity)
    checkpoint = checkpoints.load(path)
    checkpoints.require_same_data(checkpoint, identity, {}, {})
    with pytest.raises(UserError, match=r"8 images \(here 9\), other class names;"):
        checkpoints.require_same_data(
            checkpoint, identity | {"images": 9, "class names": "z"}, {}, {}
        )
    older, *_ = stored(tmp_path)
    checkpoints.require_same_data(checkpoints.load(older), identity, {}, {})


def test_images_that_were_written_again_are_refused_with_a_way_on(tmp_path):
    identity = {"images": 8, "class names": "x", "file sizes": "y"}
    path, *_ = stored(tmp_path, data=identity)
    with pytest.raises(UserError) as told:
        checkpoints.require_same_data(
            checkpoints.load(path), identity | {"file sizes": "z"}, {}, {}
        )
    assert "their sizes differ" in str(told.value) and f"--arch_weights {path}" in str(told.value)
    path, *_ = stored(tmp_path, data=identity | {"file contents": "y"})
    with pytest.raises(UserError, match="their contents differ"):
        checkpoints.require_same_data(
            checkpoints.load(path), identity | {"file contents": "z"}, {}, {}
        )


def test_rates_and_decay_are_those_of_the_settings(tmp_path):
    """A schedule of the new rates as though they had been there from the beginning."""
    path, *_ = stored(tmp_path)
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.8, weight_decay=0.3)
    schedule = MultiStepLR(optimizer, [1, 3, 9], 0.5)
    parts = {
        "state_dict": network,
        "optimizer": PlainOptimizer(optimizer),
        "scheduler": PlainSchedule(schedule),
    }
    checkpoints.restore(parts, checkpoints.load(path))
    (group,) = optimizer.param_groups
    assert (group["lr"], group["initial_lr"], group["weight_decay"]) == (0.2, 0.8, 0.3)
    assert schedule.last_epoch == 3 and schedule.get_last_lr() == [0.2]
    assert len(optimizer.state) == 4  # what it gathered of the gradients came back
    optimizer.step()
    schedule.step()
    assert group["lr"] == 0.2


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": "x"},
        {"epoch": -5},
        {"settings": None},
        {"history": []},
        {"history": {"Train": []}},
        {"history": {"Test": {"loss": {"loss": ["1"]}}}},
        {"history": {"Train": {"loss": {"loss": 1.0}}}},
        {"data": ["images"]},
        {"seconds": "long"},
    ],
    ids=str,
)
def test_plain_values_of_other_kinds_are_foreign(tmp_path, wrong):
    path, *_ = stored(tmp_path, **wrong)
    with pytest.raises(UserError, match="is not a checkpoint of this program"):
        checkpoints.load(path)
