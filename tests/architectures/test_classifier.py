"""Classifiers that give the pseudolabels."""

import pytest
import timm
import torch
from PIL import Image

import architectures
from utilities.errors import UserError


def test_classifier_from_a_file(tmp_path):
    torch.manual_seed(3)
    reference = timm.create_model("test_resnet").eval()
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    found = architectures.load_classifier("test_resnet", str(tmp_path / "weights.pth")).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found(image), reference(image))


def test_classifier_from_a_foreign_file(tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match="--language_pseudoclass_weights") as error:
        architectures.load_classifier("test_resnet", str(tmp_path / "weights.pth"))
    assert str(tmp_path / "weights.pth") in str(error.value)


def test_classifier_of_other_classes_is_refused(tmp_path):
    name = "vit_tiny_patch16_224.augreg_in21k"
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match="--language_pseudoclass_arch.*1000"):
        architectures.load_classifier(name, str(tmp_path / "weights.pth"))


def test_transform_is_the_models_own_and_has_no_black_frame():
    model = timm.create_model("resnet50.tv_in1k")
    white = architectures.classifier_transform(model)(Image.new("RGB", (300, 200), "white"))
    assert white.shape == (3, 224, 224)
    assert torch.equal(white, white[:, :1, :1].expand_as(white))


def test_identity_tells_preprocessing_and_weights_apart():
    found = {architectures.classifier_identity(name) for name in ("resnet50", "resnet50.a1_in1k")}
    assert len(found) == 2 and found & {architectures.classifier_identity("resnet50.tv_in1k")}
    model = timm.create_model("resnet50.tv_in1k")
    config = timm.data.resolve_model_data_config(model)
    assert all(
        f"{key}={config[key]!r}" in architectures.classifier_identity("resnet50")
        for key in ("input_size", "interpolation", "crop_pct", "mean", "std")
    )
    with pytest.raises(UserError, match="--language_pseudoclass_arch"):
        architectures.classifier_identity("resnet5")
