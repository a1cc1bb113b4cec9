"""The measurements of language guidance, at their smallest."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "guidance.py"


def test_it_prints_its_tables(tmp_path):
    finished = subprocess.run(
        [sys.executable, SCRIPT, "--smoke"], cwd=tmp_path, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    rows = [line.split(" | ") for line in finished.stdout.splitlines() if line.startswith("| ")]
    assert [len(row) for row in rows] == [4] * 5 + [5] * 7
    assert all(float(row[-1].removesuffix(" |")) < 1e-5 for row in rows[6:])
