"""Small photographs and checkpoints, for the programs that start from a checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import architectures
import main
import parameters
from utilities import checkpoints

CLASSES = ("Auklet", "Blackbird", "Catbird", "Dove", "Egret", "Finch")


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """6 class folders of 8 images that are not square, each class a colour, as `<here>/birds/images/<class>/<number>.png`."""
    source, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in CLASSES:
        folder = source / "birds" / "images" / name
        folder.mkdir(parents=True)
        colour = random.uniform(30, 225, 3)
        for number in range(8):
            Image.fromarray(
                (colour + random.normal(0, 25, (40, 57, 3))).clip(0, 255).astype(np.uint8)
            ).save(folder / f"{name}_{number}.png")
    return source


@pytest.fixture(scope="session")
def run_folder(photos, tmp_path_factory) -> Path:
    """A run of main.py, with its figures."""
    runs = tmp_path_factory.mktemp("runs")
    assert (
        main.main(
            [
                "--dataset",
                "birds",
                "--source_path",
                str(photos),
                "--save_path",
                str(runs),
                "--cache_path",
                str(runs / "cache"),
                "--arch",
                "test_resnet_normalize",
                "--not_pretrained",
                "--image_size",
                "32",
                "--embed_dim",
                "16",
                "--loss",
                "multisimilarity",
                "--bs",
                "8",
                "--lr",
                "1e-3",
                "--kernels",
                "0",
                "--device",
                "cpu",
                "--n_epochs",
                "2",
                "--no_train_metrics",
                "--evaluation_metrics",
                "e_recall@1",
                "--savename",
                "run",
                "--language_distill_w",
                "1",
                "--language_model",
                "minilm",
            ]
        )
        == 0
    )
    return runs / "birds" / "run"


@pytest.fixture
def make_checkpoint(tmp_path):
    """Write a checkpoint of a network with random weights, or with those of `arch_weights`."""

    def make(arch: str, seed: int = 0, **flags) -> Path:
        settings = {"arch": arch, "embed_dim": 12, "image_size": 32} | flags
        opt = parameters.parse(
            [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        )
        torch.manual_seed(seed)
        network = architectures.select(
            arch,
            embed_dim=opt.embed_dim,
            image_size=opt.image_size,
            pretrained=False,
            weights_file=opt.arch_weights,
        )
        for module in network.modules():
            if (
                isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and not opt.arch_weights
            ):  # as after training, when they no longer pass everything on
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
        path = tmp_path / f"{arch}_{seed}_{opt.image_size}.pth.tar"
        checkpoints.save(
            path,
            {
                "state_dict": network.state_dict(),
                "optimizer": {},
                "scheduler": {},
                "settings": parameters.stored(opt),
                "epoch": 0,
                "history": {},
                "seconds": 0.0,
                "wandb_id": None,
            },
        )
        return path

    return make


def colours(picture: Path) -> int:
    """How many colours a picture has: a blank one has one."""
    with Image.open(picture) as image:
        return len(image.convert("RGB").getcolors(maxcolors=2**24))
