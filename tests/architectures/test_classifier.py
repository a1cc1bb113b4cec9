"""Classifiers that give the pseudolabels."""

import pytest
import timm
import torch
from PIL import Image

import architectures
from architectures import classifier
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


@pytest.mark.parametrize(
    "classes, subset", [(1000, "1k"), (11821, "12k"), (21843, "21k-goog"), (11221, "21k-miil")]
)
def test_the_number_of_classes_in_a_file_tells_which_they_are(tmp_path, classes, subset):
    torch.manual_seed(3)
    reference = timm.create_model("test_resnet", num_classes=classes).eval()
    file = str(tmp_path / "weights.pth")
    torch.save({"state_dict": reference.state_dict()}, file)
    assert architectures.classifier_subset("test_resnet", file) == f"imagenet-{subset}"
    found = architectures.load_classifier("test_resnet", file).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found(image), reference(image)) and found(image).shape == (1, classes)


def test_published_weights_say_which_classes_they_are_over():
    names = ("resnet50", "vit_tiny_patch16_224.augreg_in21k", "convnext_nano.in12k")
    subsets = [architectures.classifier_subset(name, None) for name in names]
    assert subsets == ["imagenet-1k", "imagenet-21k-goog", "imagenet-12k"]
    known = timm.data.imagenet_info._NUM_CLASSES_TO_SUBSET
    assert sorted(known) == list(classifier.SUBSETS)


def test_classifiers_of_other_classes_are_refused(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet", num_classes=7).state_dict(), file)
    with pytest.raises(UserError, match="--language_pseudoclass_weights .* has 7 classes.*21843"):
        architectures.load_classifier("test_resnet", str(file))
    with pytest.raises(UserError, match="--language_pseudoclass_arch .* has 512 classes"):
        architectures.classifier_subset("vit_base_patch16_clip_224.openai", None)
    with pytest.raises(UserError, match="--language_pseudoclass_arch .* has no classes"):
        architectures.classifier_subset("vit_small_patch14_dinov2.lvd142m", None)


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
