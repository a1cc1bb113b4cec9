"""The notebook does what it says: its cells in order, with settings of a few seconds."""

import json
from pathlib import Path

import small_runs

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "demo.ipynb"


def cells() -> list[dict]:
    return [
        cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"
    ]


def test_the_notebook_trains_compares_and_looks(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(NOTEBOOK.parent)
    places = ["--source_path", photos, "--save_path", tmp_path, "--cache_path", tmp_path / "cache"]
    flags = [*small_runs.OF_THE_RUN.replace("--savename run", "").split(), *map(str, places)]
    mine = f"SETTINGS, SEEDS = {[*flags, '--n_epochs', '1']}, [3]"
    names: dict = {}
    for cell in cells():
        is_mine = "parameters" in cell["metadata"].get("tags", [])
        source = mine if is_mine else "".join(cell["source"])
        exec(compile(source, str(NOTEBOOK), "exec"), names)
    assert [group.name for group in names["compared"].groups] == list(names["WEIGHTS"])
    assert "notebook_guided" in capsys.readouterr().out
    assert names["rows"].shape == (24, 16) and len(names["panels"]) == 4
    folder = tmp_path / "birds"
    assert (folder / "notebook_guided_s3" / "results.json").is_file()
    assert all((folder / f"notebook_{name}.png").is_file() for name in ("curves", "found"))


def test_the_notebook_is_kept_without_what_it_gave():
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in cells()) == 1
    for cell in cells():
        assert cell["outputs"] == [] and cell["execution_count"] is None
