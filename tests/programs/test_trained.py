"""From a checkpoint to its network, and from images to embeddings."""

import shutil

import by_hand
import numpy as np
import pytest
import torch
from PIL import Image

from programs import constants, trained
from utilities.errors import UserError
from utilities.runtime import DTYPES


def test_the_identity_tells_networks_apart_not_files(make_checkpoint, tmp_path):
    first = make_checkpoint("test_resnet_normalize")
    copy = shutil.copy(first, tmp_path / "copy.pth.tar")
    same = make_checkpoint("test_resnet_normalize")
    other = make_checkpoint("test_resnet_normalize", seed=1)
    larger = make_checkpoint("test_resnet_normalize", image_size=64)
    unnormalised = make_checkpoint("test_resnet")
    paths = (first, copy, same, other, larger, unnormalised)
    identities = [trained.load(path, "cpu").identity for path in paths]
    assert identities[0] == identities[1] == identities[2]
    assert len(set(identities)) == 4


def test_the_identity_of_a_run_from_before_a_setting_is_that_of_its_default(
    make_checkpoint, tmp_path
):
    whole = make_checkpoint("test_resnet_normalize", exif_orientation="ignore")
    state = torch.load(whole, weights_only=True)
    older = {
        name: value
        for name, value in state["settings"].items()
        if name not in ("interpolation", "exif_orientation")
    }
    bicubic = state["settings"] | {"interpolation": "bicubic"}
    identities = []
    for settings in (state["settings"], older, bicubic):
        torch.save(state | {"settings": settings}, tmp_path / "other.pt")
        identities.append(trained.load(tmp_path / "other.pt", "cpu").identity)
    assert identities[0] == identities[1] != identities[2]


def test_the_network_is_ready_to_embed(make_checkpoint):
    checkpoint = make_checkpoint("test_resnet_frozen_normalize", augmentation="big")
    loaded = trained.load(checkpoint, "cpu")
    assert not loaded.network.training and loaded.transform.size == 37
    assert (
        loaded.dimension("embeds") == 12
        and loaded.dimension("avg_features") == loaded.network.feature_dim
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
    odd = {"image_size": -1, "augmentation": "x", "arch": None, "embed_dim": "many"}
    odd |= {"interpolation": "nearest", "exif_orientation": 6}
    for name, value in odd.items():
        torch.save(state | {"settings": state["settings"] | {name: value}}, tmp_path / "odd.pt")
        with pytest.raises(UserError, match=f"odd.pt is damaged .* among its settings, --{name}"):
            trained.load(tmp_path / "odd.pt", "cpu")
    for path, part in (
        (damaged, "is not a checkpoint"),
        (foreign, "is not a checkpoint"),
        (older, "does not say its arch"),
        (other, "does not fit"),
    ):
        with pytest.raises(UserError, match=f"CHECKPOINT {path} {part}"):
            trained.load(path, "cpu")


def test_a_run_embeds_a_folder_files_and_images_in_memory(photos, run_folder, monkeypatch):
    files = sorted(map(str, photos.rglob("*.png")))
    monkeypatch.setenv("HOME", str(run_folder.parents[1]))
    network = trained.load("~/birds/run", "cpu")
    rows = network.embed(photos, batch_size=7)
    assert rows.dtype == np.float32 and rows.shape == (48, 16)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        rows, by_hand.embeddings(run_folder / "checkpoint_last.pth.tar", files), atol=1e-5
    )
    features = network.embed(files[3], "avg_features")
    assert features.shape == (1, network.network.feature_dim)
    monkeypatch.setenv("HOME", str(photos))
    in_memory = [Image.open(file) for file in files[:2]]
    mixed = network.embed([*in_memory, "~/birds/images/Auklet", files[40]])
    np.testing.assert_allclose(mixed, rows[[0, 1, *range(8), 40]], atol=1e-5)
    assert network.embed([]).shape == (0, 16)


def test_what_cannot_be_embedded_is_named(run_folder, tmp_path):
    network = trained.load(run_folder, "cpu")
    (tmp_path / "broken.png").write_bytes(b"broken")
    for images, part in (
        (tmp_path / "no.png", "images: .*no.png: there is no such image"),
        (run_folder / "CSV_Logs", "there is no image in this folder"),
        (tmp_path / "broken.png", "broken.png cannot be read"),
    ):
        with pytest.raises(UserError, match=part):
            network.embed(images)
    with pytest.raises(
        ValueError, match="evaltype must be one of embeds, avg_features, not 'features'"
    ):
        network.embed([], "features")


def test_wrong_runs_and_devices_are_told(run_folder, tmp_path):
    with pytest.raises(UserError, match="the folder is of no run: there is no checkpoint_last"):
        trained.load(tmp_path)
    with pytest.raises(UserError, match="no_run: there is no such checkpoint"):
        trained.load(tmp_path / "no_run")
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda, not 'cuda:1'"):
        trained.load(run_folder, "cuda:1")


def test_the_choices_of_the_command_lines_are_those_of_the_runtime():
    assert tuple(DTYPES) == constants.PRECISIONS


@pytest.mark.parametrize("argument, value", [("precision", "x"), ("device", "tpu")])
def test_what_load_does_not_know_is_named_with_the_choices(make_checkpoint, argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be .*, not '{value}'"):
        trained.load(make_checkpoint("test_resnet_normalize"), **{argument: value})
