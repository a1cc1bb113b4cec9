"""The pages: the Python of one runs as it stands there, and all of them make a site."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON_USE = ROOT / "docs" / "python.md"


def python_of(page: Path) -> str:
    """The Python blocks of a page, one after the other."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert blocks
    return "\n".join(blocks)


def test_the_snippets_from_python_run(run_folder, photos, tmp_path, monkeypatch):
    """With a tiny run and small photographs at the places of the demo's."""
    (tmp_path / "Training_Results" / "shapes").mkdir(parents=True)
    os.symlink(run_folder, tmp_path / "Training_Results" / "shapes" / "demo_guided_s0")
    (tmp_path / "Datasets").mkdir()
    os.symlink(photos, tmp_path / "Datasets" / "shapes")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(python_of(PYTHON_USE), str(PYTHON_USE), "exec"), names)
    assert names["embeddings"].grad.isfinite().all() and names["embeddings"].grad.any()
    assert names["values"].keys() == {"e_recall@1", "mAP@R", "nmi"}
    assert names["rows"].shape == (48, 16) and names["rows"].dtype == np.float32
    assert len(names["features"]) == 49 and np.isfinite(names["features"]).all()


def test_the_pages_make_a_site_without_a_warning(tmp_path, monkeypatch):
    """Every page is in the navigation, every link and anchor leads somewhere."""
    mkdocs = pytest.importorskip("mkdocs.commands.build")
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True)
    mkdocs.build(config)
    first_run = (tmp_path / "site" / "first_run" / "index.html").read_text()
    assert "configs/demo.yaml" in first_run and "{{" not in first_run
    assert "fonts.googleapis" not in first_run


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_links_to_files_hold_where_the_pages_are_read_as_they_lie(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path = target.partition("#")[0]
        if path and "://" not in target:
            assert (page.parent / path).exists(), target
