"""Odd inputs of every kind.

`KINDS[kind](random, samples, folder)` writes one below the folder and gives the call.
"""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import torch
import yaml
from pyarrow import parquet

import parameters
from benchmarks.faults import samples as valid
from benchmarks.faults.mutations import (
    VALUES,
    WORDS,
    damaged,
    encoded,
    odd_rows,
    reshaped,
)
from benchmarks.faults.odd_archives import odd_archive, packed
from benchmarks.faults.odd_images import odd_image
from benchmarks.faults.odd_places import odd_place, oddity
from benchmarks.faults.odd_tensors import (
    ODD_EMBEDDINGS,
    odd_pickle,
    odd_safetensors,
    odd_tensor_file,
)
from benchmarks.faults.running import Case
from benchmarks.faults.samples import EMBEDDED, GUIDED, TINY, Samples
from utilities.flags import Choice, Flag, Number, Switch, Whole, entries_of

# Settings whose odd values are sizes that a machine has or has not: not what is tried here.
SIZES = {
    "log_online",  # starts a process of W&B
    "n_epochs",
    "bs",
    "kernels",
    "embed_dim",
    "image_size",
    "arch",
    "device",
    "samples_per_class",
}
FLAGS_OF_PROGRAMS = """
    --k --bs --device --gpu --precision --evaltype --split --dataset --on_bad_image --picture
    --short_side --format --check --allow_partial
"""
PLACES = {"source_path", "save_path", "cache_path", "config"}
OTHER_ENDINGS = (".png", ".jpg", ".JPEG", ".gif", ".tif", ".bmp", ".webp", ".ico", ".ppm", ".jp2")


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
        if random.random() < 0.5:  # deeper into the run
            flags = [parameters.BY_NAME[name] for name in tree if name not in SIZES | PLACES]
            chosen = random.sample(flags, 5)
            free = {flag.name: (_allowed(random, flag) or ["true"])[0] for flag in chosen}
            mutation = f"{free}"
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
    mutation, content = odd_image(random)
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


# Folders and places.


def folders(random: Random, samples: Samples, folder: Path) -> Case:
    """A tree of photos in which something is no file, or oddly named."""
    photos = folder / "given" / "photos"
    shutil.copytree(samples.photos, photos)
    done = [oddity(random, photos, samples) for _ in range(random.choice((1, 2, 3)))]
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


def places(random: Random, samples: Samples, folder: Path) -> Case:
    """A path that is no such file: a pipe, a device, a folder, a name that cannot be."""
    kind, path = odd_place(random, samples, folder)
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


# Files of tensors.


def checkpoints(random: Random, samples: Samples, folder: Path) -> Case:
    mutation, content = odd_tensor_file(random, samples, samples.checkpoint)
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
        mutation, content = odd_safetensors(random, whole.read_bytes())
    else:
        mutation, content = odd_tensor_file(random, samples, whole)
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


def caches(random: Random, samples: Samples, folder: Path) -> Case:
    """A file of the cache is damaged, and the run that made it is made again."""
    shutil.copytree(samples.cache, folder / "cache")
    kept = random.choice(sorted((folder / "cache").iterdir()))
    if kept.suffix == ".pt" and random.random() < 0.5:
        stored = {"tensor": torch.load(kept, weights_only=True)}
        mutation, content = odd_pickle(random, samples, stored)
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


# Benchmarks.


def archives(random: Random, samples: Samples, folder: Path) -> Case:
    """An archive of a benchmark that is damaged, lies, or would be unpacked elsewhere."""
    name = random.choice(("cub200", "cub200", "cars196", "online_products", "inshop"))
    suffix = random.choice((".zip", ".zip", ".tar", ".tgz", ".tar.bz2", ".tar.xz", ".TAR", ".ZIP"))
    files = valid.benchmark(name)
    lower = suffix.lower()
    if random.random() < 0.5:
        mutation, content = odd_archive(random, files, lower, folder)
    else:
        mutation, content = damaged(random, packed(files, lower))
    if random.random() < 0.1:
        suffix = random.choice((".zip", ".tar", ".tgz", ".rar"))
    path = _given(folder, f"benchmark{suffix}", content)
    arguments = [name, "--from", str(path), "--to", str(folder / "data"), "--allow_partial"]
    return Case("archives", f"{name}{suffix}: {mutation}", "programs.prepare", arguments)


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
        is_allowed, count = random.random() < 0.7, random.choice((1, 2, 4))
        words = [word for _ in range(count) for word in _flag_words(random, is_allowed)]
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
    words = [random.choice((*FLAGS_OF_PROGRAMS.split(), "-x", "--", "--help"))]
    words += random.sample(
        (*WORDS, "3", "cpu", "fp16", "cuda", "skip", "1.5"), random.randint(0, 2)
    )
    odd = [word.replace("\0", "").replace("/tmp/../", str(folder) + "/") for word in words]
    return Case("command lines", f"{odd!r:.80}", program, [*calls[program], *odd])


def _flag_words(random: Random, is_allowed: bool) -> list[str]:
    flags = [flag for flag in parameters.FLAGS if flag.name not in SIZES | PLACES]
    if random.random() < 0.7:  # most flags are hyper-parameters of an objective or a miner
        flags = [flag for flag in flags if not flag.owner]
    flag = random.choice(flags)
    if is_allowed or flag.name in ("list", "version"):
        return [f"--{flag.name}", *_allowed(random, flag)]
    values = [str(value) for value in (*VALUES, flag.default)]
    texts = random.sample(values, random.choice((0, 1, 1, 1, 2)))
    return [f"--{flag.name}", *(text.replace("\0", "") for text in texts)]


def _allowed(random: Random, flag: Flag) -> list[str]:
    """A value that the flag takes, by preference at its bounds."""
    if isinstance(flag, Switch):
        return []
    if isinstance(flag, Choice):
        return [random.choice(flag.names())]
    if isinstance(flag, Number):
        low, high = flag.bounds.low, flag.bounds.high
        sizes = (low, low + 1, *entries_of(flag.initial()))  # a machine has or has not larger ones
        values = sizes if isinstance(flag, Whole) else (*sizes, high, low + 1e-9, 0.5)
        fitting = [value for value in values if not flag.problem(flag.kind(value))]
        return [str(random.choice(fitting))]
    return [random.choice(WORDS).replace("\0", "")]


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
