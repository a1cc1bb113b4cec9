"""The benchmarks with a few noisy images each, in every layout in which they are passed around.

`MAKERS[benchmark][layout](folder)` writes one and gives what `--from` takes; `EXPECTED[benchmark]`
is what must come of all of them.
"""

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import BENCHMARKS

Files = Mapping[str, bytes | str]  # path -> content

BIRDS = [
    "001.Black_footed_Albatross",
    "002.Laysan_Albatross",
    "003.Crested_Auklet",
    "004.Least_Auklet",
    "010.Gray_Catbird",
    "011.Eastern_Towhee",
]
CARS = [
    "AM General Hummer SUV 2000",
    "Acura RL Sedan 2012",
    "BMW M3 Coupe 2012",
    "Ram C/V Cargo Van Minivan 2012",
    "Volvo 240 Sedan 1993",
    "smart fortwo Convertible 2012",
]
PRODUCTS = ["bicycle", "coffee_maker", "chair"]
ITEMS = {
    "id_00000001": "WOMEN/Dresses",
    "id_00000002": "WOMEN/Blouses_Shirts",
    "id_00000003": "MEN/Tees_Tanks",
    "id_00000004": "WOMEN/Dresses",
    "id_00000005": "MEN/Denim",
    "id_00000006": "MEN/Denim",
}
EACH = 4  # images of a class
COUNTS = {
    "cub200": {"train": (3, 12), "test": (3, 12)},
    "cars196": {"train": (3, 12), "test": (3, 12)},
    "online_products": {"train": (3, 12), "test": (3, 12)},
    "inshop": {"train": (3, 12), "query": (3, 6), "gallery": (3, 6)},
}


@cache
def jpeg(*seed: int) -> bytes:
    """A noisy image of 40 x 48 pixels."""
    colour = np.random.default_rng(seed[0]).uniform(40, 215, 3)
    pixels = colour + np.random.default_rng(seed).normal(0, 30, (40, 48, 3))
    with io.BytesIO() as file:
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG")
        return file.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def use_small_counts(monkeypatch) -> None:
    """The facts of the small benchmarks in the places of the published ones.

    Their archives have checksums of their own.
    """
    for name, dataset in BENCHMARKS.items():
        files = dict.fromkeys(dataset.FACTS.files)
        facts = dataset.FACTS._replace(counts=COUNTS[name], files=files)
        monkeypatch.setattr(dataset, "FACTS", facts)


def expected(name: str) -> dict[str, set[tuple[str, str]]]:
    """Part -> (text of the class, image)."""
    texts = {
        "cub200": [folder[4:].replace("_", " ") for folder in BIRDS],
        "cars196": [model.replace("/", "-") for model in CARS],
        "online_products": [PRODUCTS[number % 3].replace("_", " ") for number in range(6)],
        "inshop": [folder.replace("/", " ").replace("_", " ").lower() for folder in ITEMS.values()],
    }[name]
    images = [(label, image) for label in range(6) for image in range(EACH)]
    return {
        part: {(texts[label], digest(jpeg(label, image))) for label, image in images[rows]}
        for part, rows in (("train", slice(3 * EACH)), ("test", slice(3 * EACH, None)))
    }


