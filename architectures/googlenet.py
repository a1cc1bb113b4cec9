"""torchvision's GoogLeNet as a trunk: without classifier, auxiliary heads and dropout.

Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, with BatchNorm, as torchvision has it.
"""

from typing import Any, ClassVar

import torch

from architectures.mean_pooled import MeanPooled

ADDRESS = "https://download.pytorch.org/models/googlenet-1378be20.pth"
WIDTH = 1024
LAYERS = (
    "conv1",
    "maxpool1",
    "conv2",
    "conv3",
    "maxpool2",
    "inception3a",
    "inception3b",
    "maxpool3",
    "inception4a",
    "inception4b",
    "inception4c",
    "inception4d",
    "inception4e",
    "maxpool4",
    "inception5a",
    "inception5b",
)


class GoogLeNet(MeanPooled):
    """Images [B, 3, H, W] -> a map [B, 1024, h, w], h near H / 32.

    torchvision's weights are of images with mean and standard deviation 0.5, which its
    `transform_input` makes of ImageNet's; here images have them to begin with.
    """

    num_features = WIDTH
    pretrained_cfg: ClassVar[dict[str, Any]] = {
        "input_size": (3, 224, 224),
        "interpolation": "bilinear",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    }

    def __init__(self) -> None:
        super().__init__()
        import torchvision  # here, because it takes seconds to load

        # Its own start of all weights, by truncated normals, takes seconds and more.
        whole = torchvision.models.GoogLeNet(aux_logits=False, init_weights=False)
        for name in LAYERS:
            self.add_module(name, whole.get_submodule(name))

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> [B, 1024, h, w]."""
        x = images
        for name in LAYERS:
            x = self.get_submodule(name)(x)
        return x

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Which parameters are of which depth, as timm's models say it."""
        if coarse:
            return {"stem": r"^conv\d", "blocks": r"^inception(\d)"}
        names = [name for name in LAYERS if name.startswith("inception")]
        numbers = [(rf"^{name}\.", (number,)) for number, name in enumerate(names)]
        return {"stem": r"^conv\d", "blocks": numbers}
