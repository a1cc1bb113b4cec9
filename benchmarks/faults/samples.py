"""Valid inputs of every kind, from which `cases.py` makes odd ones; a few noisy images each."""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.faults.running import Case, forked

CLASSES = ("Auklet", "Blackbird", "Catbird", "Dove", "Egret", "Finch")
EACH = 4  # images of a class
ENDINGS = (".png", ".jpg", ".gif", ".tif")
ARCH = "test_resnet"
OF_A_TINY_RUN = """
    --arch test_resnet_normalize --not_pretrained --image_size 32 --embed_dim 8 --bs 8 --kernels 0
    --loss multisimilarity --device cpu --n_epochs 1 --no_figures --no_train_metrics
    --evaluation_metrics e_recall@1 --savename run
"""
TINY = OF_A_TINY_RUN.split()
GUIDED = ["--language_distill_w", "1", "--language_model", "minilm"]
EMBEDDED = ["--bs", "8", "--kernels", "0", "--device", "cpu"]
CARS = ("AM General Hummer", "Acura RL Sedan", "BMW M3 Coupe", "Volvo 240 Sedan")
Files = Mapping[str, bytes | str]


class Samples(NamedTuple):
    """Where the valid inputs lie; nothing of it is ever written again.

    Attributes:
        photos: a folder of class folders. rows: of a table of its images. run: a run's folder.
        cache: what that run has kept. weights: of its trunk, .pth. classifier: of 1000 classes.
        embeddings: of the photos, .npz. canary: a file that only a payload makes.
    """

    root: Path
    photos: Path
    rows: list[dict[str, str]]
    run: Path
    cache: Path
    weights: Path
    classifier: Path
    embeddings: Path
    canary: Path

    @property
    def checkpoint(self) -> Path:
        return self.run / "checkpoint_last.pth.tar"


def make(root: Path, *, pseudolabels: bool = True) -> Samples:
    """All samples, below a new folder; without pseudolabels the cache holds texts alone."""
    photos = root / "photos"
    rows = _photos(photos)
    weights, classifier = _weights(root)
    places = ["--save_path", str(root / "runs"), "--cache_path", str(root / "cache")]
    data = ["--dataset", "folder", "--source_path", str(photos)]
    labelled = ["--language_pseudoclass", "--language_pseudoclass_arch", ARCH]
    labelled += ["--language_pseudoclass_weights", str(classifier)]
    _made(root, Case("sample", "", "main", [*TINY, *data, *places, *GUIDED]))
    again = ["--savename", "again", "--cache", "disk", "--cache_limit", "0.001"]
    if pseudolabels:
        _made(root, Case("sample", "", "main", [*TINY, *data, *places, *GUIDED, *labelled, *again]))
    run, embeddings = root / "runs" / "folder" / "run", root / "photos.npz"
    for file in (embeddings, embeddings.with_suffix(".parquet")):
        embed = [str(run), "--from", str(photos), "--to", str(file), *EMBEDDED]
        _made(root, Case("sample", "", "programs.embed", embed))
    return Samples(
        root, photos, rows, run, root / "cache", weights, classifier, embeddings, root / "opened"
    )


def _made(root: Path, case: Case) -> None:
    outcome = forked(case, root / "making", 600)
    if outcome.status:
        raise RuntimeError(f"{case.program} {case.arguments} ended with {outcome}")


def _photos(folder: Path) -> list[dict[str, str]]:
    """Class folders of small images in four formats, and a row of a table for each image."""
    random, rows = np.random.default_rng(0), []
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(EACH):
            file = folder / name / f"{name}_{number}{ENDINGS[number]}"
            noise(random).save(file)
            part = ("train", "test")[label % 2]
            rows.append({"path": str(file), "label": name, "split": part, "caption": f"a {name}"})
    return rows


