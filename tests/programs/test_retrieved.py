"""python -m programs.retrieved: which classes neighbours come from in two runs."""

import csv
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import by_hand
import numpy as np
import pytest

import parameters
from programs import retrieved, run_data, trained
from utilities.errors import UserError

QUICK = ["--kernels", "0", "--device", "cpu", "--bs", "7"]
TESTED = ("Dove", "Egret", "Finch")


@pytest.fixture
def other(make_checkpoint, photos) -> Path:
    """Of an untrained network on the same data."""
    flags = {"dataset": "birds", "source_path": photos, "exif_orientation": "ignore"}
    return make_checkpoint("test_resnet_normalize", **flags)


def rows_of(file: Path) -> list[list[str]]:
    with file.open(newline="") as opened:
        return list(csv.reader(opened))


def by_loops(checkpoint: Path, photos: Path, neighbours: int) -> dict[tuple[str, str], float]:
    files = sorted(str(file) for name in TESTED for file in photos.rglob(f"{name}_*.png"))
    rows = np.array(by_hand.embeddings(checkpoint, files))
    names = [Path(file).parent.name for file in files]
    similarities = rows @ rows.T
    np.fill_diagonal(similarities, -2)
    nearest = np.argsort(-similarities, axis=1)[:, :neighbours]
    pairs = Counter(
        (names[query], names[row]) for query, found in enumerate(nearest) for row in found
    )
    return {pair: count / 8 / neighbours for pair, count in pairs.items()}


def test_shares_of_both_runs_stand_side_by_side(run_folder, other, photos, tmp_path, capsys):
    file = tmp_path / "both.svg"
    argv = [str(run_folder), str(other), "--to", str(file), "--neighbours", "5", *QUICK]
    assert retrieved.main(argv) == 0
    said = capsys.readouterr()
    header, *rows = rows_of(file.with_suffix(".csv"))
    assert header == ["class", "difference", "retrieved", "run", tmp_path.name]
    for column, checkpoint in {3: run_folder / "checkpoint_last.pth.tar", 4: other}.items():
        expected = by_loops(checkpoint, photos, 5)
        found = {(row[0], row[2]): float(row[column]) for row in rows}
        assert found == pytest.approx({pair: expected.get(pair, 0) for pair in found}, abs=1e-4)
    order = list(dict.fromkeys(row[0] for row in rows))
    changes = {row[0]: float(row[1]) for row in rows}
    assert sorted(order) == list(TESTED) and order == sorted(order, key=lambda name: -changes[name])
    for name in TESTED:
        apart = sum(abs(float(row[3]) - float(row[4])) for row in rows if row[0] == name) / 2
        assert changes[name] == pytest.approx(apart, abs=2e-4)
    assert said.out.count("% from other classes: ") == 3 and file.stat().st_size > 5000
    assert f"Written: {file}, 3 of 3 classes" in said.err


def test_the_device_of_both_runs_is_told_once(run_folder, other, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    to = str(tmp_path / "both.svg")
    assert retrieved.main([str(run_folder), str(other), "--to", to, "--kernels", "0"]) == 0
    assert capsys.readouterr().err.count("No CUDA GPU found") == 1


def test_classes_are_chosen_and_files_replaced(run_folder, other, tmp_path, capsys):
    argv = [str(other), str(run_folder), "--to", str(tmp_path / "a.png"), *QUICK]
    argv += ["--classes", "Finch"]
    assert retrieved.main(argv) == 0 and retrieved.main([*argv, "--evaltype", "avg_features"]) == 0
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["Finch", "Finch"]
    assert f"Replaced: {tmp_path / 'a.csv'}" in said.err
    assert {row[0] for row in rows_of(tmp_path / "a.csv")[1:]} == set(TESTED)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--to", "a.gif"], "a.gif must end in .pdf, .svg, .png"),
        (["--to", "no/where.svg"], "no/where.svg: there is no folder no"),
        (["--to", "a.svg", "--neighbours", "0"], "--neighbours: must be a whole number"),
        ([], "required: --to"),
    ],
)
def test_wrong_flags_are_one_sentence(run_folder, other, capsys, flags, message):
    with pytest.raises(SystemExit) as ended:
        retrieved.main([str(run_folder), str(other), *flags])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "runs, message",
    [
        (["RUN", "nowhere"], "nowhere: there is no such checkpoint"),
        (["RUN", "RUN/checkpoint_last.pth.tar"], "is given twice"),
        (["RUN"], "required: RUN"),
    ],
)
def test_two_runs_are_needed(run_folder, capsys, runs, message):
    with pytest.raises(SystemExit) as ended:
        retrieved.main([*(run.replace("RUN", str(run_folder)) for run in runs), "--to", "a.svg"])
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_what_does_not_fit_is_one_sentence(run_folder, other, photos, tmp_path, capsys):
    both = [str(run_folder), str(other), "--to", str(tmp_path / "a.svg"), *QUICK]
    assert retrieved.main([*both, "--classes", "Finsh"]) == 2
    assert "no queries of the class Finsh; did you mean Finch?" in capsys.readouterr().err
    assert retrieved.main([*both, "--source_path", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not list(tmp_path.glob("a.*"))


def test_who_looks_at_a_run_of_the_shapes_does_not_draw_them(run_folder, tmp_path):
    network = trained.load(run_folder, "cpu")
    settings = parameters.whole({"dataset": "shapes", "source_path": str(tmp_path)})
    for place, missing in ((None, tmp_path), (str(tmp_path / "no"), tmp_path / "no")):
        with pytest.raises(UserError, match=f"no folder {missing / 'shapes'}; .python main.py"):
            run_data.splits(settings, network, place)
    assert not list(tmp_path.iterdir())


def test_runs_on_other_images_are_refused(run_folder, make_checkpoint, photos, tmp_path, capsys):
    fewer = Path(shutil.copytree(photos, tmp_path / "fewer"))
    (fewer / "birds" / "images" / "Dove" / "Dove_0.png").unlink()
    flags = {"dataset": "birds", "source_path": fewer}
    less = make_checkpoint("test_resnet_normalize", **flags)
    argv = [str(run_folder), str(less), "--to", str(tmp_path / "a.svg"), *QUICK]
    assert retrieved.main(argv) == 2
    said = capsys.readouterr().err
    assert "tested on different images: 24 images (here 23)" in said and said.count("\n") == 1


def test_help_comes_without_torch():
    code = (
        "import sys; from programs import retrieved\n"
        "try: retrieved.main(['--help'])\n"
        "except SystemExit: print(json.dumps('torch' in sys.modules))"
    ).replace("import sys", "import sys, json")
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert json.loads(ended.stdout.splitlines()[-1]) is False, ended.stderr
