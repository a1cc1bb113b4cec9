"""Embeddings image by image, by the network and the transform of a checkpoint alone."""

from pathlib import Path

import numpy as np
import torch

from datasets.decoding import open_image
from programs import trained


def embeddings(checkpoint: Path, paths, evaltype: str = "embeds") -> np.ndarray:
    loaded = trained.load(checkpoint, "cpu")
    mean, std = torch.tensor(loaded.network.mean), torch.tensor(loaded.network.std)
    random = np.random.default_rng(0)
    rows = []
    for path in paths:
        crop = loaded.transform.crop(open_image(str(path), oriented=loaded.oriented()), random)
        with torch.no_grad():
            output = loaded.network(((crop / 255 - mean) / std).permute(2, 0, 1)[None])
        rows.append(output.embeddings if evaltype == "embeds" else output.features)
    return torch.cat(rows).numpy()
