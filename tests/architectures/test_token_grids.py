"""Feature maps of transformers with registers, odd patches and images that are not square."""

from typing import Any

import pytest
import timm
import torch

import architectures
from architectures.embedding_network import EmbeddingNetwork
from utilities.errors import UserError

# DINOv2 without and with registers, DINOv3; their smallest forms at a tenth of their width.
SMALL: dict[str, dict[str, Any]] = {
    "vit_small_patch14_dinov2": {"embed_dim": 48, "depth": 2, "num_heads": 3},
    "vit_small_patch14_reg4_dinov2": {"embed_dim": 48, "depth": 2, "num_heads": 3},
    "vit_small_patch16_dinov3": {"embed_dim": 48, "depth": 2, "num_heads": 3},
}


def small(name: str, height: int, width: int) -> EmbeddingNetwork:
    torch.manual_seed(0)
    trunk: Any = timm.create_model(name, num_classes=0, img_size=(height, width), **SMALL[name])
    return EmbeddingNetwork(trunk, 8).eval()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("rows, columns", [(3, 3), (2, 4), (4, 1), (1, 4)])
def test_patches_lie_where_they_are_in_the_image(name, rows, columns):
    patch = int(name.split("patch")[1][:2])
    model = small(name, rows * patch, columns * patch)
    images = torch.randn(2, 3, rows * patch, columns * patch)
    with torch.inference_mode():
        tokens, found = model.trunk.forward_features(images), model(images)
    assert found.feature_map.shape == (2, 48, rows, columns)
    registers = {"dinov2": 0, "reg4_dinov2": 4, "dinov3": 4}[name.partition("patch")[2][3:]]
    for row in range(rows):
        for column in range(columns):
            place = 1 + registers + row * columns + column
            assert torch.equal(found.feature_map[:, :, row, column], tokens[:, place])
    assert tokens.shape[1] == 1 + registers + rows * columns


def select(arch: str, size: int) -> EmbeddingNetwork:
    return architectures.select(
        arch, embed_dim=8, image_size=size, pretrained=False, weights_file=None
    )


def test_images_of_no_whole_number_of_patches_are_a_sentence():
    with pytest.raises(UserError, match="patches of 14 pixels.* nearest --image_size: 56 or 70"):
        select("vit_small_patch14_reg4_dinov2", 64)
    with pytest.raises(UserError, match="nearest --image_size: 16 "):
        select("test_vit", 8)


def test_a_trunk_that_pads_takes_any_image():
    model = timm.create_model("test_vit", num_classes=0, img_size=40, dynamic_img_pad=True)
    network = EmbeddingNetwork(model, 8).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 3, 40, 40)).feature_map.shape == (1, 64, 3, 3)


@pytest.mark.parametrize("name", ["coat_lite_tiny", "volo_d1_224"])
def test_a_class_token_that_a_model_does_not_declare_is_no_patch(name):
    model = select(name, 224).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        tokens, feature_map = model.trunk.forward_features(images), model(images).feature_map
    side = feature_map.shape[-1]
    assert tokens.shape[1] == 1 + side * side
    assert torch.equal(feature_map.flatten(2), tokens[:, 1:].transpose(1, 2))


def test_a_class_token_without_patches_is_the_whole_map():
    model = select("pit_ti_224", 224).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 224, 224)).feature_map.shape == (1, 256, 1, 1)