def noise(random: np.random.Generator, width: int = 57, height: int = 40) -> Image.Image:
    pixels = random.uniform(40, 215, 3) + random.normal(0, 30, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def image_bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def _weights(root: Path) -> tuple[Path, Path]:
    """Files of a trunk (.pth, and .safetensors beside it) and of a classifier."""
    torch.manual_seed(0)
    trunk, whole = timm.create_model(ARCH, num_classes=0), timm.create_model(ARCH)
    torch.save({"state_dict": trunk.state_dict()}, root / "trunk.pth")
    save_file(trunk.state_dict(), root / "trunk.safetensors")
    torch.save(whole.state_dict(), root / "classifier.pth")
    return root / "trunk.pth", root / "classifier.pth"


def csv_text(rows: list[dict[str, str]], separator: str = ",") -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with io.StringIO(newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue()


# Benchmarks as they are passed around.


def benchmark(name: str) -> dict[str, bytes | str]:
    """Path -> content of a small one, as its authors publish it."""
    return {"cub200": _birds, "cars196": _cars, "online_products": _products, "inshop": _clothes}[
        name
    ]()


def _jpeg(label: int, number: int) -> bytes:
    return image_bytes(noise(np.random.default_rng((label, number))), "JPEG")


def _birds() -> dict[str, bytes | str]:
    folders = [f"{label:03}.{name}" for label, name in enumerate(CLASSES, 1)]
    images = {
        f"{folder}/{folder[4:]}_{number}.jpg": _jpeg(label, number)
        for label, folder in enumerate(folders)
        for number in range(2)
    }
    numbered = list(enumerate(images, 1))
    lists: dict[str, bytes | str] = {
        "CUB/images.txt": "".join(f"{number} {path}\n" for number, path in numbered),
        "CUB/image_class_labels.txt": "".join(f"{n} {int(path[:3])}\n" for n, path in numbered),
    }
    return {**lists, **{f"CUB/images/{path}": content for path, content in images.items()}}


def _cars() -> dict[str, bytes | str]:
    from scipy.io import savemat

    cells = [(label, number) for number in range(2) for label in range(len(CARS))]
    names = [f"car_ims/{number:06}.jpg" for number in range(1, len(cells) + 1)]
    annotations = np.zeros(len(cells), dtype=[("relative_im_path", object), ("class", object)])
    for row, (name, (label, _)) in enumerate(zip(names, cells)):
        annotations[row] = (name, label + 1)
    with io.BytesIO() as file:
        variables = {"annotations": annotations, "class_names": np.array(CARS, dtype=object)}
        savemat(file, variables)
        listed = file.getvalue()
    images = {name: _jpeg(*cell) for name, cell in zip(names, cells)}
    return {"cars_annos.mat": listed, **images}


def _products() -> dict[str, bytes | str]:
    files: dict[str, bytes | str] = {}
    for part, labels in (("train", (1, 2)), ("test", (3, 4))):
        lines = ["image_id class_id super_class_id path"]
        for label in labels:
            for number in range(2):
                path = f"chair_final/{label}_{number}.JPG"
                files[f"SOP/{path}"] = _jpeg(label, number)
                lines.append(f"{len(files)} {label} 1 {path}")
        files[f"SOP/Ebay_{part}.txt"] = "\n".join(lines) + "\n"
    return files


def _clothes() -> dict[str, bytes | str]:
    files: dict[str, bytes | str] = {}
    rows, records = [], []
    for label in range(4):
        item = f"id_{label:08}"
        for number in range(2):
            path = f"img/WOMEN/Dresses/{item}/0{number}_1_front.jpg"
            files[path] = _jpeg(label, number)
            rows.append(f"{path} {item} {'train' if label < 2 else ('query', 'gallery')[number]}")
        records.append({"item": item, "description": [f"A dress, {label}.", "By hand."]})
    header = "image_name item_id evaluation_status"
    files["list_eval_partition.txt"] = "\n".join([str(len(rows)), header, *rows]) + "\n"
    files["list_description_inshop.json"] = json.dumps(records)
    return files


def zipped(files: Files) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return file.getvalue()


def tarred(files: Files, compression: str = "", more: list[tarfile.TarInfo] | None = None) -> bytes:
    """A tar of the files, and of members without content behind them."""
    with io.BytesIO() as file:
        mode = f"w:{compression}"
        with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
            for name, content in files.items():
                data = content if isinstance(content, bytes) else content.encode()
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            for member in more or []:
                archive.addfile(member)
        return file.getvalue()


def written(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
