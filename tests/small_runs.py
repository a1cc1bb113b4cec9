"""Fixtures: small photographs, a run on them, checkpoints of any architecture, an empty pipe.

Imports of the product stand in the fixtures, because every test process loads this file.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ("Auklet", "Blackbird", "Catbird", "Dove", "Egret", "Finch")
OF_THE_RUN = """
    --dataset birds --arch test_resnet_normalize --not_pretrained --image_size 32 --embed_dim 16
    --loss multisimilarity --bs 8 --lr 1e-3 --kernels 0 --device cpu --n_epochs 2
    --no_train_metrics --evaluation_metrics e_recall@1 --savename run
    --language_distill_w 1 --language_model minilm
"""
QUICK_SEARCH = ["--kernels", "0", "--device", "cpu"]


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """6 class folders of 8 images that are not square, each class a colour.

    They lie in `<here>/birds/images/<class>/<number>.png`.
    """
    source, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in CLASSES:
        folder = source / "birds" / "images" / name
        folder.mkdir(parents=True)
        colour = random.uniform(30, 225, 3)
        for number in range(8):
            pixels = (colour + random.normal(0, 25, (40, 57, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}_{number}.png")
    return source


@pytest.fixture(scope="session")
def run_folder(photos, tmp_path_factory) -> Path:
    """A run of main.py, with its figures."""
    import main

    runs = tmp_path_factory.mktemp("runs")
    places = ["--source_path", photos, "--save_path", runs, "--cache_path", runs / "cache"]
    assert main.main([*map(str, places), *OF_THE_RUN.split()]) == 0
    return runs / "birds" / "run"


@pytest.fixture
def find(run_folder, capsys):
    """Call python -m programs.search on the run; gives its JSON and what it said."""
    import json

    from programs import search

    def call(*argv) -> tuple[list[dict], str]:
        assert search.main([str(run_folder), *map(str, argv), *QUICK_SEARCH]) == 0
        said = capsys.readouterr()
        return json.loads(said.out), said.err

    return call


@pytest.fixture
def make_checkpoint(tmp_path):
    """Write a checkpoint of a network with random weights, or with those of `arch_weights`."""
    import torch

    import architectures
    import parameters
    from utilities import checkpoints

    def make(arch: str, seed: int = 0, **flags) -> Path:
        settings = {"arch": arch, "embed_dim": 12, "image_size": 32} | flags
        argv = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        parsed = parameters.parse(argv)
        torch.manual_seed(seed)
        network = architectures.select(
            arch,
            embed_dim=parsed.embed_dim,
            image_size=parsed.image_size,
            pretrained=False,
            weights_file=parsed.arch_weights,
        )
        if not parsed.arch_weights:
            _train_norms(network)
        path = tmp_path / f"{arch}_{seed}_{parsed.image_size}.pth.tar"
        states = {"state_dict": network.state_dict(), "optimizer": {}, "scheduler": {}}
        plain = {"epoch": 0, "history": {}, "seconds": 0.0, "wandb_id": None}
        checkpoints.save(path, {**states, "settings": parameters.stored(parsed), **plain})
        return path

    return make


@pytest.fixture
def pipe(tmp_path) -> Iterator[Path]:
    """A pipe into which nobody writes; whoever waits for it fails."""

    def fail(*ignored: object) -> None:
        raise AssertionError("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, fail)
    os.mkfifo(tmp_path / "pipe.png")
    signal.alarm(20)
    yield tmp_path / "pipe.png"
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def diverged(run_folder, tmp_path) -> Path:
    """A checkpoint of the run whose network overflows half precision, but not single."""
    import torch

    state = torch.load(run_folder / "checkpoint_last.pth.tar", weights_only=True)
    weights = state["state_dict"]
    last = [name for name, value in weights.items() if value.ndim == 4][-1]
    weights[last] = weights[last] * 1e8
    torch.save(state, tmp_path / "diverged.pth.tar")
    return tmp_path / "diverged.pth.tar"


def _train_norms(network) -> None:
    """Statistics as after training, when they no longer pass everything on."""
    from torch import nn

    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)


@pytest.fixture
def terminal() -> Iterator[None]:
    """SIGHUP counts even where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
