"""The network of a checkpoint as a file that runs without this program, beside a description of its preprocessing.

python -m evaluation.export RUN_FOLDER --to exported --format onnx --check PHOTOS
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from datasets import integrity, loading, transforms
from evaluation import command_line, trained
from utilities.errors import UserError, reason

LOG = logging.getLogger("evaluation.export")
CHECKED, AT_ONCE = 64, 8  # images of a check, and of a batch of it
TOLERANCE = 1e-4  # of a difference, as a share of the largest number in the embeddings
LARGEST_ONNX = 2**31  # bytes that an ONNX file can hold; larger weights lie beside it
PREPROCESSING = "preprocessing.json"
USAGE = (
    "import json",
    "import numpy as np",
    "from PIL import Image",
    f"p = json.load(open('{PREPROCESSING}'))",
    "image = Image.open('image.jpg').convert('RGB')",
    "width, height = (int(p['resize_short_side'] * side / min(image.size)) for side in image.size)",
    "left, top = (round((side - p['center_crop']) / 2) for side in (width, height))",
    "image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + p['center_crop'], top + p['center_crop']))",
    "pixels = (np.asarray(image) / 255 - p['mean']) / p['std']",
    "images = pixels.astype(np.float32).transpose(2, 0, 1)[None]",
)


class Format(NamedTuple):
    """
    Attributes:
        file: its name. write: model, example of its input, file. open: file -> images [B, 3, N, N]
            -> embeddings [B, D].
        usage: further lines of Python behind USAGE.
    """

    file: str
    write: Callable[[nn.Module, torch.Tensor, Path], None]
    open: Callable[[Path], Callable[[np.ndarray], np.ndarray]]
    usage: tuple[str, ...]


class Embedder(nn.Module):
    """images [B, 3, N, N] -> embeddings [B, D]: the part of a network's output that is exported."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images).embeddings


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong flag or file or a model that gives other embeddings, 130 interrupted."""
    return command_line.run("export", run, parse(argv))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.build_parser(
        "export",
        f"Write the network as a model for batches of any size, and {PREPROCESSING}, which says how to feed it.",
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        required=True,
        help=f"Folder for the model and {PREPROCESSING}.",
    )
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        default="onnx",
        help="onnx (the default), for ONNX Runtime and others, or torch, for torch.export.load.",
    )
    parser.add_argument(
        "--check",
        metavar="FOLDER|IMAGE",
        nargs="+",
        default=[],
        help=f"Images for which the model must give the checkpoint's own embeddings; of more than {CHECKED} so many at even steps.",
    )
    return parser.parse_args(argv)


def run(flags: argparse.Namespace) -> None:
    """Export beside the destination, check, and only then move there. Raises UserError for a model that gives other embeddings."""
    files = trained.files_at(flags.check, "--check")
    network, made = trained.load(flags.checkpoint, torch.device("cpu")), FORMATS[flags.format]
    description = preprocessing(network, made)
    try:
        flags.to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=flags.to, prefix=".export-") as temporary:
            model = Path(temporary) / made.file
            example = torch.zeros(
                2, *description["input"]["shape"][1:]
            )  # a batch of one would be taken for a constant
            _export(network, flags.format, example, model)
            verdict = (
                check(network, files, made.open(model))
                if files
                else "not checked (--check FOLDER compares it with the checkpoint on images)"
            )
            (Path(temporary) / PREPROCESSING).write_text(json.dumps(description, indent=1) + "\n")
            for file in Path(temporary).iterdir():
                os.replace(file, flags.to / file.name)
    except OSError as error:
        raise UserError(
            f"--to {flags.to} cannot be written ({error.strerror or reason(error)})."
        ) from error
    LOG.info("%s: %s.", flags.to / made.file, verdict)


def preprocessing(network: trained.Trained, made: Format) -> dict:
    """What an image goes through before the network, as plain values, and the lines of Python that do it."""
    image_size, embedder = network.settings["image_size"], network.network
    crop = transforms.crop_size(network.settings["augmentation"], image_size)
    return {
        "model": made.file,
        "checkpoint": network.identity,
        "input": {
            "name": "images",
            "shape": ["batch", 3, crop, crop],
            "dtype": "float32",
            "channels": "RGB",
        },
        "output": {
            "name": "embeddings",
            "shape": ["batch", embedder.head.out_features],
            "dtype": "float32",
            "unit_length": embedder.unit_norm,
        },
        "resize_short_side": transforms.short_side(image_size),
        "interpolation": "bilinear, antialiased",
        "center_crop": crop,
        "scale": 1 / 255,
        "mean": list(embedder.mean),
        "std": list(embedder.std),
        "transparency": "laid on white",
        "usage": [*USAGE, *made.usage],
    }


def check(
    network: trained.Trained, files: list[str], exported: Callable[[np.ndarray], np.ndarray]
) -> str:
    """How far the model's embeddings of images are from the checkpoint's own. Raises UserError if that is more than rounding."""
    chosen = [
        files[place]
        for place in np.linspace(0, len(files) - 1, min(CHECKED, len(files))).round().astype(int)
    ]
    split = integrity.readable(trained.unlabelled(chosen), "--check")
    difference = largest = 0.0
    for batch in loading.evaluation_batches(
        split.with_transform(network.transform), batch_size=AT_ONCE, workers=0
    ):
        images = batch.to(network.device).images
        with torch.inference_mode():
            own = network.network(images).embeddings.numpy()
        difference = np.maximum(
            difference, np.abs(own - exported(images.numpy())).max()
        )  # keeps NaN, which max() would not
        largest = np.maximum(largest, np.abs(own).max())
    measured = f"largest difference {difference:.1e} from the checkpoint's own embeddings of {len(split)} images, whose numbers reach {largest:.2f}"
    if not difference <= TOLERANCE * largest:
        raise UserError(f"the exported model is wrong and was not kept: {measured}.")
    return f"checked, {measured}"


def _export(network: trained.Trained, file_format: str, example: torch.Tensor, file: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own parts
            FORMATS[file_format].write(Embedder(network.network), example, file)
    except ImportError as error:
        raise UserError(
            f"--format {file_format} needs more packages ({reason(error)}): pip install onnx onnxscript onnxruntime."
        ) from error
    except (
        Exception
    ) as error:  # the exporters raise many types for an operation that they do not know
        raise UserError(
            f"--format {file_format}: torch cannot export {network.settings['arch']} ({reason(error)}); try the other format."
        ) from error


def _write_onnx(model: nn.Module, images: torch.Tensor, file: Path) -> None:
    size = sum(part.numel() * part.element_size() for part in model.state_dict().values())
    torch.onnx.export(
        model,
        (images,),
        file,
        input_names=["images"],
        output_names=["embeddings"],
        dynamo=True,
        verbose=False,
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        external_data=size >= LARGEST_ONNX,
    )


def _open_onnx(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["embeddings"], {"images": images})[0]


def _write_torch(model: nn.Module, images: torch.Tensor, file: Path) -> None:
    torch.export.save(
        torch.export.export(
            model, (images,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}}
        ),
        file,
    )


def _open_torch(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    model = torch.export.load(file).module()
    return lambda images: model(torch.from_numpy(images)).detach().numpy()


FORMATS = {
    "onnx": Format(
        "model.onnx",
        _write_onnx,
        _open_onnx,
        (
            "import onnxruntime",
            "embeddings = onnxruntime.InferenceSession(p['model']).run(['embeddings'], {'images': images})[0]",
        ),
    ),
    "torch": Format(
        "model.pt2",
        _write_torch,
        _open_torch,
        (
            "import torch",
            "embeddings = torch.export.load(p['model']).module()(torch.from_numpy(images)).detach().numpy()",
        ),
    ),
}

if __name__ == "__main__":
    sys.exit(main())
