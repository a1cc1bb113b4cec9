"""python -m programs.embed: files of embeddings."""

import shutil
from pathlib import Path

import by_hand
import numpy as np
import pytest
from pyarrow import parquet

from programs import embed, embedding_file
from programs.constants import EMBEDDING_FILES

QUICK = ["--kernels", "0", "--device", "cpu", "--bs", "5"]


def test_npz_of_a_folder_holds_what_the_network_gives(photos, run_folder, tmp_path):
    target = tmp_path / "new" / "birds.npz"
    assert embed.main([str(run_folder), "--from", str(photos), "--to", str(target), *QUICK]) == 0
    with np.load(target, allow_pickle=False) as file:
        arrays = dict(file)
    rows, paths = arrays["embeddings"], arrays["paths"].tolist()
    assert rows.dtype == np.float32 and rows.shape == (48, 16)
    assert paths == sorted(map(str, photos.rglob("*.png")))
    class_names = [arrays["class_names"][label] for label in arrays["labels"]]
    assert class_names == [Path(path).parent.name for path in paths]
    expected = by_hand.embeddings(run_folder / "checkpoint_last.pth.tar", paths)
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    assert [file.name for file in target.parent.iterdir()] == ["birds.npz"]


def test_parquet_of_a_dataset_and_its_test_part(photos, run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_file, "ROWS_AT_ONCE", 10)
    target = tmp_path / "birds.parquet"
    source = [str(run_folder), "--dataset", "birds", "--source_path", str(photos)]
    command = [*source, "--to", str(target), *QUICK]
    assert embed.main([*command, "--evaltype", "avg_features"]) == 0
    table = parquet.read_table(target)
    paths = table["path"].to_pylist()
    names = [Path(path).parent.name for path in paths]
    assert table["class_name"].to_pylist() == names
    assert set(names) == {"Dove", "Egret", "Finch"} and table.num_rows == 24
    checkpoint = run_folder / "checkpoint_last.pth.tar"
    expected = by_hand.embeddings(checkpoint, paths, "avg_features")
    assert table.schema.field("embedding").type.list_size == expected.shape[1]
    np.testing.assert_allclose(np.stack(table["embedding"].to_numpy()), expected, atol=1e-4)
    assert parquet.ParquetFile(target).num_row_groups == 3
    assert embed.main([*command, "--split", "train"]) == 0
    training_names = set(parquet.read_table(target)["class_name"].to_pylist())
    assert training_names == {"Auklet", "Blackbird", "Catbird"}


def test_broken_images_are_left_out_when_told(photos, run_folder, tmp_path, capsys):
    source = Path(shutil.copytree(photos, tmp_path / "photos"))
    broken = source / "birds" / "images" / "Dove" / "Dove_0.png"
    broken.write_bytes(broken.read_bytes()[:100])
    flags = [str(run_folder), "--from", str(source), "--to", str(tmp_path / "x.npz"), *QUICK]
    assert (
        embed.main(flags) == 2 and f"The image {broken} cannot be read" in capsys.readouterr().err
    )
    assert (
        embed.main([*flags, "--on_bad_image", "skip"]) == 0
        and "Broken images, left out: 1" in capsys.readouterr().err
    )
    with np.load(tmp_path / "x.npz") as file:
        assert len(file["embeddings"]) == 47 and str(broken) not in file["paths"]


@pytest.mark.parametrize("suffix", EMBEDDING_FILES)
@pytest.mark.parametrize("labels, names", [([-1, -1, -1], []), ([1, 0, -1], ["ant", "cat"])])
def test_files_give_back_what_was_written(tmp_path, suffix, labels, names):
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    source = embedding_file.Source(
        ["/a/ä.png", "/a/b.png", "/c.png"], np.array(labels), names, "digest", "embeds"
    )
    embedding_file.write(tmp_path / f"x{suffix}", iter([rows[:2], rows[2:]]), 4, source, "--to")
    rows_back, source_back = embedding_file.read(tmp_path / f"x{suffix}", "--index")
    np.testing.assert_array_equal(rows_back, rows)
    labels_back = source_back.labels.tolist()
    assert source_back._replace(labels=labels_back) == source._replace(labels=labels)