def write(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in files.items():
            content = content if isinstance(content, bytes) else content.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def below(folder: str, files: Files) -> dict[str, bytes | str]:
    return {f"{folder}/{name}": content for name, content in files.items()}


# CUB-200.


def bird_images() -> dict[str, bytes]:
    return {
        f"{folder}/{folder[4:]}_{image:04}.jpg": jpeg(label, image)
        for label, folder in enumerate(BIRDS)
        for image in range(EACH)
    }


def cub_as_published() -> dict[str, bytes | str]:
    """With what macOS leaves in archives."""
    numbered = list(enumerate(bird_images(), 1))
    lists = {
        "images.txt": "".join(f"{number} {path}\n" for number, path in numbered),
        "image_class_labels.txt": "".join(
            f"{number} {int(path[:3])}\n" for number, path in numbered
        ),
        "classes.txt": "".join(f"{int(folder[:3])} {folder}\n" for folder in BIRDS),
    }
    strays = {
        "images/._001.Black_footed_Albatross": b"x",
        "images/001.Black_footed_Albatross/._stray.jpg": b"x",
        ".DS_Store": b"x",
    }
    return below("CUB_200_2011", {**lists, **below("images", bird_images()), **strays})


# Cars.


def annotations(path: Path, records: list[tuple], columns: list[str], **others) -> Path:
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.zeros(len(records), dtype=[(column, object) for column in columns])
    for row, record in enumerate(records):
        table[row] = record
    savemat(path, {"annotations": table, **others})
    return path


def car_names() -> dict[str, np.ndarray]:
    return {"class_names": np.array(CARS, dtype=object)}


def cars_in_one_folder(folder: Path) -> list[Path]:
    # Numbered across classes.
    cells = [(label, image) for image in range(EACH) for label in range(6)]
    images = {f"car_ims/{number:06}.jpg": jpeg(*cell) for number, cell in enumerate(cells, 1)}
    records = [
        (path, 1.0, 2.0, 3.0, 4.0, cell[0] + 1, int(cell[1] > 1))
        for path, cell in zip(images, cells)
    ]
    listed = annotations(
        folder / "cars_annos.mat",
        records,
        ["relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test"],
        **car_names(),
    )
    return [tarred(folder / "car_ims.tgz", images), listed]


def cars_with_devkit(folder: Path, nested: str = "") -> list[Path]:
    """Half of each class is in cars_train, half in cars_test, under the same file names."""
    from scipy.io import savemat

    columns = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
    for part, own, annotation in (
        ("train", (0, 1), "devkit/cars_train_annos.mat"),
        ("test", (2, 3), "cars_test_annos_withlabels.mat"),
    ):
        cells = [(label, image) for image in own for label in range(6)]
        names = [f"{number:05}.jpg" for number in range(1, len(cells) + 1)]
        images = {name: jpeg(*cell) for name, cell in zip(names, cells)}
        write(folder / f"cars_{part}{nested.format(part)}", images)
        records = [(1, 2, 3, 4, label + 1, name) for name, (label, _) in zip(names, cells)]
        annotations(folder / annotation, records, columns)

    savemat(folder / "devkit" / "cars_meta.mat", car_names())
    return [folder]


def cars_by_class(
    folder: Path, root: str = "", divided: bool = False, names_csv: bool = False
) -> list[Path]:
    files: dict[str, bytes | str] = {}
    for label, model in enumerate(CARS):
        for image in range(EACH):
            part = ("train/", "test/")[image // 2] if divided else ""
            name = f"{label if divided else image:05}_{image % 2}.jpg"
            files[f"{root}{part}{model.replace('/', '-')}/{name}"] = jpeg(label, image)
    if names_csv:
        files[f"{root.split('/')[0]}/names.csv"] = "".join(f"{model}\n" for model in CARS)
    return [write(folder, files)]


# Online products and In-Shop.


def products() -> dict[str, bytes | str]:
    """Classes 1-3 train, 4-6 test; two classes of each super-class."""
    return {**product_lists(), **product_images()}


def product_path(label: int, image: int) -> str:
    return f"{PRODUCTS[label % 3]}_final/{1000 + label}_{image}.JPG"


def product_images() -> dict[str, bytes]:
    return {
        product_path(label, image): jpeg(label, image)
        for label in range(6)
        for image in range(EACH)
    }


def product_lists() -> dict[str, str]:
    lists = {}
    for part, labels in (("train", range(3)), ("test", range(3, 6))):
        images = [(label, image) for label in labels for image in range(EACH)]
        lines = ["image_id class_id super_class_id path\n"]
        for number, (label, image) in enumerate(images, 1):
            lines.append(f"{number} {label + 1} {label % 3 + 1} {product_path(label, image)}\n")
        lists[f"Ebay_{part}.txt"] = "".join(lines)
    return lists


def clothes() -> dict[str, bytes]:
    return {
        f"img/{folder}/{item}/0{image + 1}_1_front.jpg": jpeg(label, image)
        for label, (item, folder) in enumerate(ITEMS.items())
        for image in range(EACH)
    }


def partition() -> str:
    """The first three items train; of the others two images are queries and two the gallery.

    Columns are padded.
    """
    rows = []
    for number, path in enumerate(clothes()):
        status = "train" if number < 12 else ("query", "gallery")[number % 4 // 2]
        rows.append(f"{path:<60}{path.split('/')[3]:<14}{status}")
    return "\n".join([str(len(rows)), "image_name  item_id  evaluation_status", *rows]) + "\n"


def descriptions() -> str:
    return json.dumps(
        [
            {
                "item": item,
                "color": "Red",
                "description": [f"A {folder.split('/')[1]} by hand.", " ", f"Number {item}."],
            }
            for item, folder in ITEMS.items()
        ]
    )


MAKERS = {
    "cub200": {
        "archive": lambda folder: [tarred(folder / "CUB_200_2011.tgz", cub_as_published())],
        "unpacked": lambda folder: [write(folder, cub_as_published())],
        "twice nested": lambda folder: [
            write(folder, below("a/b", cub_as_published()) | below("copy", cub_as_published()))
        ],
        "by class, zipped": lambda folder: [
            zipped(
                folder / "birds.zip",
                below("archive/images", bird_images()) | {"__MACOSX/images/001.x/._a.jpg": b"x"},
            )
        ],
        "by class, divided": lambda folder: [
            write(
                folder,
                {
                    f"{('train', 'test')[int(path[-5]) // 2]}/{path}": content
                    for path, content in bird_images().items()
                },
            )
        ],
    },
    "cars196": {
        "one folder": cars_in_one_folder,
        "devkit": cars_with_devkit,
        "devkit, nested": lambda folder: cars_with_devkit(folder, nested="/cars_{}"),
        "by class": cars_by_class,
        "by class, divided": lambda folder: cars_by_class(
            folder, root="car_data/car_data/", divided=True, names_csv=True
        ),
    },
    "online_products": {
        "archive": lambda folder: [
            zipped(
                folder / "Stanford_Online_Products.zip",
                below("Stanford_Online_Products", products() | {"bicycle_final/._x.JPG": b"x"}),
            )
        ],
        "paper's": lambda folder: [
            write(folder, below("images", product_images()) | below("Info_Files", product_lists()))
        ],
    },
    "inshop": {
        "archive and list": lambda folder: [
            zipped(folder / "img.zip", clothes()),
            write(folder, {"list_eval_partition.txt": partition()}) / "list_eval_partition.txt",
        ],
        "as downloaded": lambda folder: [zipped_inside(folder)],
    },
}


def zipped_inside(folder: Path) -> Path:
    """The published folder: the images are still in their archive."""
    write(
        folder,
        {
            "Eval/list_eval_partition.txt": partition(),
            "Anno/list_description_inshop.json": descriptions(),
            "Img/readme.txt": "x",
        },
    )
    zipped(folder / "Img" / "img.zip", clothes())
    return folder
