"""What lies in a folder or behind a path and is no file: pipes, devices, circles, odd names."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks.faults import samples as valid
from benchmarks.faults.samples import Samples


def oddity(random: Random, photos: Path, samples: Samples) -> str:
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
    names = ("train", "test", "val", "query", "x", "gallery")
    for name, other in zip(names, sorted(place.parent.parent.iterdir())):
        if not other.with_name(name).exists():
            other.rename(other.with_name(name))


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


def odd_place(random: Random, samples: Samples, folder: Path) -> tuple[str, str]:
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
