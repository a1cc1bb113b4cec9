"""Odd inputs of every kind.

`KINDS[kind](random, samples, folder)` writes one below the folder and gives the call.
"""

import io
import json
import os
import pickle
import shutil
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import yaml
from PIL import Image
from pyarrow import parquet

import parameters
from benchmarks.faults import samples as valid
from benchmarks.faults.mutations import (
    NAMES_OF_ELSEWHERE,
    VALUES,
    WORDS,
    damaged,
    encoded,
    odd_rows,
    reshaped,
)
from benchmarks.faults.running import Case
from benchmarks.faults.samples import EMBEDDED, GUIDED, TINY, Samples
from utilities.flags import Choice

# Settings whose odd values are sizes that a machine has or has not: not what is tried here.
SIZES = {
    "n_epochs",
    "bs",
    "kernels",
    "embed_dim",
    "image_size",
    "arch",
    "device",
    "samples_per_class",
}
PLACES = {"source_path", "save_path", "cache_path", "config"}
OTHER_ENDINGS = (".png", ".jpg", ".JPEG", ".gif", ".tif", ".bmp", ".webp", ".ico", ".ppm", ".jp2")
BOMB = 60_000  # side of an image whose header alone is there


class Payload:
    """Touches the canary if it is unpickled by a reader that runs what a pickle says."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.canary), "w")


def _training(samples: Samples, folder: Path, **others: str) -> list[str]:
    """The arguments of a tiny run on the photos, some of them others."""
    places = {
        "dataset": "folder",
        "source_path": str(samples.photos),
        "save_path": str(folder / "runs"),
        "cache_path": str(folder / "cache"),
    }
    pairs = places | others
    return [*TINY, *(word for name, value in pairs.items() for word in (f"--{name}", value))]


def _given(folder: Path, name: str, content: bytes) -> Path:
    path = folder / "given" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Texts.


def settings(random: Random, samples: Samples, folder: Path) -> Case:
    whole = (samples.run / "args.yaml").read_text()
    tree = yaml.safe_load(whole)
    if random.random() < 0.4:
        mutation, content = damaged(random, whole.encode())
    else:
        free = {name: value for name, value in tree.items() if name not in SIZES | PLACES}
        mutation, free = reshaped(random, free)
        name, content = encoded(random, yaml.safe_dump(free, allow_unicode=True))
        mutation = f"{mutation} ({name})"
    file = _given(folder, "args.yaml", content)
    return Case("settings", mutation, "main", ["--config", str(file), *_training(samples, folder)])


def class_texts(random: Random, samples: Samples, folder: Path) -> Case:
    texts = {name: [f"a {name}", f"{name}, a bird"] for name in valid.CLASSES}
    if random.random() < 0.5:
        name = "texts.json"
        mutation, changed = reshaped(random, texts)
        whole = json.dumps(changed, ensure_ascii=random.random() < 0.5)
    else:
        name = "texts.csv"
        rows = [{"class": key, "text": text} for key, group in texts.items() for text in group]
        mutation, rows = odd_rows(random, rows)
        whole = valid.csv_text(rows)
    encoding, content = encoded(random, whole)
    if random.random() < 0.3:
        encoding, content = damaged(random, whole.encode())
    file = _given(folder, name, content)
    arguments = [*_training(samples, folder, class_text=str(file)), *GUIDED]
    shutil.copytree(samples.cache, folder / "cache")
    return Case("class texts", f"{name}: {mutation}, {encoding}", "main", arguments)


def class_lists(random: Random, samples: Samples, folder: Path) -> Case:
    lines = [random.choice((*valid.CLASSES, *WORDS)) for _ in range(random.randint(1, 4))]
    encoding, content = encoded(random, "\n".join(lines))
    if random.random() < 0.3:
        encoding, content = damaged(random, "\n".join(valid.CLASSES[:2]).encode())
    file = _given(folder, "validation.txt", content)
    arguments = _training(samples, folder, tv_split_classes=str(file))
    return Case("class lists", f"{lines!r:.60}, {encoding}", "main", [*arguments, "--use_tv_split"])


def tables(random: Random, samples: Samples, folder: Path) -> Case:
    mutation, rows = odd_rows(random, samples.rows)
    if random.random() < 0.5:
        name, separator = "table.csv", random.choice((*",,,,", ";", "\t", "|", " "))
        encoding, content = encoded(random, valid.csv_text(rows, separator))
        mutation = f"{mutation}, {encoding}, {separator!r}"
    else:
        name = "table.parquet"
        typed, table = _odd_columns(random, rows)
        with io.BytesIO() as buffer:
            parquet.write_table(table, buffer)
            content = buffer.getvalue()
        mutation = f"{mutation}, {typed}"
    if random.random() < 0.3:
        accident, content = damaged(random, content)
        mutation = f"{mutation}, {accident}"
    if random.random() < 0.1:
        name = random.choice(("table", "table.PARQUET", "table.CSV", "table.tsv", "table.xlsx"))
    file = _given(folder, name, content)
    arguments = _training(samples, folder, dataset="table", source_path=str(file))
    return Case("tables", f"{name}: {mutation}", "main", arguments)


def _odd_columns(random: Random, rows: list[dict[str, Any]]) -> tuple[str, pa.Table]:
    """The rows with one column of another type."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: pa.array([str(row.get(name, "")) for row in rows]) for name in names}
    count, changed = len(rows), random.choice(names)
    types: dict[str, Callable[[], pa.Array]] = {
        "texts": lambda: columns[changed],
        "lists": lambda: pa.array([["a", "b"]] * count),
        "dicts": lambda: pa.array([{"a": 1}] * count),
        "nulls": lambda: pa.nulls(count),
        "some nulls": lambda: pa.array([None, *columns[changed].to_pylist()[1:]]),
        "bytes": lambda: pa.array([b"\xff\xfe\x00"] * count),
        "times": lambda: pa.array([2**62] * count, pa.timestamp("us")),
        "days": lambda: pa.array([-(2**31)] * count, pa.date32()),
        "floats": lambda: pa.array([float("nan"), *([1.5] * (count - 1))]),
        "whole numbers": lambda: pa.array(range(count)),
        "decimals": lambda: pa.array(range(count), pa.decimal128(38, 10)),
        "booleans": lambda: pa.array([bool(row % 2) for row in range(count)]),
        "dictionaries": lambda: columns[changed].dictionary_encode(),
        "durations": lambda: pa.array([2**62] * count, pa.duration("ns")),
        "views": lambda: columns[changed].cast(pa.large_string()),
    }
    name = random.choice(list(types))
    columns[changed] = types[name]()
    pairs = list(columns.items())
    if random.random() < 0.1:
        pairs.append(random.choice(pairs))
    table = pa.Table.from_arrays([column for _, column in pairs], [key for key, _ in pairs])
    return f"{changed!r:.20} of {name}", table