@pytest.mark.parametrize(
    "flags, parts",
    [
        (["--from", "PHOTOS", "--to", "x.csv"], ["--to", ".npz or .parquet"]),
        (
            ["--from", "PHOTOS", "--dataset", "birds", "--to", "x.npz"],
            ["not allowed with argument --from"],
        ),
        (["--dataset", "birds", "--to", "x.npz"], ["--dataset and --source_path go together"]),
        (["--to", "x.npz"], ["--from"]),
        (["--from", "PHOTOS", "--split", "train", "--to", "x.npz"], ["--split", "--from has none"]),
        (["--from", "PHOTOS", "--to", "x.npz", "--bs", "0"], ["--bs", "at least 1"]),
    ],
)
def test_wrong_flags_are_told_at_once(run_folder, photos, capsys, flags, parts):
    with pytest.raises(SystemExit) as stopped:
        given = [str(photos) if flag == "PHOTOS" else flag for flag in flags]
        embed.main([str(run_folder), *given])
    message = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2 and all(part in message for part in parts)


def test_a_missing_checkpoint_is_told_at_once(tmp_path, capsys):
    with pytest.raises(SystemExit):
        embed.main([str(tmp_path), "--from", str(tmp_path), "--to", "x.npz"])
    sentence = f"{tmp_path}: the folder is of no run: there is no checkpoint_last.pth.tar in it"
    assert sentence in capsys.readouterr().err


def test_wrong_images_and_places_are_a_sentence_and_leave_nothing(
    photos, run_folder, tmp_path, capsys
):
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir(), broken.mkdir()
    (broken / "a.png").write_bytes(next(photos.rglob("*.png")).read_bytes()[:60])
    (tmp_path / "file").write_text("in the way")
    for folder, target, part in (
        (empty, "x.npz", f"--from {empty}: there is no image"),
        (tmp_path / "none", "x.npz", "there is no such folder"),
        (broken, "x.npz", f"The image {broken / 'a.png'} cannot be read"),
        (photos, "file/x.npz", "cannot be written"),
    ):
        places = ["--from", str(folder), "--to", str(tmp_path / target)]
        assert embed.main([str(run_folder), *places, *QUICK]) == 2
        message = capsys.readouterr().err.splitlines()[-1]
        assert message.startswith("python -m programs.embed: error: ") and part in message
    assert not list(tmp_path.glob("*x.npz*"))


@pytest.mark.parametrize("name", ["x.npz", "x.parquet"])
def test_embeddings_that_are_not_finite_are_not_written(photos, diverged, tmp_path, capsys, name):
    target, source = tmp_path / "made" / name, ["--from", str(photos)]
    command = [str(diverged), *source, "--to", str(target), *QUICK]
    assert embed.main([*command, "--precision", "fp16"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "Auklet_0.png is not finite in --precision fp16" in message
    assert not list(target.parent.iterdir())
    assert embed.main(command) == 0 and target.is_file()


def test_a_gpu_of_the_cpu_is_told(photos, run_folder, tmp_path, capsys):
    places = ["--from", str(photos), "--to", str(tmp_path / "x.npz")]
    assert embed.main([str(run_folder), *places, *QUICK, "--gpu", "0"]) == 0
    assert "--gpu 0 has no effect, because --device is cpu." in capsys.readouterr().err


def test_the_home_folder_in_every_path(photos, run_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").symlink_to(run_folder)
    (tmp_path / "photos").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    for source in (["--from=~/photos"], ["--dataset", "birds", "--source_path=~/photos"]):
        assert embed.main(["~/run", *source, "--to=~/made/x.npz", *QUICK]) == 0
        (tmp_path / "made" / "x.npz").unlink()
    assert not (tmp_path / "~").exists()


def test_names_that_are_not_utf8(photos, run_folder, tmp_path, capsys):
    folder = tmp_path / "d\udcf6g"
    shutil.copytree(photos / "birds" / "images" / "Dove", folder / "d\udcf6ve")
    command = [str(run_folder), "--from", str(folder), *QUICK, "--to"]
    assert embed.main([*command, str(tmp_path / "x.npz")]) == 0
    _, source = embedding_file.read(tmp_path / "x.npz", "--index")
    assert len(source.paths) == 8 and all(Path(path).is_file() for path in source.paths)
    capsys.readouterr()
    assert embed.main([*command, str(tmp_path / "x.parquet")]) == 2
    assert "holds names in UTF-8" in capsys.readouterr().err
    assert not list(tmp_path.glob("*x.parquet*"))
