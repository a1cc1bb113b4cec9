"""Recipes of training through main.py: each goes on exactly, from an epoch's end and within one."""

from pathlib import Path

import pytest
import torch

import main
from utilities import checkpoints, compilation
from utilities.run_folder import LAST_CHECKPOINT

TINY = """
    --dataset birds --not_pretrained --image_size 32 --embed_dim 8 --loss multisimilarity --bs 8
    --lr 1e-3 --kernels 0 --device cpu --n_epochs 3 --no_figures --no_train_metrics
    --evaluation_metrics e_recall@1 --group g --checkpoint_every 1e-6
"""
RESNET, VIT = "--arch test_resnet_normalize", "--arch test_vit_normalize"
# Flags, and what the summary says of them.
RECIPES = {
    "average": (
        f"{RESNET} --ema 0.8 --layer_decay 0.5 --decay_matrices_only --color_jitter 0.3",
        ["weights averaged with decay 0.8", "trunk layer 5 of 5, vectors lr 0.001, decay 0"],
    ),
    "plateau": (
        f"{RESNET} --scheduler plateau --plateau_patience 0 --gamma 0.5 --lr_floor 0.3 --warmup 1 "
        "--freeze_until layer3 --crop_scale_min 0.5 --use_tv_split --tv_split_by_samples",
        ["where e_recall@1 of the validation part is on a plateau", "learn, from layer3 on"],
    ),
    "memory": (
        f"{VIT} --loss contrastive --batch_mining semihard --xbm_size 20 --xbm_start 1 "
        "--micro_batch 5 --layer_decay 0.7 --freeze_until blocks.3 --rand_augment 9 "
        "--interpolation bicubic",
        [
            "memory of 20 embeddings (0.0 MB)",
            "trunk layer 1 of 7 does not learn",
            "trunk layer 6 of 7 lr 0.0007, decay",
        ],
    ),
}


@pytest.fixture
def call(photos, tmp_path):
    """Call main with the tiny settings; returns the run folder."""

    def run(*argv: str) -> Path:
        places = ["--source_path", str(photos), "--save_path", str(tmp_path / "runs")]
        assert main.main([*TINY.split(), *places, *argv]) == 0
        return max((tmp_path / "runs" / "birds").iterdir(), key=lambda path: path.stat().st_mtime)

    return run


def state_of(folder: Path) -> dict:
    return torch.load(folder / LAST_CHECKPOINT, weights_only=True)


def require_equal(found: object, expected: object, where: str = "") -> None:
    """Plain values and tensors, to the bit."""
    if isinstance(expected, dict):
        assert isinstance(found, dict) and found.keys() == expected.keys(), where
        for name, value in expected.items():
            require_equal(found[name], value, f"{where} {name}")
    elif isinstance(expected, list | tuple):
        assert isinstance(found, list | tuple) and len(found) == len(expected), where
        for place, (one, other) in enumerate(zip(found, expected)):
            require_equal(one, other, f"{where} {place}")
    elif isinstance(expected, torch.Tensor):
        assert isinstance(found, torch.Tensor) and torch.equal(found, expected), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_goes_on_exactly_within_an_epoch(name, call, tmp_path, monkeypatch, capsys):
    """From the first step of the second epoch; the third epoch follows from its end."""
    recipe, lines = RECIPES[name]
    write, middle = checkpoints.save, tmp_path / "middle.pth.tar"

    def save(path: Path, state: dict) -> None:
        write(path, state)
        within = state["within"]
        if state["epoch"] == 0 and within and within["training"]["meter"]["steps"] == 1:
            write(middle, state)

    monkeypatch.setattr(checkpoints, "save", save)
    whole = call(*recipe.split())
    said = " ".join(capsys.readouterr().out.split())
    assert "has no effect" not in said and all(line in said for line in lines)
    monkeypatch.setattr(checkpoints, "save", write)
    again = call(*recipe.split(), "--checkpoint_every", "0", "--resume", str(middle))
    assert again != whole
    found, expected = state_of(again), state_of(whole)
    for part in expected.keys() - {"settings", "history", "seconds", "epoch", "data"}:
        require_equal(found[part], expected[part], part)
    for split in ("Test", "Val"):
        require_equal(found["history"].get(split), expected["history"].get(split), split)
    require_equal(found["history"]["Train"]["loss"], expected["history"]["Train"]["loss"])
    check = CHECKS[name]
    check(expected, whole)
    monkeypatch.undo()


def check_average(state: dict, folder: Path) -> None:
    """The average is what programs take; another run begins it from its checkpoint's weights."""
    from programs import trained

    average, network = state["ema"], state["state_dict"]
    assert average.keys() == network.keys()
    assert not torch.equal(average["head.weight"], network["head.weight"])
    assert not torch.equal(average["trunk.bn1.running_mean"], network["trunk.bn1.running_mean"])
    loaded = trained.load(folder, "cpu").network.state_dict()
    assert torch.equal(loaded["head.weight"], average["head.weight"])


def check_plateau(state: dict, folder: Path) -> None:
    rates = {group["lr"] for group in state["optimizer"]["param_groups"]}
    reductions = state["scheduler"]["reductions"]
    assert rates == {max(1e-3 * 0.5**reductions, 3e-4)} and state["scheduler"]["last_epoch"] == 3
    # Frozen weights have no state of an optimiser, and their BatchNorms counted no batch.
    weights = state["state_dict"]
    assert weights["trunk.layer2.0.bn1.num_batches_tracked"] == 0
    assert weights["trunk.layer3.0.bn1.num_batches_tracked"] > 0


def check_memory(state: dict, folder: Path) -> None:
    memory = state["memory"]
    assert memory["embeddings"].shape == (20, 8) and memory["kept"] == 8 * (memory["steps"] - 1)


CHECKS = {"average": check_average, "plateau": check_plateau, "memory": check_memory}


def test_a_compiled_run_stores_what_any_other_does(call, monkeypatch):
    """By a backend that traces and generates no code."""
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    once = [*RESNET.split(), "--n_epochs", "1", "--checkpoint_every", "0"]
    plain, compiled = state_of(call(*once)), state_of(call(*once, "--compile"))
    for part in ("state_dict", "optimizer"):
        require_equal(compiled[part], plain[part], part)
