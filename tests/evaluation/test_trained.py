"""From a checkpoint to its network, and from folders to images."""

import os
import shutil

import pytest
import torch
from PIL import Image

from evaluation import trained
from utilities.errors import UserError

CPU = torch.device("cpu")


def test_the_identity_tells_networks_apart_not_files(make_checkpoint, tmp_path):
    first = make_checkpoint("test_resnet_normalize")
    copy = shutil.copy(first, tmp_path / "copy.pth.tar")
    same, other = (
        make_checkpoint("test_resnet_normalize"),
        make_checkpoint("test_resnet_normalize", seed=1),
    )
    larger, unnormalised = (
        make_checkpoint("test_resnet_normalize", image_size=64),
        make_checkpoint("test_resnet"),
    )
    identities = [
        trained.load(path, CPU).identity
        for path in (first, copy, same, other, larger, unnormalised)
    ]
    assert identities[0] == identities[1] == identities[2]
    assert len(set(identities)) == 4


def test_the_network_is_ready_to_embed(make_checkpoint):
    found = trained.load(make_checkpoint("test_resnet_frozen_normalize", augmentation="big"), CPU)
    assert not found.network.training and found.transform.size == 37
    assert (
        trained.dimension(found, "embeds") == 12
        and trained.dimension(found, "avg_features") == found.network.feature_dim
    )


def test_foreign_and_damaged_files_are_refused(make_checkpoint, tmp_path):
    whole = make_checkpoint("test_resnet_normalize")
    damaged, foreign, older, other = (
        tmp_path / f"{name}.pt" for name in ("damaged", "foreign", "older", "other")
    )
    damaged.write_bytes(whole.read_bytes()[:5000])
    torch.save({"weight": torch.zeros(2)}, foreign)
    state = torch.load(whole, weights_only=True)
    torch.save(state | {"settings": {}}, older)
    torch.save(state | {"settings": state["settings"] | {"embed_dim": 13}}, other)
    for path, part in (
        (damaged, "is not a checkpoint"),
        (foreign, "is not a checkpoint"),
        (older, "does not say its arch"),
        (other, "does not fit"),
    ):
        with pytest.raises(UserError, match=f"CHECKPOINT {path} {part}"):
            trained.load(path, CPU)


def tree(root, *files: str):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / file)
    return trained.images_below(str(root), "--from")


@pytest.mark.parametrize(
    "files, classes, labels",
    [
        (("b.png", "a.JPG"), [], [-1, -1]),
        (
            ("x/images/cat/b.png", "x/images/cat/a.png", "x/images/ant/c.webp"),
            ["ant", "cat"],
            [0, 1, 1],
        ),
        (("cat/b.png",), ["cat"], [0]),
        (("a.png", "cat/b.png"), ["cat"], [-1, 0]),
        (("train/cat/a.png", "test/cat/b.png"), ["test/cat", "train/cat"], [0, 1]),
        (("cat/a.png", "cat/small/b.png"), ["cat", "cat/small"], [0, 1]),
    ],
)
def test_classes_are_the_folders_below_the_one_that_holds_all(tmp_path, files, classes, labels):
    found = tree(tmp_path, *files)
    assert (
        found.class_texts == classes
        and found.labels.tolist() == labels
        and found.files == sorted(found.files)
    )
    assert all(os.path.isabs(file) for file in found.files)


def test_stray_files_are_passed_over_and_circles_end(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "cat" / "around").symlink_to(tmp_path)
    assert [
        os.path.basename(file)
        for file in tree(
            tmp_path, "cat/a.png", "cat/._a.png", ".hidden/b.png", "__MACOSX/c.png"
        ).files
    ] == ["a.png"]


def test_missing_images_are_named(tmp_path):
    for paths in ([str(tmp_path)], [str(tmp_path / "no.png")]):
        with pytest.raises(UserError, match=f"--query {paths[0]}: there is no"):
            trained.files_at(paths, "--query")
