"""A network as a file that runs without this program, and a description of its preprocessing."""

import io
import json
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from datasets import integrity, loading, transforms
from programs import hub_folder, images, usage
from programs.constants import CHECKED_IMAGES, PREPROCESSING, TOLERANCE
from programs.trained import Trained
from utilities import durable, signals
from utilities.errors import UserError, named, reason
from utilities.paths import absent

CHECKED_AT_ONCE = 8  # images in a batch of a check
LARGEST_ONNX = 2**31  # bytes that an ONNX file can hold; larger weights lie in NAME.data beside it
IMPORTS = ("import json", "import numpy as np", "from PIL import Image, ImageOps")
# What makes the network's input of an image in RGB.
PREPARATION = (
    f"p = json.load(open('{PREPROCESSING}'))",
    "width, height = (int(p['resize_short_side'] * side / min(image.size)) for side in image.size)",
    "left, top = (round((side - p['center_crop']) / 2) for side in (width, height))",
    "resample = Image.Resampling[p['interpolation'].partition(',')[0].upper()]",
    "image = image.resize((width, height), resample)"
    ".crop((left, top, left + p['center_crop'], top + p['center_crop']))",
    "pixels = (np.asarray(image) / 255 - p['mean']) / p['std']",
    "images = pixels.astype(np.float32).transpose(2, 0, 1)[None]",
)
Embed = Callable[[np.ndarray], np.ndarray]  # images [B, 3, N, N] -> embeddings [B, D]


class Format(NamedTuple):
    """
    Attributes:
        file: its name. write: network, example of its input, file. open: file -> what embeds.
        usage: lines of Python that embed `images`. beside: names of what else `write` makes.
    """

    file: str
    write: Callable[[Trained, torch.Tensor, Path], None]
    open: Callable[[Path], Embed]
    usage: tuple[str, ...]
    beside: tuple[str, ...] = ()


