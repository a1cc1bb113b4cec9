"""The scripts of benchmarks/, run at their smallest."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def smoke(script: str, folder: Path) -> str:
    """Standard output of `benchmarks/<script> --smoke`, called as a file from an empty folder.

    It must end well and leave nothing there.
    """
    finished = subprocess.run(
        [sys.executable, str(FOLDER / script), "--smoke"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    assert not list(folder.iterdir())
    return finished.stdout
