"""The benchmark for whoever has a GPU runs on the CPU, at its smallest."""

import json
import runpy
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


# Those that start no processes and change nothing of this one, in which the libraries are loaded.
HERE = ("cuda/agreement.py", "cuda/evaluation.py")


def smoke_here(script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> str:
    monkeypatch.setattr(sys, "argv", [script, "--smoke"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / script), run_name="__main__")
    assert not ended.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("script", ROWS)
def test_it_runs_and_prints_its_tables(script, tmp_path, monkeypatch, capsys):
    is_here = script in HERE
    output = smoke_here(script, monkeypatch, capsys) if is_here else smoke(script, tmp_path)
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
