"""What the parts of this benchmark leave behind: tables, as JSON each and all as Markdown.

python benchmarks/cuda/sheets.py FOLDER     # joins them to results.json and results.md
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import shared
from utilities import environment

WORD_DIM = 50
PARTS = ("agreement", "training", "speed", "evaluation")
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "faiss-cpu", "faiss-gpu", "faiss-gpu-cu12")


class Sheet(NamedTuple):
    """A table.

    Attributes:
        header: of its columns. rows: cells as text. notes: sentences below it.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: list[str]

    def markdown(self) -> str:
        table = shared.markdown(self.header, list(self.rows))
        return "\n\n".join([f"## {self.title}", table, *self.notes])


def keep(results: Path | None, part: str, sheets: list[Sheet]) -> None:
    """Print the newest table of a part, and leave all in the folder of results if there is one."""
    print(f"\n{sheets[-1].markdown()}", flush=True)
    if results:
        results.mkdir(parents=True, exist_ok=True)
        values = [sheet._asdict() for sheet in sheets]
        (results / f"{part}.json").write_text(json.dumps(values, indent=1))


def command_line(description: str) -> argparse.ArgumentParser:
    """What all parts take."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=shared.place, help="folder for the tables as JSON")
    parser.add_argument("--smoke", action="store_true", help="whether it runs, on the CPU")
    return parser


def write_word_vectors(file: Path, words: Iterable[str]) -> Path:
    """A vector drawn at random for each word, as GloVe publishes them."""
    random = np.random.default_rng(0)
    lines = [
        " ".join([word, *(f"{value:.5f}" for value in random.standard_normal(WORD_DIM))])
        for word in words
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


def machine() -> dict[str, str]:
    """Of the GPU, the driver and the libraries."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        gpu = subprocess.run(query, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        gpu = ""
    found = environment.versions(LIBRARIES)
    libraries = ", ".join(f"{name} {version}" for name, version in found.items())
    return {"GPU": gpu or "none", "libraries": libraries}


def join(folder: Path) -> None:
    """results.json and results.md of all parts that are in the folder."""
    parts = {
        part: json.loads((folder / f"{part}.json").read_text())
        for part in PARTS
        if (folder / f"{part}.json").exists()
    }
    facts = machine()
    (folder / "results.json").write_text(json.dumps({"machine": facts, **parts}, indent=1) + "\n")
    lines = [f"{name}: {value}  " for name, value in facts.items()]
    tables = [Sheet(**sheet).markdown() for sheets in parts.values() for sheet in sheets]
    missing = [part for part in PARTS if part not in parts]
    if missing:
        tables.append(f"Not measured: {', '.join(missing)}.")
    text = "\n\n".join(["# CPU and GPU side by side", "\n".join(lines), *tables])
    (folder / "results.md").write_text(text + "\n")


if __name__ == "__main__":
    join(shared.place(sys.argv[1]))