# Images.


def images(random: Random, samples: Samples, folder: Path) -> Case:
    """One odd image among the photos, or an odd query."""
    mutation, content = _odd_image(random)
    photos, name = folder / "given" / "photos", f"odd{random.choice(OTHER_ENDINGS)}"
    shutil.copytree(samples.photos, photos)
    odd = _given(folder, f"photos/{random.choice(valid.CLASSES)}/{name}", content)
    mutation = f"{name}: {mutation}"
    bad = ["--on_bad_image", random.choice(("raise", "skip"))]
    read = ["--from", str(photos), "--to", str(folder / "photos.npz"), *EMBEDDED, *bad]
    picture = ["--picture", str(folder / "found.png")]
    asked = ["--index", str(samples.embeddings), "--query", str(odd), *picture, *EMBEDDED, *bad]
    checked = ["--to", str(folder / "exported"), "--format", "torch", "--check", str(odd)]
    arguments = [*_training(samples, folder, source_path=str(photos)), *bad]
    cached = ["--cache", "ram", "--cache_limit", "0.001", "--decoding", "exact"]
    return random.choice(
        (
            Case("images", mutation, "main", arguments),
            Case("images", mutation, "main", [*arguments, "--check_images", *cached]),
            Case("images", mutation, "programs.embed", [str(samples.run), *read]),
            Case("images", mutation, "programs.embed", [str(samples.run), *read]),
            Case("images", mutation, "programs.search", [str(samples.run), *asked]),
            Case("images", mutation, "programs.search", [str(samples.run), *asked]),
            Case("images", mutation, "programs.export", [str(samples.run), *checked]),
        )
    )


def _odd_image(random: Random) -> tuple[str, bytes]:
    if random.random() < 0.5:
        kind = random.choice(("PNG", "JPEG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO"))
        picture = valid.noise(np.random.default_rng(random.randrange(100)))
        accident, content = damaged(random, valid.image_bytes(picture, kind))
        return f"{kind}, {accident}", content
    name = random.choice(list(ODD_IMAGES))
    return name, ODD_IMAGES[name](random)


def _of_mode(random: Random) -> bytes:
    """Of a mode that is not RGB, in a format that takes it."""
    pairs = {
        "PNG": ("1", "L", "LA", "P", "RGBA", "I;16", "I"),
        "TIFF": ("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16"),
        "JPEG": ("L", "CMYK", "YCbCr"),
        "GIF": ("1", "L", "P"),
        "WEBP": ("RGBA",),
        "PPM": ("1", "L", "I"),
        "JPEG2000": ("L", "LA", "RGBA", "I;16"),
        "TGA": ("L", "LA", "P", "RGBA"),
    }
    kind = random.choice(list(pairs))
    picture = valid.noise(np.random.default_rng(1))
    mode = random.choice(pairs[kind])
    picture = (
        picture.convert("L").convert(mode) if mode.startswith("I") else _converted(picture, mode)
    )
    return valid.image_bytes(picture, kind)


