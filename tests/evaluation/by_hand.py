"""Embeddings image by image, by the network and the transform of a checkpoint alone."""

from pathlib import Path

import numpy as np
import torch

from datasets.decoding import open_image
from evaluation import trained


def embeddings(checkpoint: Path, paths, evaltype: str = "embeds") -> np.ndarray:
    found = trained.load(checkpoint, torch.device("cpu"))
    mean, std = torch.tensor(found.network.mean), torch.tensor(found.network.std)
    crops = [
        found.transform.crop(open_image(str(path)), np.random.default_rng(0)) for path in paths
    ]
    with torch.no_grad():
        outputs = [
            found.network(((crop / 255 - mean) / std).permute(2, 0, 1)[None]) for crop in crops
        ]
    return torch.cat(
        [output.embeddings if evaltype == "embeds" else output.features for output in outputs]
    ).numpy()
