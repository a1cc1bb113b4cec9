"""From settings to parts: what a person is told while they are built."""

import pytest

import build
import parameters
from utilities.runtime import Runtime


def settings(*flags: str) -> parameters.Settings:
    return parameters.parse([*flags, "--not_pretrained", "--image_size", "32", "--embed_dim", "8"])


@pytest.mark.parametrize(
    "arch, is_told",
    [("test_vit_frozen", True), ("test_vit", False), ("test_resnet_frozen_normalize", False)],
)
def test_frozen_without_batchnorm_is_told(caplog, arch, is_told):
    opt = settings("--arch", arch)
    with caplog.at_level("INFO"):
        build.build_network(opt, Runtime(), load_weights=True)
    assert (f"--arch {arch}: _frozen has no effect" in caplog.text) == is_told