def _converted(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "LAB":
        return Image.merge("LAB", picture.split())
    return picture.convert("L").convert("F") if mode == "F" else picture.convert(mode)


def _of_size(random: Random) -> bytes:
    width, height = random.choice(((1, 1), (1, 3000), (3000, 1), (2, 1), (20_000, 3)))
    picture = valid.noise(np.random.default_rng(2), width, height)
    return valid.image_bytes(picture, random.choice(("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")))


def _png(
    width: int, height: int, *chunks: tuple[bytes, bytes], depth: bytes = b"\x08\x02"
) -> bytes:
    header = struct.pack(">II", width, height) + depth + b"\0\0\0"
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    whole = b"\x89PNG\r\n\x1a\n"
    for name, data in parts:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        whole += struct.pack(">I", len(data)) + name + data + checksum
    return whole


def _bomb(random: Random) -> bytes:
    """A header that promises far more pixels than there are."""
    sides = struct.pack("<HH", 65_535, 65_535)
    jpeg = valid.image_bytes(valid.noise(np.random.default_rng(3)), "JPEG")
    at = jpeg.find(b"\xff\xc0") + 5
    tiff = valid.image_bytes(valid.noise(np.random.default_rng(3)), "TIFF")
    return random.choice(
        (
            _png(BOMB, BOMB),
            _png(2**31 - 1, 2**31 - 1),
            _png(12_000, 12_000),
            _png(0, 0),
            b"GIF89a" + sides + b"\xf7\0\0" + bytes(768) + b",\0\0\0\0" + sides + b"\0\x08\0",
            jpeg[:at] + b"\xff\xff\xff\xff" + jpeg[at + 4 :],
            tiff.replace(struct.pack("<HHI", 256, 4, 1) + b"\x39", b"\0\1\4\0\1\0\0\0\xff"),
            b"P6 60000 60000 255\n" + bytes(100),
            b"BM" + struct.pack("<IIIIii", 100, 0, 54, 40, BOMB, BOMB) + bytes(100),
        )
    )


def _texts_within(random: Random) -> bytes:
    """A PNG whose compressed text is larger than anybody reads."""
    text = b"Comment\0\0" + zlib.compress(bytes(80 * 2**20), 9)
    return _png(20, 20, (b"zTXt", text))


def _exif(random: Random) -> bytes:
    """A JPEG with damaged EXIF."""
    exif = Image.Exif()
    exif[0x0112] = random.choice((0, 3, 6, 9, 65_535))
    exif[0x010E] = "é" * 200
    whole = valid.image_bytes(valid.noise(np.random.default_rng(4)), "JPEG", exif=exif)
    at = whole.find(b"Exif\0\0") + 6
    _, damage = damaged(random, whole[at : at + 60])
    return whole[:at] + damage[:60].ljust(60, b"\0") + whole[at + 60 :]


def _animated(random: Random) -> bytes:
    frames = [valid.noise(np.random.default_rng(number)) for number in range(3)]
    kind = random.choice(("GIF", "PNG", "WEBP", "TIFF"))
    whole = valid.image_bytes(frames[0], kind, save_all=True, append_images=frames[1:])
    return whole if random.random() < 0.5 else damaged(random, whole)[1]


def _circular_tiff(random: Random) -> bytes:
    """Directories of a TIFF that lead to each other."""
    whole = valid.image_bytes(valid.noise(np.random.default_rng(5)), "TIFF")
    (start,) = struct.unpack("<I", whole[4:8])
    (entries,) = struct.unpack("<H", whole[start : start + 2])
    end = start + 2 + 12 * entries
    return whole[:end] + struct.pack("<I", start) + whole[end + 4 :]


def _foreign(random: Random) -> bytes:
    return random.choice(
        (
            b"<html><body>404 Not Found</body></html>",
            b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9' height='9'/></svg>",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n",
            b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n",
            pickle.dumps({"a": 1}),
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            b"#define im_width 99999\n#define im_height 99999\nstatic char im_bits[] = { 0x00 };",
            b'/* XPM */\nstatic char *a[] = {"9 9 1 1","a c #000000"};',
            b"8BPS\0\1" + bytes(6) + b"\0\3" + struct.pack(">II", 30_000, 30_000) + b"\0\x08\0\3",
            b"qoif" + struct.pack(">II", BOMB, BOMB) + b"\3\0" + bytes(20),
            b"DDS " + struct.pack("<IIII", 124, 0x1007, BOMB, BOMB) + bytes(200),
            b"\x0a\x05\x01\x08" + struct.pack("<HHHH", 0, 0, 65_534, 65_534) + bytes(200),
            b"icns" + struct.pack(">I", 2**31) + b"ic10" + struct.pack(">I", 2**31),
            b"\0\0\1\0\1\0\0\0\0\0\1\0\x20\0" + struct.pack("<II", 2**30, 22),
            b"\x01\xda\0\1\0\3" + struct.pack(">HHH", 65_535, 65_535, 3) + bytes(500),
        )
    )


ODD_IMAGES: dict[str, Callable[[Random], bytes]] = {
    "another mode": _of_mode,
    "another size": _of_size,
    "a bomb": _bomb,
    "a large text within": _texts_within,
    "damaged EXIF": _exif,
    "an animation": _animated,
    "a TIFF that goes in circles": _circular_tiff,
    "no photo": _foreign,
}


# Folders and places.


def folders(random: Random, samples: Samples, folder: Path) -> Case:
    """A tree of photos in which something is no file, or oddly named."""
    photos = folder / "given" / "photos"
    shutil.copytree(samples.photos, photos)
    done = [_oddity(random, photos, samples) for _ in range(random.choice((1, 2, 3)))]
    read = ["--from", str(photos), "--to", str(folder / "photos.npz"), *EMBEDDED]
    table = ["--to", str(folder / "photos.parquet")]
    query = str(random.choice(list(photos.rglob("*"))))
    asked = ["--index", str(photos), "--query", query, "--save_index", str(folder / "index")]
    case = random.choice(
        (
            Case("folders", "", "main", _training(samples, folder, source_path=str(photos))),
            Case("folders", "", "programs.embed", [str(samples.run), *read]),
            Case("folders", "", "programs.embed", [str(samples.run), *read, *table]),
            Case("folders", "", "programs.search", [str(samples.run), *asked, *EMBEDDED]),
        )
    )
    return case._replace(mutation="; ".join(done))


def _oddity(random: Random, photos: Path, samples: Samples) -> str:
    """Something in the tree that is rarely there."""
    home = photos / random.choice(valid.CLASSES)
    home.mkdir(exist_ok=True)
    inside = home / random.choice(("odd.png", "odd", "odd.png/", ".odd.jpg", "a b.jpg"))
    if inside.exists() or inside.is_symlink():
        return "nothing"
    name = random.choice(list(ODDITIES))
    ODDITIES[name](inside, samples)
    return f"{name} {inside.name}"


def _named_by_bytes(place: Path, samples: Samples) -> None:
    name = os.fsdecode(b"\xff\xfe\n\x1b[31m.png")
    shutil.copy(next(samples.photos.rglob("*.png")), place.with_name(name))


def _long_name(place: Path, samples: Samples) -> None:
    shutil.copy(next(samples.photos.rglob("*.png")), place.with_name("x" * 251 + ".png"))


def _deep(place: Path, samples: Samples) -> None:
    deep = place.parent.joinpath(*["d"] * 60)
    deep.mkdir(parents=True)
    shutil.copy(next(samples.photos.rglob("*.png")), deep / "deep.png")


def _listening(place: Path, samples: Samples) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        before = os.open(".", os.O_RDONLY)
        os.chdir(place.parent)  # names of sockets are short
        server.bind(place.name)
        os.fchdir(before)
        os.close(before)


def _emptied(place: Path, samples: Samples) -> None:
    for file in place.parent.iterdir():
        if file.is_file():
            file.unlink()


def _only_one(place: Path, samples: Samples) -> None:
    for other in place.parent.parent.iterdir():
        if other != place.parent:
            shutil.rmtree(other)


def _parts(place: Path, samples: Samples) -> None:
    for number, other in enumerate(sorted(place.parent.parent.iterdir())):
        other.rename(other.with_name(("train", "test", "val", "query", "x", "gallery")[number % 6]))


ODDITIES: dict[str, Callable[[Path, Samples], None]] = {
    "a pipe": lambda place, samples: os.mkfifo(place),
    "a socket": _listening,
    "a link to /dev/zero": lambda place, samples: place.symlink_to("/dev/zero"),
    "a link to itself": lambda place, samples: place.symlink_to(place.name),
    "a link to the folder above": lambda place, samples: place.symlink_to(".."),
    "a link to nothing": lambda place, samples: place.symlink_to("nothing"),
    "a link to the photos": lambda place, samples: place.symlink_to(samples.photos),
    "a folder": lambda place, samples: place.mkdir(),
    "a name of bytes in": _named_by_bytes,
    "a long name in": _long_name,
    "a deep folder in": _deep,
    "nothing else beside": _emptied,
    "no other class beside": _only_one,
    "parts instead of classes beside": _parts,
}


def places(random: Random, samples: Samples, folder: Path) -> Case:
    """A path that is no such file: a pipe, a device, a folder, a name that cannot be."""
    kind, path = _odd_place(random, samples, folder)
    training = _training(samples, folder)
    run, npz = str(samples.run), str(samples.embeddings)
    photo = str(next(samples.photos.rglob("*.png")))
    to = ["--to", str(folder / "made.npz")]
    searching = ["--index", npz, "--query", photo, *EMBEDDED]
    own = ("--dataset", "table", "--source_path", path)
    pseudo = ("--language_pseudoclass", "--language_pseudoclass_weights", path)
    calls: list[tuple[str, list[str]]] = [
        *[
            ("main", [*training, flag, path])
            for flag in ("--config", "--resume", "--evaluate_only")
        ],
        *[("main", [*training, flag, path]) for flag in ("--save_path", "--source_path")],
        (
            "main",
            [*[word for word in training if word != "--not_pretrained"], "--arch_weights", path],
        ),
        ("main", [*training, "--class_text", path, *GUIDED]),
        ("main", [*training, "--cache_path", path, "--cache", "disk"]),
        ("main", [*training, "--tv_split_classes", path, "--use_tv_split"]),
        ("main", [*training, *own]),
        ("main", [*training, *GUIDED, *pseudo]),
        ("main", [*training, *GUIDED, "--language_model", f"hf:{path}"]),
        *[(f"programs.{name}", [path, *to]) for name in ("embed", "export")],
        ("programs.search", [path, *searching]),
        ("programs.search", [run, *searching, "--index", path]),
        ("programs.search", [run, "--index", npz, *EMBEDDED, "--query", path]),
        (
            "programs.search",
            [run, *searching, "--index", str(samples.photos), "--save_index", path],
        ),
        ("programs.embed", [run, *to, *EMBEDDED, "--from", path]),
        ("programs.embed", [run, *EMBEDDED, "--from", str(samples.photos), "--to", path]),
        ("programs.export", [run, "--format", "torch", "--to", path]),
        ("programs.export", [run, "--to", str(folder / "made"), "--check", path]),
        ("programs.prepare", ["cub200", "--to", str(folder / "data"), "--from", path]),
        ("programs.prepare", ["cub200", "--to", path, "--from", str(samples.photos)]),
    ]
    program, arguments = random.choice(calls)
    return Case("places", f"{kind} as a path", program, arguments)


def _odd_place(random: Random, samples: Samples, folder: Path) -> tuple[str, str]:
    home = folder / "given"
    home.mkdir()
    name = "odd" + random.choice(("", ".npz", ".parquet", ".csv", ".json", ".zip", ".tar", ".png"))
    kind = random.choice(("a pipe", "a folder", "a socket", "a link to itself", "a name"))
    if kind == "a name":
        longest = "x" * 300
        odd = random.choice((longest, "\ud800", "a\nb.npz", os.fsdecode(b"\xff.npz"), "", " ", "-"))
        return f"the name {odd!a:.20}", str(home / odd) if odd else odd
    if kind == "a folder":
        (home / name).mkdir()
    else:
        ODDITIES[kind](home / name, samples)
    if random.random() < 0.2:
        kind, name = "a device", random.choice(("/dev/null", "/dev/zero", "/dev/full"))
    return kind, str(home / name)


# Files of tensors.


def _odd_pickle(random: Random, samples: Samples, state: Any) -> tuple[str, bytes]:
    """What torch.save or pickle made, of a state that is not as it should be."""
    name = random.choice(
        ("payload inside", "payload", "plain pickle", "reshaped", "reshaped", "odd tensors")
    )
    if name == "reshaped":
        name, state = reshaped(random, state, (*VALUES, torch.zeros(3), torch.zeros(0)))
    elif name == "payload inside":
        state["settings" if "settings" in state else "x"] = Payload(samples.canary)
    elif name == "odd tensors":
        name, state = _odd_tensors(random, state)
    if name == "payload":
        return name, pickle.dumps(Payload(samples.canary))
    if name == "plain pickle":
        return name, pickle.dumps({"state_dict": {}, "x": Payload(samples.canary)})
    with io.BytesIO() as buffer:
        torch.save(state, buffer, _use_new_zipfile_serialization=random.random() < 0.8)
        return name, buffer.getvalue()


def _odd_tensors(random: Random, state: Any) -> tuple[str, Any]:
    tensors = [(owner, key) for owner, key in _leaves(state) if torch.is_tensor(owner[key])]
    owner, key = random.choice(tensors)
    value = owner[key]
    changes: dict[str, Callable[[], torch.Tensor]] = {
        "NaN": lambda: torch.full_like(value, float("nan")) if value.is_floating_point() else value,
        "infinite": lambda: value.double() * 1e300 * 1e300,
        "half": lambda: value.half(),
        "complex": lambda: value.to(torch.complex64),
        "boolean": lambda: value.bool(),
        "sparse": lambda: value.to_sparse() if value.ndim else value,
        "meta": lambda: value.to("meta"),
        "of another shape": lambda: value[None],
        "empty": lambda: torch.zeros(0),
        "overlapping": lambda: torch.zeros(1).expand(2**40) if random.random() < 0.5 else value,
    }
    name = random.choice(list(changes))
    owner[key] = changes[name]()
    return f"{key!r:.30} {name}", state


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    pairs: Any = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in pairs:
        inner = isinstance(value, dict | list)
        found += _leaves(value) if inner else [(tree, key)]
    return found


def _odd_tensor_file(random: Random, samples: Samples, whole: Path) -> tuple[str, bytes]:
    content = whole.read_bytes()
    if random.random() < 0.5:
        return damaged(random, content, [samples.embeddings.read_bytes()])
    if random.random() < 0.2:
        return _odd_zip(random, content)
    return _odd_pickle(random, samples, torch.load(whole, weights_only=True))


def _odd_zip(random: Random, content: bytes) -> tuple[str, bytes]:
    """The members of a zip file anew, one of them other, missing, twice, or a bomb."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = random.choice(list(members))
    change = random.choice(("missing", "a bomb", "damaged", "escaping", "compressed"))
    if change == "missing":
        del members[chosen]
    elif change == "a bomb":
        members[chosen] = bytes(2**28)
    elif change == "damaged":
        members[chosen] = damaged(random, members[chosen])[1]
    elif change == "escaping":
        members["../../escaped"] = members.pop(chosen)
    with io.BytesIO() as buffer:
        stored = zipfile.ZIP_STORED if change in ("missing", "escaping") else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(buffer, "w", stored) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return f"member {chosen.rpartition('/')[2]} {change}", buffer.getvalue()


def checkpoints(random: Random, samples: Samples, folder: Path) -> Case:
    mutation, content = _odd_tensor_file(random, samples, samples.checkpoint)
    path = str(_given(folder, "odd.pth.tar", content))
    photos, photo = str(samples.photos), str(next(samples.photos.rglob("*.png")))
    going_on = [*_training(samples, folder), *GUIDED, "--n_epochs", "2", "--resume", path]
    calls: list[tuple[str, list[str]]] = [
        ("main", going_on),
        ("main", going_on),
        ("main", [*_training(samples, folder), "--evaluate_only", path]),
        ("main", ["--evaluate_only", path, "--save_path", str(folder / "runs"), "--no_figures"]),
        ("programs.embed", [path, "--from", photos, "--to", str(folder / "a.npz"), *EMBEDDED]),
        ("programs.search", [path, "--index", photos, "--query", photo, *EMBEDDED]),
        ("programs.export", [path, "--to", str(folder / "exported"), "--format", "torch"]),
    ]
    shutil.copytree(samples.cache, folder / "cache")
    return Case("checkpoints", mutation, *random.choice(calls))


def run_folders(random: Random, samples: Samples, folder: Path) -> Case:
    """A file of a run's folder is damaged; then the run goes on, or is looked for."""
    shutil.copytree(samples.run.parent.parent, folder / "runs")
    shutil.copytree(samples.cache, folder / "cache")
    run = folder / "runs" / "folder" / "run"
    names = ("args.yaml", "results.json", "CSV_Logs/Data_Train_loss.csv", "checkpoint_last.pth.tar")
    file = run / random.choice(names)
    if file.suffix == ".yaml" and random.random() < 0.7:
        mutation, tree = reshaped(random, yaml.safe_load(file.read_text()))
        file.write_text(yaml.safe_dump(tree))
    elif file.suffix == ".json" and random.random() < 0.7:
        mutation, tree = reshaped(random, json.loads(file.read_text()))
        file.write_text(json.dumps(tree))
    else:
        mutation, content = damaged(random, file.read_bytes())
        file.write_bytes(content)
    training = [*_training(samples, folder), *GUIDED]
    ways = (
        [*training, "--n_epochs", "2", "--resume", "auto"],
        [*training, "--resume", str(run)],
        [*training, "--completed"],
        training,
        ["--config", str(run / "args.yaml"), *training, "--completed"],
    )
    return Case("run folders", f"{file.name}: {mutation}", "main", random.choice(ways))


def weights(random: Random, samples: Samples, folder: Path) -> Case:
    sources = (samples.weights, samples.classifier, samples.weights.with_suffix(".safetensors"))
    whole = random.choice(sources)
    if whole.suffix == ".safetensors":
        mutation, content = _odd_safetensors(random, whole.read_bytes())
    else:
        mutation, content = _odd_tensor_file(random, samples, whole)
    name = random.choice((whole.name, whole.name, "w.npz", "w.npy", "w.bin", "w.pt"))
    path = str(_given(folder, name, content))
    training = _training(samples, folder)
    if whole == samples.classifier:
        shutil.copytree(samples.cache, folder / "cache")
        for kept in (folder / "cache").glob("logits-*"):
            kept.unlink()
        labelled = ["--language_pseudoclass", "--language_pseudoclass_arch", valid.ARCH]
        arguments = [*training, *GUIDED, *labelled, "--language_pseudoclass_weights", path]
    else:
        arguments = [word for word in training if word != "--not_pretrained"]
        arguments += ["--arch_weights", path]
    return Case("weights", f"{name}: {mutation}", "main", arguments)


def _odd_safetensors(random: Random, content: bytes) -> tuple[str, bytes]:
    if random.random() < 0.5:
        return damaged(random, content)
    (length,) = struct.unpack("<Q", content[:8])
    mutation, header = reshaped(random, json.loads(content[8 : 8 + length]))
    text = json.dumps(header).encode()
    return mutation, struct.pack("<Q", len(text)) + text + content[8 + length :]


def caches(random: Random, samples: Samples, folder: Path) -> Case:
    """A file of the cache is damaged, and the run that made it is made again."""
    shutil.copytree(samples.cache, folder / "cache")
    kept = random.choice(sorted((folder / "cache").iterdir()))
    if kept.suffix == ".pt" and random.random() < 0.5:
        stored = {"tensor": torch.load(kept, weights_only=True)}
        mutation, content = _odd_pickle(random, samples, stored)
    else:
        mutation, content = damaged(random, kept.read_bytes())
    kept.write_bytes(content)
    labelled = ["--language_pseudoclass", "--language_pseudoclass_arch", valid.ARCH]
    labelled += ["--language_pseudoclass_weights", str(samples.classifier)]
    disk = ["--cache", "disk", "--cache_limit", "0.001"]
    arguments = [*_training(samples, folder), *GUIDED, *labelled, *disk]
    return Case("caches", f"{kept.name.partition('-')[0]:.8}: {mutation}", "main", arguments)


# Embeddings.


def embeddings(random: Random, samples: Samples, folder: Path) -> Case:
    """An odd file of embeddings, as --index, or in a folder that --save_index made."""
    suffix = random.choice((".npz", ".parquet"))
    content = samples.embeddings.with_suffix(suffix).read_bytes()
    if random.random() < 0.4:
        mutation, content = damaged(random, content)
    else:
        mutation, content = ODD_EMBEDDINGS[suffix](random, samples, content)
    query = ["--query", str(next(samples.photos.rglob("*.png"))), *EMBEDDED]
    if random.random() < 0.5:
        query += ["--picture", str(folder / "found.png")]
    stored = _given(folder, "embeddings.npz", content)
    file = _given(folder, f"odd{suffix}", content)
    photos = ["--index", str(samples.photos), "--save_index", str(stored.parent)]
    index = random.choice((["--index", str(file)], ["--index", str(stored.parent)], photos))
    arguments = [str(samples.run), *index, *query]
    return Case("embeddings", f"{suffix}: {mutation}", "programs.search", arguments)


def _odd_npz(random: Random, samples: Samples, content: bytes) -> tuple[str, bytes]:
    if random.random() < 0.3:
        return _odd_zip(random, content)
    with np.load(io.BytesIO(content)) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    name = random.choice(list(arrays))
    whole = arrays[name]
    others: dict[str, Callable[[], object]] = {
        "payload": lambda: np.array([Payload(samples.canary)], dtype=object),
        "objects": lambda: np.array([{"a": 1}, None], dtype=object),
        "shorter": lambda: whole[:-1] if whole.ndim else whole,
        "empty": lambda: np.zeros(0),
        "flat": lambda: whole.ravel(),
        "one": lambda: np.float32(3),
        "negative": lambda: -np.ones(whole.shape, dtype=np.int64),
        "large": lambda: np.full(whole.shape, 10**9),
        "texts": lambda: whole.astype(str),
        "doubles": lambda: np.ones(whole.shape),
        "whole numbers": lambda: np.ones(whole.shape, dtype=np.int8),
        "complex": lambda: np.ones(whole.shape, dtype=np.complex64),
        "big-endian": lambda: whole.astype(whole.dtype.newbyteorder()),
        "wider": lambda: np.concatenate([whole, whole], axis=-1) if whole.ndim else whole,
        "in Fortran's order": lambda: np.asfortranarray(whole),
        "bytes": lambda: np.full(whole.shape, b"\xff"),
        "records": lambda: np.zeros(whole.shape, dtype=[("a", "f4"), ("b", "i8")]),
        "times": lambda: np.zeros(whole.shape, dtype="M8[s]"),
    }
    change = random.choice(list(others))
    arrays[name] = others[change]()
    with io.BytesIO() as buffer:
        np.savez(buffer, **arrays)
        return f"{name} {change}", buffer.getvalue()


def _odd_parquet(random: Random, samples: Samples, content: bytes) -> tuple[str, bytes]:
    table = parquet.read_table(io.BytesIO(content))
    name = random.choice(table.column_names)
    place, count = table.column_names.index(name), len(table)
    others: dict[str, Callable[[], pa.Array]] = {
        "nulls": lambda: pa.nulls(count),
        "texts": lambda: pa.array(["x"] * count),
        "whole numbers": lambda: pa.array([-7] * count),
        "large numbers": lambda: pa.array([10**12] * count),
        "lists of two lengths": lambda: pa.array([[1.0] * (1 + row % 2) for row in range(count)]),
        "lists with nulls": lambda: pa.array([[1.0, None]] * count),
        "lists of texts": lambda: pa.array([["a"]] * count),
        "floats": lambda: pa.array([0.5] * count),
        "bytes": lambda: pa.array([b"\xff"] * count),
        "dictionaries": lambda: pa.array(["x"] * count).dictionary_encode(),
    }
    change = random.choice((*others, "missing", "no rows", "no metadata", "odd metadata", "twice"))
    if change in others:
        table = table.set_column(place, name, others[change]())
    elif change == "missing":
        table = table.drop_columns([name])
    elif change == "twice":
        table = table.append_column(name, table[name])
    elif change == "no rows":
        table = table.slice(0, 0)
    else:
        odd = {"checkpoint": b"\xff\xfe", "evaltype": "x"} if change == "odd metadata" else None
        if random.random() < 0.5 and odd:
            odd = {**(table.schema.metadata or {}), b"evaltype": random.choice(WORDS).encode()}
        table = table.replace_schema_metadata(odd)
    with io.BytesIO() as buffer:
        parquet.write_table(table, buffer)
        return f"{name} {change}", buffer.getvalue()


ODD_EMBEDDINGS = {".npz": _odd_npz, ".parquet": _odd_parquet}


# Benchmarks.


def archives(random: Random, samples: Samples, folder: Path) -> Case:
    """An archive of a benchmark that is damaged, lies, or would be unpacked elsewhere."""
    name = random.choice(("cub200", "cub200", "cars196", "online_products", "inshop"))
    suffix = random.choice((".zip", ".zip", ".tar", ".tgz", ".tar.bz2", ".tar.xz", ".TAR", ".ZIP"))
    files = valid.benchmark(name)
    lower = suffix.lower()
    if random.random() < 0.5:
        mutation, content = _odd_archive(random, files, lower, folder)
    else:
        mutation, content = damaged(random, _packed(files, lower))
    if random.random() < 0.1:
        suffix = random.choice((".zip", ".tar", ".tgz", ".rar"))
    path = _given(folder, f"benchmark{suffix}", content)
    arguments = [name, "--from", str(path), "--to", str(folder / "data"), "--allow_partial"]
    return Case("archives", f"{name}{suffix}: {mutation}", "programs.prepare", arguments)


def _packed(files: valid.Files, suffix: str, more: list[tarfile.TarInfo] | None = None) -> bytes:
    if suffix == ".zip":
        return valid.zipped(files)
    compression = {".tgz": "gz", ".tar.bz2": "bz2", ".tar.xz": "xz"}.get(suffix, "")
    return valid.tarred(files, compression, more)


def _odd_archive(
    random: Random, files: dict[str, bytes | str], suffix: str, folder: Path
) -> tuple[str, bytes]:
    choice = random.choice(("elsewhere", "kinds", "bomb", "names", "size", "within", "list"))
    first = next(iter(files))
    if choice == "elsewhere":
        elsewhere = random.choice(
            (*NAMES_OF_ELSEWHERE, str(folder.parent / "escaped"), "..\\..\\x")
        )
        return f"{choice} {elsewhere:.30}", _packed(files | {elsewhere: b"x"}, suffix)
    if choice == "bomb":
        return choice, _packed(files | {"CUB/large.txt": bytes(2**28)}, suffix)
    if choice == "within":
        inner = {f"{first}.zip": _packed(files, ".zip"), "a.tar": b"x"}
        return choice, _packed(inner, suffix)
    if choice == "names":
        odd = random.choice(
            ("CUB/images/a\nb/c.jpg", "x" * 300, f"{first}/x", "a\0b", "CUB", "é\udcff")
        )
        return f"{choice} {odd!r:.20}", _packed(files | {_zip_name(odd, suffix): b"x"}, suffix)
    if choice == "list":
        listed = random.choice([path for path in files if not path.lower().endswith(".jpg")])
        whole = files[listed]
        accident, content = damaged(random, whole if isinstance(whole, bytes) else whole.encode())
        return f"{listed} {accident}", _packed(files | {listed: content}, suffix)
    if suffix == ".zip":
        content = _packed(files, suffix)
        return "a size that lies", _with_sizes(random, content)
    return _tar_with_odd_members(random, files, suffix, folder)


def _zip_name(name: str, suffix: str) -> str:
    return name.replace("\udcff", "ü") if suffix == ".zip" else name


def _with_sizes(random: Random, content: bytes) -> bytes:
    """A zip whose directory says other sizes of a member."""
    at = content.rfind(b"PK\1\2")
    field = at + random.choice((20, 24, 42))
    size = struct.pack("<I", random.choice((0, 1, 2**31, 2**32 - 2)))
    return content[:field] + size + content[field + 4 :]


def _tar_with_odd_members(
    random: Random, files: valid.Files, suffix: str, folder: Path
) -> tuple[str, bytes]:
    member = tarfile.TarInfo(random.choice(("CUB/odd", "odd.jpg", "CUB/images/odd/odd.jpg")))
    kinds = {
        "link out": (tarfile.SYMTYPE, str(folder.parent)),
        "link above": (tarfile.SYMTYPE, "../../../.."),
        "hard link out": (tarfile.LNKTYPE, "/etc/passwd"),
        "hard link to nothing": (tarfile.LNKTYPE, "nothing"),
        "link to itself": (tarfile.SYMTYPE, "odd.jpg"),
        "link to the folder": (tarfile.SYMTYPE, "."),
        "pipe": (tarfile.FIFOTYPE, ""),
        "device": (tarfile.CHRTYPE, ""),
        "folder": (tarfile.DIRTYPE, ""),
        "sparse": (tarfile.GNUTYPE_SPARSE, ""),
        "unknown": (b"Z", ""),
    }
    kind = random.choice(list(kinds))
    member.type, member.linkname = kinds[kind]
    member.mode = random.choice((0o644, 0o7777, 0))
    through = tarfile.TarInfo(f"{member.name}/escaped")
    if random.random() < 0.3:
        member.size, kind = 2**50, f"{kind} of an enormous size"
    return f"{kind} {member.name}", _packed(files, suffix, [member, through])


def benchmarks(random: Random, samples: Samples, folder: Path) -> Case:
    """A folder of a benchmark's files, or a made one, one of whose lists or names is odd."""
    name = random.choice(("cub200", "cars196", "online_products", "inshop"))
    files = valid.benchmark(name)
    listed = random.choice([path for path in files if not path.lower().endswith(".jpg")])
    whole = files[listed]
    content = whole if isinstance(whole, bytes) else whole.encode()
    if listed.endswith(".json") and random.random() < 0.6:
        mutation, tree = reshaped(random, json.loads(content))
        content = json.dumps(tree).encode()
    elif listed.endswith(".txt") and random.random() < 0.5:
        mutation, content = _odd_words(random, content.decode())
    else:
        mutation, content = damaged(random, content)
    source = valid.written(folder / "given", files | {listed: content})
    arguments = [name, "--from", str(source), "--to", str(folder / "data"), "--allow_partial"]
    arguments += random.choice(([], ["--short_side", "20"]))
    return Case("benchmarks", f"{listed}: {mutation}", "programs.prepare", arguments)


def _odd_words(random: Random, text: str) -> tuple[str, bytes]:
    lines = [line.split(" ") for line in text.splitlines()]
    line = random.choice(lines)
    place, word = (
        random.randrange(len(line)),
        random.choice((*WORDS, "-5", "0", "99999999999999999999")),
    )
    line[place] = word
    changed = "\n".join(" ".join(line) for line in lines)
    encoding, content = encoded(random, changed)
    return f"the word {word!r:.30} ({encoding})", content


# Command lines.


def command_lines(random: Random, samples: Samples, folder: Path) -> Case:
    """Flags with odd values behind those of a call that works."""
    if random.random() < 0.6:
        flags = [flag for flag in parameters.FLAGS if flag.name not in SIZES | PLACES]
        words = [
            word for _ in range(random.choice((1, 2, 4))) for word in _flag_words(random, flags)
        ]
        return Case(
            "command lines", f"{words!r:.80}", "main", [*_training(samples, folder), *words]
        )
    run, photos = str(samples.run), str(samples.photos)
    photo = str(next(samples.photos.rglob("*.png")))
    calls: dict[str, list[str]] = {
        "programs.embed": [run, "--from", photos, "--to", str(folder / "a.npz"), *EMBEDDED],
        "programs.search": [run, "--index", photos, "--query", photo, *EMBEDDED],
        "programs.export": [run, "--to", str(folder / "made"), "--format", "torch"],
        "programs.prepare": ["cub200", "--from", photos, "--to", str(folder / "data")],
    }
    program = random.choice(list(calls))
    known = (
        "--k",
        "--bs",
        "--device",
        "--gpu",
        "--precision",
        "--evaltype",
        "--split",
        "--dataset",
    )
    known += (
        "--on_bad_image",
        "--picture",
        "--short_side",
        "--format",
        "--check",
        "--allow_partial",
    )
    words = [random.choice((*known, *known, "-x", "--", "--help"))]
    words += random.sample(
        (*WORDS, "3", "cpu", "fp16", "cuda", "skip", "1.5"), random.randint(0, 2)
    )
    odd = [word.replace("\0", "").replace("/tmp/../", str(folder) + "/") for word in words]
    return Case("command lines", f"{odd!r:.80}", program, [*calls[program], *odd])


def _flag_words(random: Random, flags: list[Any]) -> list[str]:
    flag = random.choice(flags)
    names = flag.names() if isinstance(flag, Choice) else ()
    values = [str(value) for value in (*VALUES, flag.default, *names)]
    if flag.name in ("log_online", "list", "version"):
        return [f"--{flag.name}"]
    texts = random.sample(values, random.choice((0, 1, 1, 1, 2)))
    return [f"--{flag.name}", *(text.replace("\0", "") for text in texts)]


KINDS: dict[str, Callable[[Random, Samples, Path], Case]] = {
    "settings": settings,
    "command lines": command_lines,
    "class texts": class_texts,
    "class lists": class_lists,
    "tables": tables,
    "images": images,
    "folders": folders,
    "places": places,
    "checkpoints": checkpoints,
    "run folders": run_folders,
    "weights": weights,
    "caches": caches,
    "embeddings": embeddings,
    "archives": archives,
    "benchmarks": benchmarks,
}
