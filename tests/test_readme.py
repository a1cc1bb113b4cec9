"""The Python of the README runs as it stands there."""

import os
import re
from pathlib import Path

import numpy as np

README = Path(__file__).resolve().parents[1] / "README.md"


def python_of(section: str) -> str:
    """The Python blocks of a section, one after the other."""
    text = README.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert blocks, section
    return "\n".join(blocks)


def test_the_snippets_from_python_run(run_folder, photos, tmp_path, monkeypatch):
    """With a tiny run and small photographs at the places of the demo's."""
    (tmp_path / "Training_Results" / "shapes").mkdir(parents=True)
    os.symlink(run_folder, tmp_path / "Training_Results" / "shapes" / "demo_guided_s0")
    (tmp_path / "Datasets").mkdir()
    os.symlink(photos, tmp_path / "Datasets" / "shapes")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(python_of("From Python"), str(README), "exec"), names)
    assert names["embeddings"].grad.isfinite().all() and names["embeddings"].grad.any()
    assert names["values"].keys() == {"e_recall@1", "mAP@R", "nmi"}
    assert names["rows"].shape == (48, 16) and names["rows"].dtype == np.float32
    assert len(names["features"]) == 49 and np.isfinite(names["features"]).all()
