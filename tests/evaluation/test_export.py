"""python -m evaluation.export: the same embeddings without this program."""

import json
import tarfile
from pathlib import Path

import by_hand
import numpy as np
import pytest
import torch

from evaluation import export, trained


def by_the_description(folder: Path, image: Path) -> np.ndarray:
    """What the lines of preprocessing.json give, which use nothing of this repository."""
    lines, names = json.loads((folder / "preprocessing.json").read_text())["usage"], {}
    exec("\n".join(lines).replace("image.jpg", str(image)), names)
    return names["embeddings"]


@pytest.mark.parametrize(
    "arch, file_format, flags",
    [
        ("test_resnet_frozen_double_normalize", "onnx", {}),
        ("test_vit_double", "onnx", {}),
        ("test_vit_normalize", "torch", {}),
        ("test_resnet_double", "torch", {"augmentation": "big"}),
    ],
)
def test_the_file_and_its_description_give_the_checkpoints_embeddings(
    photos, make_checkpoint, tmp_path, capsys, monkeypatch, arch, file_format, flags
):
    checkpoint, target = make_checkpoint(arch, **flags), tmp_path / "exported"
    assert (
        export.main(
            [
                str(checkpoint),
                "--to",
                str(target),
                "--format",
                file_format,
                "--check",
                str(photos / "birds"),
            ]
        )
        == 0
    )
    assert "own embeddings of 48 images" in capsys.readouterr().err
    file = export.FORMATS[file_format].file
    assert sorted(path.name for path in target.iterdir()) == sorted([file, "preprocessing.json"])
    image = next(photos.rglob("*.png"))
    monkeypatch.chdir(target)
    expected, found = by_hand.embeddings(checkpoint, [image]), by_the_description(target, image)
    assert (
        np.abs(found - expected).max() <= 1e-2 * np.abs(expected).max()
    )  # Pillow resizes to within one level of 255 of the loader
    described = json.loads((target / "preprocessing.json").read_text())
    assert described["output"]["shape"] == ["batch", 12] and described["output"][
        "unit_length"
    ] == arch.endswith("normalize")
    images = (
        np.random.default_rng(0)
        .normal(size=(5, *described["input"]["shape"][1:]))
        .astype(np.float32)
    )  # a batch of another size
    with torch.no_grad():
        batch = (
            trained.load(checkpoint, torch.device("cpu"))
            .network(torch.from_numpy(images))
            .embeddings.numpy()
        )
    np.testing.assert_allclose(
        export.FORMATS[file_format].open(target / file)(images),
        batch,
        atol=1e-5 * np.abs(batch).max(),
    )


@pytest.fixture
def instant(monkeypatch):
    """A format that takes no time, and may be wrong."""

    def use(factor: float) -> None:
        monkeypatch.setitem(
            export.FORMATS,
            "torch",
            export.FORMATS["torch"]._replace(
                write=lambda model, images, file: file.write_text("model"),
                open=lambda file: (
                    lambda images: (
                        factor
                        * model_of["network"](torch.from_numpy(images)).embeddings.detach().numpy()
                    )
                ),
            ),
        )

    model_of = {}
    load = trained.load

    def remember(*arguments):
        found = load(*arguments)
        model_of["network"] = found.network
        return found

    monkeypatch.setattr(trained, "load", remember)
    return use


@pytest.mark.parametrize(
    "factor, status, part",
    [
        (1, 0, "checked, largest difference"),
        (1 + 1e-3, 2, "wrong and was not kept"),
        (float("nan"), 2, "wrong and was not kept"),
    ],
)
def test_a_wrong_model_is_not_kept(
    photos, make_checkpoint, instant, tmp_path, capsys, factor, status, part
):
    instant(factor)
    target = tmp_path / "exported"
    assert (
        export.main(
            [
                str(make_checkpoint("test_resnet_normalize")),
                "--to",
                str(target),
                "--format",
                "torch",
                "--check",
                str(photos),
            ]
        )
        == status
    )
    assert part in capsys.readouterr().err.splitlines()[-1]
    assert len(list(target.iterdir())) == (2 if status == 0 else 0)


def test_broken_images_are_no_part_of_the_check(photos, make_checkpoint, instant, tmp_path, capsys):
    instant(1)
    (tmp_path / "broken.png").write_bytes(b"broken")
    command = [
        str(make_checkpoint("test_resnet_normalize")),
        "--to",
        str(tmp_path / "exported"),
        "--format",
        "torch",
        "--check",
        str(tmp_path / "broken.png"),
    ]
    assert (
        export.main(command) == 2
        and "--check: none of the 1 images can be read" in capsys.readouterr().err
    )
    assert (
        export.main([*command, str(photos)]) == 0
        and "own embeddings of 48 images" in capsys.readouterr().err
    )


def test_it_says_when_nothing_was_checked(make_checkpoint, instant, tmp_path, capsys):
    instant(1)
    assert (
        export.main(
            [
                str(make_checkpoint("test_resnet_normalize")),
                "--to",
                str(tmp_path / "exported"),
                "--format",
                "torch",
            ]
        )
        == 0
    )
    assert "not checked (--check FOLDER" in capsys.readouterr().err


def test_wrong_places_are_a_sentence(make_checkpoint, tmp_path, capsys):
    checkpoint = str(make_checkpoint("test_resnet_normalize"))
    assert export.main([checkpoint, "--to", checkpoint]) == 2
    assert f"--to {checkpoint} cannot be written" in capsys.readouterr().err
    assert export.main([checkpoint, "--to", str(tmp_path / "x"), "--check", "no.png"]) == 2
    assert (
        "python -m evaluation.export: error: --check no.png: there is no such image"
        in capsys.readouterr().err
    )


def test_onnx_of_a_real_network_on_real_images(assets, tmp_path, make_checkpoint, capsys):
    with tarfile.open(assets / "cifar100.tar.gz") as archive:
        archive.extractall(
            tmp_path,
            members=[
                member
                for member in archive
                if member.isfile() and Path(member.name).parent.name[:3] in ("001", "100")
            ],
            filter="data",
        )
    checkpoint = make_checkpoint(
        "mobilenetv2_100_frozen_normalize",
        image_size=96,
        arch_weights=str(assets / "mobilenetv2_100_imagenet1k.safetensors"),
    )
    assert (
        export.main(
            [
                str(checkpoint),
                "--to",
                str(tmp_path / "exported"),
                "--check",
                str(tmp_path / "cifar100"),
            ]
        )
        == 0
    )
    assert "own embeddings of 64 images" in capsys.readouterr().err