class Embedder(nn.Module):
    """images [B, 3, N, N] -> embeddings [B, D]: the part of a network's output that is exported."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images).embeddings


def export(
    network: Trained,
    format_name: str,
    folder: Path,
    checked_files: list[str],
    texts: Mapping[str, str] | None = None,
) -> str:
    """Write the model and its description beside the folder, check, and only then move them there.

    Returns what was written and how the check ended.

    Args:
        checked_files: images on which the model is compared with the network; none: no check.
        texts: further files, name -> content.
    Raises:
        UserError: a model that gives other embeddings, one that torch cannot export, a folder
            that cannot be written, or one that holds something else under the same names.
    """
    made = FORMATS[format_name]
    description = preprocessing(network, made)
    written = {PREPROCESSING: json.dumps(description, indent=1) + "\n"} | dict(texts or {})
    _require_free(folder, made, written, network.identity)
    verdict = "not checked (--check FOLDER compares it with the checkpoint on images)"
    with _beside(folder) as temporary:
        model = temporary / made.file
        _write(network, format_name, model)
        if checked_files:
            verdict = check(network, checked_files, made.open(model))
        for name, text in written.items():
            (temporary / name).write_text(text, encoding="utf-8")
        with signals.held():  # a model without its description would be of nobody
            for file in sorted(temporary.iterdir(), key=lambda file: file.name != PREPROCESSING):
                durable.replace(file, folder / file.name)
    return f"{folder / made.file}: {verdict}."


def _require_free(folder: Path, made: Format, texts: Collection[str], checkpoint: str) -> None:
    """Raises UserError for files that would be lost, unless an export of this checkpoint made them.

    A README.md is its own only where it was of the same format.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder}: {absent(folder, 'folder')}")
    try:
        described = json.loads((folder / PREPROCESSING).read_text(encoding="utf-8"))
        of_same, of_format = described["checkpoint"] == checkpoint, described["model"]
    except (OSError, ValueError, TypeError, KeyError):
        of_same, of_format = False, None
    names = {made.file, *made.beside, *texts}
    if of_same:
        names -= names if of_format == made.file else {made.file, PREPROCESSING}
    if there := sorted(name for name in names if (folder / name).exists()):
        raise UserError(
            f"--to {folder} holds {named(there)} already, and nothing there says that they are an "
            "export of this checkpoint in this format; name another folder, or move them away."
        )


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A place on the same disk, which is gone afterwards; so are new folders that stay empty.

    Raises UserError where that cannot be written.
    """
    new = [above for above in (folder, *folder.parents) if not above.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
            yield Path(temporary)
    except Exception as error:
        if not durable.of_writing(error):
            raise
        raise UserError(f"--to {folder} cannot be written {durable.why(error)}") from error
    finally:
        with suppress(OSError):  # not empty, as wanted
            for above in new:
                above.rmdir()


def preprocessing(network: Trained, made: Format) -> dict[str, Any]:
    """What an image goes through before the network, as plain values, with Python that does it."""
    embedder = network.network
    crop = _crop_size(network)
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
            "shape": ["batch", network.dimension("embeds")],
            "dtype": "float32",
            "unit_length": embedder.unit_norm,
        },
        "resize_short_side": transforms.short_side(network.settings["image_size"]),
        "interpolation": f"{network.transform.interpolation}, antialiased",
        "center_crop": crop,
        "scale": 1 / 255,
        "mean": list(embedder.mean),
        "std": list(embedder.std),
        "transparency": "laid on white",
        "grey_of_16_bits": "the upper 8 of the 8, 12 or 16 bits that the largest value needs",
        "exif_orientation": "apply" if network.oriented() else "ignore",
        "usage": [
            *IMPORTS,
            *usage.reading(oriented=network.oriented()),
            *PREPARATION,
            *made.usage,
        ],
    }


def check(network: Trained, files: list[str], exported: Embed) -> str:
    """How far the model's embeddings of images are from the checkpoint's own.

    Raises UserError if that is more than rounding.
    """
    count = min(CHECKED_IMAGES, len(files))
    places = np.linspace(0, len(files) - 1, count).round().astype(int)
    named = images.unlabelled([files[place] for place in places])
    split = integrity.readable(named, "--check")
    batches = loading.evaluation_batches(
        split.with_transform(network.transform), batch_size=CHECKED_AT_ONCE, workers=0
    )
    difference = largest = 0.0
    for batch in batches:
        pixels = network.runtime.place(batch).images
        with torch.inference_mode():
            expected = network.network(pixels).embeddings.numpy()
        network.require_finite(expected, [split.files[place] for place in batch.indices.tolist()])
        # np.maximum keeps NaN, which max() would not.
        difference = np.maximum(difference, np.abs(expected - exported(pixels.numpy())).max())
        largest = np.maximum(largest, np.abs(expected).max())
    measured = (
        f"largest difference {difference:.1e} from the checkpoint's own embeddings of {len(split)} "
        f"images, whose numbers reach {largest:.2f}"
    )
    if not difference <= TOLERANCE * largest:
        raise UserError(f"the exported model is wrong and was not kept: {measured}.")
    return f"checked, {measured}"


def _crop_size(network: Trained) -> int:
    return transforms.crop_size(network.settings["augmentation"], network.settings["image_size"])


def _write(network: Trained, format_name: str, file: Path) -> None:
    crop = _crop_size(network)
    example = torch.zeros(2, 3, crop, crop)  # a batch of one would be taken for a constant
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own parts
            FORMATS[format_name].write(network, example, file)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"--format {format_name} needs more packages ({reason(error)}): "
            "pip install onnx onnxscript onnxruntime."
        ) from error
    # The exporters raise many types for an operation that they do not know.
    except Exception as error:
        if durable.of_writing(error):
            raise
        raise UserError(
            f"--format {format_name}: torch cannot export {network.settings['arch']} "
            f"({reason(error)}); try the other format."
        ) from error


def _any_batch() -> dict[str, dict[int, Any]]:
    return {"images": {0: torch.export.Dim("batch")}}


def _write_onnx(network: Trained, images: torch.Tensor, file: Path) -> None:
    """Raises ValueError for a model of one batch size, which the exporter tries in the end."""
    model = Embedder(network.network)
    size = sum(part.numel() * part.element_size() for part in model.state_dict().values())
    program = torch.onnx.export(
        model,
        (images,),
        file,
        input_names=["images"],
        output_names=["embeddings"],
        dynamo=True,
        verbose=False,
        dynamic_shapes=_any_batch(),
        external_data=size >= LARGEST_ONNX,
    )
    shape = program and program.model.graph.inputs[0].shape
    if not shape or isinstance(shape[0], int):
        raise ValueError(f"it would take batches of {len(images)} images only")


def _open_onnx(file: Path) -> Embed:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["embeddings"], {"images": images})[0]


def _write_torch(network: Trained, images: torch.Tensor, file: Path) -> None:
    model = Embedder(network.network)
    program = torch.export.export(model, (images,), dynamic_shapes=_any_batch())
    content = io.BytesIO()  # on a full disk torch's own writing ends the process
    torch.export.save(program, content)
    file.write_bytes(content.getbuffer())


def _open_torch(file: Path) -> Embed:
    model = torch.export.load(file).module()
    return lambda images: model(torch.from_numpy(images)).detach().numpy()


FORMATS = {
    "onnx": Format(
        "model.onnx",
        _write_onnx,
        _open_onnx,
        (
            "import onnxruntime",
            "embeddings = onnxruntime.InferenceSession(p['model'])"
            ".run(['embeddings'], {'images': images})[0]",
        ),
        beside=("model.onnx.data",),
    ),
    "torch": Format(
        "model.pt2",
        _write_torch,
        _open_torch,
        (
            "import torch",
            "embeddings = torch.export.load(p['model']).module()"
            "(torch.from_numpy(images)).detach().numpy()",
        ),
    ),
    "hub": Format(
        hub_folder.WEIGHTS,
        hub_folder.write,
        hub_folder.open_folder,
        (
            "import timm",
            "import torch",
            "model = timm.create_model('local-dir:.', pretrained=True).eval()",
            "rows = model(torch.from_numpy(images)).detach()",
            "if p['output']['unit_length']:",
            "    rows = torch.nn.functional.normalize(rows, dim=1)",
            "embeddings = rows.numpy()",
        ),
        beside=(hub_folder.CONFIGURATION,),
    ),
}
