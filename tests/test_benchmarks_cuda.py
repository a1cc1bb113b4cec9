"""The benchmark for whoever has a GPU runs on the CPU, at its smallest."""

import json
import subprocess
import sys

import pytest
from benchmark_scripts import FOLDER, smoke

ROWS = {
    "cuda/agreement.py": [
        "| objective |",
        "| miner |",
        "| guide |",
        "| search |",
        "| metric |",
        "| sampler |",
    ],
    "cuda/training.py": ["| CPU, fp32 |"],
    "cuda/speed.py": ["| fp32 |", "| training |", "| evaluation |"],
    "cuda/evaluation.py": ["| product, GPU |", "| ours, GPU, 256 MB |", "| ours, CPU |"],
}


@pytest.mark.parametrize("script", ROWS)
def test_it_runs_and_prints_its_tables(script, tmp_path):
    output = smoke(script, tmp_path)
    lines = output.splitlines()
    missing = [row for row in ROWS[script] if not any(line.startswith(row) for line in lines)]
    assert not missing, output


def test_the_parts_become_one_table(tmp_path):
    sheet = {"title": "A part", "header": ["a"], "rows": [["1"]], "notes": ["A note."]}
    (tmp_path / "speed.json").write_text(json.dumps([sheet]))
    subprocess.run([sys.executable, str(FOLDER / "cuda/sheets.py"), str(tmp_path)], check=True)
    assert json.loads((tmp_path / "results.json").read_text())["speed"] == [sheet]
    text = (tmp_path / "results.md").read_text()
    assert "## A part\n\n| a |\n|---|\n| 1 |\n\nA note." in text
    assert "Not measured: agreement, training, evaluation." in text
