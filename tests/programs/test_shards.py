"""Folders of shards: python -m programs.embed --to FOLDER, and what numpy reads of it."""

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import by_hand
import numpy as np
import pytest

from programs import embed, search, shards
from programs.embedding_file import Source
from programs.trained import Trained
from utilities.errors import UserError

QUICK = ["--kernels", "0", "--device", "cpu", "--bs", "4"]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Of 12 rows: 3 batches of 4."""
    monkeypatch.setattr(shards, "ROWS", 10)


@pytest.fixture
def call(run_folder, photos, tmp_path, capsys):
    """Embed into a folder; gives the exit status and what was said."""

    def embed_into(*flags, checkpoint=run_folder, images=photos) -> tuple[int, str]:
        places = ["--from", str(images), "--to", str(tmp_path / "gallery")]
        status = embed.main([str(checkpoint), *places, *QUICK, *flags])
        return status, capsys.readouterr().err

    return embed_into


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def stop_after(monkeypatch, batches: int) -> None:
    """Ctrl-C comes after so many batches."""
    whole = Trained.blocks

    def blocks(*arguments, **options):
        for number, block in enumerate(whole(*arguments, **options)):
            if number == batches:
                raise KeyboardInterrupt
            yield block

    monkeypatch.setattr(Trained, "blocks", blocks)


def test_numpy_alone_reads_the_folder(call, photos, run_folder, tmp_path):
    status, said = call()
    folder = tmp_path / "gallery"
    assert status == 0 and f"{folder}: embeds of 48 images, 16 numbers each, 6 classes." in said
    parts = [np.load(file, mmap_mode="r") for file in sorted(folder.glob("shard_*.npy"))]
    assert [part.shape for part in parts] == [(12, 16)] * 4
    paths = np.load(folder / "paths.npy").tobytes().decode().split("\0")[:-1]
    assert paths == sorted(map(str, photos.rglob("*.png")))
    expected = by_hand.embeddings(run_folder / "checkpoint_last.pth.tar", paths)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)
    names = json.loads((folder / "gallery.json").read_text())["class_names"]
    labels = np.load(folder / "labels.npy")
    assert [names[label] for label in labels] == [Path(path).parent.name for path in paths]


def test_what_was_read_is_what_was_written(call, photos, tmp_path):
    call()
    rows, source, origin = shards.read(tmp_path / "gallery", "--index")
    assert len(rows) == 48 and rows.dimension == 16 and origin.precision == "fp32"
    paths = sorted(map(str, photos.rglob("*.png")))
    assert list(source.paths) == paths and source.paths[-1] == paths[-1]
    assert source.paths[5:7] == paths[5:7]
    assert source.paths.named(["Dove_3.png", "none.png"]) == [
        place for place, path in enumerate(paths) if path.endswith("/Dove_3.png")
    ]
    places = np.array([47, 0, 13, 12, 11])
    np.testing.assert_array_equal(rows.take(places), rows.whole()[places])
    assert source.class_of(47) == "Finch"


def test_it_goes_on_where_it_was_interrupted(call, tmp_path, monkeypatch):
    folder = tmp_path / "gallery"
    call()
    expected = files_of(folder)
    shutil.rmtree(folder)
    with monkeypatch.context() as patched:
        stop_after(patched, 7)
        assert call()[0] == 130
    assert sorted(file.name for file in folder.glob("shard*")) == [
        "shard_00000.npy",
        "shard_00001.npy",
    ]
    with pytest.raises(UserError, match="is not whole: 2 of its 4 shards are missing"):
        shards.read(folder, "--index")
    status, said = call()
    assert status == 0 and "has 2 of its 4 shards already" in said
    assert files_of(folder) == expected
    (folder / "shard_00001.npy").unlink()
    assert call()[0] == 0 and files_of(folder) == expected
    with monkeypatch.context() as patched:
        stop_after(patched, 0)  # nothing is embedded
        assert call()[0] == 0


def test_a_beginning_without_a_plan_begins_again(call, tmp_path, monkeypatch):
    put = shards._put

    def killed(path, content):
        if path.name == "path_ends.npy":
            raise KeyboardInterrupt
        put(path, content)

    monkeypatch.setattr(shards, "_put", killed)
    assert call()[0] == 130
    monkeypatch.setattr(shards, "_put", put)
    assert call()[0] == 0


@pytest.mark.parametrize("precision, is_told", [("fp32", False), ("bf16", True)])
def test_a_search_tells_of_another_precision(
    call, run_folder, photos, tmp_path, capsys, precision, is_told
):
    assert call("--precision", precision)[0] == 0
    query = next(photos.rglob("Dove_3.png"))
    asked = ["--index", str(tmp_path / "gallery"), "--query", str(query), *QUICK]
    assert search.main([str(run_folder), *asked]) == 0
    told = f"{tmp_path / 'gallery'} was made with --precision {precision}: the index is searched"
    assert (told in capsys.readouterr().err) == is_told


def test_another_origin_is_refused(call, photos, make_checkpoint, tmp_path, monkeypatch):
    own = Path(shutil.copytree(photos, tmp_path / "photos"))
    call(images=own)
    before = files_of(tmp_path / "gallery")
    other = make_checkpoint("test_resnet_normalize", embed_dim=16)
    changed = next(own.rglob("Dove_3.png"))
    for status, said, what in (
        (*call(images=own, checkpoint=other), "another checkpoint"),
        (*call("--evaltype", "avg_features", images=own), "--evaltype embeds"),
        (*call("--precision", "bf16", images=own), "--precision fp32"),
        (*call(images=photos), "other images (other folder"),
    ):
        assert status == 2 and f"holds embeddings of {what}" in said
    os.utime(changed, (1, 1))
    status, said = call(images=own)
    assert status == 2 and "other images (other times of writing)" in said
    changed.unlink()
    status, said = call(images=own)
    assert status == 2 and "other images (48 images (here 47)" in said
    assert files_of(tmp_path / "gallery") == before


def test_a_folder_of_other_things_is_left_alone(call, tmp_path):
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "letter.txt").write_text("dear")
    status, said = call()
    assert status == 2 and "is a folder with other files ('letter.txt')" in said
    (tmp_path / "gallery" / "letter.txt").unlink()
    (tmp_path / "gallery" / "gallery.json").write_text("[]")
    status, said = call()
    assert status == 2 and "is no folder of embeddings" in said
    shutil.rmtree(tmp_path / "gallery")
    (tmp_path / "gallery").write_text("dear")
    status, said = call()
    assert status == 2 and "it is a file, not a folder" in said


def test_shards_that_do_not_fit_are_a_sentence(call, tmp_path):
    call()
    np.save(tmp_path / "gallery" / "shard_00002.npy", np.zeros((12, 16)))
    with pytest.raises(UserError, match="shard 2 is float64 of shape"):
        shards.read(tmp_path / "gallery", "--index")
    (tmp_path / "gallery" / "shard_00002.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="is no folder of embeddings"):
        shards.read(tmp_path / "gallery", "--index")


def test_names_that_are_not_utf8_come_back(run_folder, photos, tmp_path):
    folder = tmp_path / "d\udcf6g"
    shutil.copytree(photos / "birds" / "images" / "Dove", folder / "d\udcf6ve")
    target = tmp_path / "g.shards"
    assert embed.main([str(run_folder), "--from", str(folder), "--to", str(target), *QUICK]) == 0
    _, source, _ = shards.read(target, "--index")
    assert len(source.paths) == 8 and all(Path(path).is_file() for path in source.paths)


def write_slowly(folder: Path) -> None:
    """200 shards of 1,000 rows; row after row counts the blocks."""
    source = Source(["a"] * 200_000, np.zeros(200_000, dtype=np.int64), ["c"], "c", "embeds")
    plan = shards.Plan(shards.Origin("c", "embeds", "fp32", {}), 200_000, 8, 1000)
    shards.begin(folder, source, plan, "--to")
    blocks = (np.full((100, 8), number, dtype=np.float32) for number in range(2000))
    shards.write(folder, plan, range(200), blocks, "--to")


def test_a_kill_loses_the_shard_in_work_alone(tmp_path):
    """Killed as soon as some shards are there; those that are there are whole."""
    process = multiprocessing.get_context("fork").Process(target=write_slowly, args=[tmp_path])
    process.start()
    while process.is_alive() and len(list(tmp_path.glob("shard_*.npy"))) < 5:
        time.sleep(0.001)
    process.kill()
    process.join()
    there = sorted(tmp_path.glob("shard_*.npy"))
    assert 5 <= len(there) < 200
    for number, file in enumerate(there):
        expected = np.repeat(np.arange(10 * number, 10 * number + 10), 100)
        np.testing.assert_array_equal(np.load(file, mmap_mode="r")[:, 0], expected)
