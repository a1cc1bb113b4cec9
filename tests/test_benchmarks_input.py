"""The benchmarks of the input pipeline still run: each with `--smoke`, down to its table."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "input"
ROWS = {
    "opening": [
        "| cub200 |",
        "| cars196 |",
        "| online_products |",
        "| inshop |",
        "| folder |",
        "| table |",
    ],
    "recall": [
        "--decoding exact",
        "--decoding fast",
        "--cache ram --cache_size 0",
        "--cache ram --cache_size 256",
        "--cache ram --cache_size 110",
    ],
    "throughput": [
        "the paper's",
        "ours, --decoding exact",
        "ours  ",
        "ours, --cache disk",
        "ours, --cache ram  ",
        "ours, --cache ram --cache_size 256",
        "decoding alone",
    ],
}


def test_every_benchmark_of_the_input_is_run():
    assert {path.stem for path in FOLDER.glob("*.py")} == ROWS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_it_runs_and_prints_its_table(name, tmp_path):
    """From another folder, as a file."""
    process = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--smoke"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    table = process.stdout.splitlines()[-len(ROWS[name]) :]
    assert all(line.startswith(row) for line, row in zip(table, ROWS[name])), process.stdout
    assert not list(tmp_path.iterdir())
