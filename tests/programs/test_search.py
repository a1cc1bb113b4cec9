"""python -m programs.search: what lies nearest to an image."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import faiss_library
from programs import embed, embedding_file, image_index, images, search, trained
from programs.constants import GALLERY, SAVED_INDEX
from utilities.errors import UserError

QUICK = ["--kernels", "0", "--device", "cpu"]


@pytest.fixture
def own_photos(photos, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(photos, tmp_path / "photos"))


def test_neighbours_are_of_the_own_class_and_in_order(photos, find):
    query = photos / "birds" / "images" / "Dove" / "Dove_3.png"
    found, _ = find("--index", photos, "--query", query, "--k", "5")
    assert len(found) == 1 and found[0]["query"] == str(query)
    neighbours = found[0]["neighbours"]
    assert [neighbour["class"] for neighbour in neighbours] == ["Dove"] * 5
    similarities = [neighbour["similarity"] for neighbour in neighbours]
    assert (
        similarities == sorted(similarities, reverse=True)
        and 0.5 < similarities[-1] <= similarities[0] <= 1
    )


def test_a_query_is_not_its_own_neighbour_but_a_copy_of_it_is(own_photos, find, monkeypatch):
    query = own_photos / "birds" / "images" / "Dove" / "Dove_3.png"
    copy = shutil.copy(query, query.with_name("copy.png"))
    elsewhere = shutil.copy(query, own_photos.parent / "Dove_3.png")
    monkeypatch.chdir(query.parent)
    found, _ = find("--index", own_photos, "--query", "Dove_3.png", elsewhere, "--k", "2")
    inside, outside = ([neighbour["path"] for neighbour in query["neighbours"]] for query in found)
    assert inside[0] == str(copy) and str(query) not in inside
    assert set(outside) == {str(copy), str(query)}
    assert found[1]["neighbours"][0]["similarity"] == pytest.approx(1, abs=1e-6)


def test_a_query_is_not_its_own_neighbour_where_a_link_leads_to_it(own_photos, find):
    query = own_photos / "birds" / "images" / "Dove" / "Dove_3.png"
    link = own_photos / "birds" / "images" / "Egret" / "Dove_3.png"
    link.symlink_to(query)
    found, _ = find("--index", own_photos, "--query", query, link, "--k", "1")
    assert [query["neighbours"][0]["path"] for query in found] == [str(link), str(query)]


def test_torch_finds_the_same_as_faiss(photos, find, monkeypatch):
    asked = ("--index", photos, "--query", photos / "birds" / "images" / "Egret", "--k", "7")
    first, _ = find(*asked)
    monkeypatch.setitem(sys.modules, "faiss", None)
    faiss_library.library.cache_clear()
    try:
        assert find(*asked)[0] == first and len(first) == 8
    finally:
        faiss_library.library.cache_clear()


def test_a_saved_index_is_used_again_until_the_images_change(
    own_photos, find, tmp_path, monkeypatch
):
    saved, query = tmp_path / "index", own_photos / "birds" / "images" / "Dove" / "Dove_3.png"
    asked = ("--index", own_photos, "--query", query, "--save_index", saved)
    first, _ = find(*asked)
    embedded = []
    blocks = trained.Trained.blocks

    def counted(network, split, *arguments, **options):
        embedded.append(len(split))
        return blocks(network, split, *arguments, **options)

    monkeypatch.setattr(trained.Trained, "blocks", counted)
    again, said = find(*asked)
    alone, _ = find("--index", saved, "--query", query)
    assert first == again == alone and embedded == [1, 1] and "have not changed" in said
    replaced = own_photos / "birds" / "images" / "Egret" / "Egret_0.png"
    shutil.copy(query, replaced)
    changed, said = find(*asked, "--k", "1")
    assert (
        changed[0]["neighbours"][0]["path"] == str(replaced)
        and embedded == [1, 1, 48, 1]
        and "have changed" in said
    )


def test_a_saved_index_that_is_asked_alone_says_what_has_changed(own_photos, find, tmp_path):
    saved, query = tmp_path / "index", own_photos / "birds" / "images" / "Dove" / "Dove_3.png"
    first, _ = find("--index", own_photos, "--query", query, "--save_index", saved)
    alone = ("--index", saved, "--query", query)
    assert "as it was made" not in find(*alone)[1]
    replaced = query.with_name("Dove_4.png")
    shutil.copy(query, replaced)
    found, said = find(*alone)
    assert found == first and "have changed since" in said and "as it was made" in said
    replaced.unlink()
    found, said = find(*alone)
    assert found == first and f"{replaced} cannot be read" in said and "as it was made" in said


def test_a_saved_index_of_another_precision_is_made_anew(own_photos, find, tmp_path):
    asked = ("--index", own_photos, "--query", own_photos / "birds" / "images" / "Dove")
    saved = ("--save_index", tmp_path / "index")
    exact, _ = find(*asked)
    coarse, _ = find(*asked, *saved, "--precision", "bf16")
    assert coarse != exact
    _, said = find("--index", tmp_path / "index", *asked[2:])
    assert "was made with --precision bf16: the index is searched as it was made." in said
    found, said = find(*asked, *saved)
    assert found == exact and "was made with --precision bf16: the images are embedded anew" in said


@pytest.fixture
def doves_and_egrets(photos, tmp_path) -> tuple[Path, Path]:
    """Two folders of files that have the same names, sizes and times."""
    folders = tmp_path / "doves", tmp_path / "egrets"
    for folder, name in zip(folders, ("Dove", "Egret")):
        folder.mkdir()
        for number in range(8):
            with Image.open(photos / "birds" / "images" / name / f"{name}_{number}.png") as image:
                image.save(folder / f"{number}.bmp")
            os.utime(folder / f"{number}.bmp", (10**9, 10**9))
    return folders


@pytest.mark.parametrize("is_link", [False, True])
def test_a_saved_index_of_a_folder_that_another_took_the_place_of_is_made_anew(
    doves_and_egrets, find, tmp_path, is_link
):
    doves, egrets = doves_and_egrets
    place, query = tmp_path / "place", tmp_path / "egret.bmp"
    shutil.copy(egrets / "3.bmp", query)
    place.symlink_to(doves) if is_link else doves.rename(place)
    asked = ("--index", place, "--query", query, "--k", "1", "--save_index", tmp_path / "index")
    before, _ = find(*asked)
    place.unlink() if is_link else place.rename(doves)
    place.symlink_to(egrets) if is_link else egrets.rename(place)
    found, said = find(*asked)
    assert before[0]["neighbours"][0]["similarity"] < 0.999
    assert found[0]["neighbours"][0] == {"path": str(place / "3.bmp"), "similarity": 1}
    assert f"{place} have changed since" in said and "(other file contents)" in said
    assert find(*asked)[0] == found


def test_an_image_that_is_written_while_an_index_is_made_has_changed(
    doves_and_egrets, find, tmp_path, monkeypatch
):
    doves, egrets = doves_and_egrets
    query, saved = tmp_path / "egret.bmp", tmp_path / "index"
    shutil.copy(egrets / "3.bmp", query)
    asked = ("--index", doves, "--query", query, "--k", "1", "--save_index", saved)
    write = embedding_file.write

    def late(path, blocks, *arguments):
        rows = list(blocks)
        shutil.copy(query, doves / "5.bmp")
        write(path, rows, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(embedding_file, "write", late)
        find(*asked)
    found, said = find(*asked)
    assert found[0]["neighbours"][0] == {"path": str(doves / "5.bmp"), "similarity": 1}
    assert "have changed" in said and "other times of writing" in said


def test_an_index_of_an_older_version_is_made_anew(doves_and_egrets, run_folder, find, tmp_path):
    doves, saved = doves_and_egrets[0], tmp_path / "index"
    asked = ("--index", doves, "--query", doves / "3.bmp", "--save_index", saved)
    expected, _ = find(*asked)
    file = saved / image_index.SAVED_INDEX
    with np.load(file) as kept:
        arrays = {name: kept[name] for name in kept.files if name != "images"}
    np.savez(file, **arrays)
    found, said = find(*asked)
    assert found == expected and f"{file} is of an older version" in said
    found, said = find(*asked)
    assert found == expected and "have not changed" in said


def test_an_index_of_another_network_is_refused(
    photos, run_folder, find, make_checkpoint, tmp_path, capsys
):
    saved, query = tmp_path / "index", str(photos / "birds" / "images" / "Dove" / "Dove_3.png")
    find("--index", photos, "--query", query, "--save_index", saved)
    other = str(make_checkpoint("test_resnet_normalize"))
    for flags, file in (
        (["--index", str(saved)], saved),
        (["--index", str(photos), "--save_index", str(saved)], saved),
    ):
        assert search.main([other, *flags, "--query", query, *QUICK]) == 2
        message = capsys.readouterr().err.splitlines()[-1]
        assert f"{file / image_index.SAVED_INDEX} holds embeddings of another checkpoint" in message


def test_a_file_of_embed_is_an_index_and_its_kind_is_kept(
    photos, run_folder, find, tmp_path, capsys
):
    query = photos / "birds" / "images" / "Dove" / "Dove_3.png"
    for evaltype, suffix in (("embeds", "parquet"), ("avg_features", "npz")):
        file = tmp_path / f"x.{suffix}"
        places = ["--from", str(photos), "--to", str(file)]
        assert embed.main([str(run_folder), *places, "--evaltype", evaltype, *QUICK]) == 0
        capsys.readouterr()
        found, _ = find("--index", file, "--query", query, "--k", "3")
        assert [neighbour["class"] for neighbour in found[0]["neighbours"]] == ["Dove"] * 3
        if evaltype == "embeds":
            assert found == find("--index", photos, "--query", query, "--k", "3")[0]
    foreign = tmp_path / "foreign.npz"
    foreign.write_bytes(b"PK")
    places = ["--index", str(foreign), "--query", str(query)]
    assert search.main([str(run_folder), *places, *QUICK]) == 2
    assert "is not a file of embeddings" in capsys.readouterr().err


def test_images_without_classes_have_none_and_few_are_all_found(photos, find, tmp_path):
    for number in range(3):
        shutil.copy(photos / "birds" / "images" / "Dove" / f"Dove_{number}.png", tmp_path)
    found, _ = find("--index", tmp_path, "--query", tmp_path / "Dove_0.png", "--k", "50")
    assert sorted(os.path.basename(neighbour["path"]) for neighbour in found[0]["neighbours"]) == [
        "Dove_1.png",
        "Dove_2.png",
    ]
    assert all("class" not in neighbour for neighbour in found[0]["neighbours"])


@pytest.mark.parametrize("flags", [["--expand", "3"], ["--expand", "5", "--expand_alpha", "3"]])
def test_what_was_found_first_asks_again(photos, find, flags):
    """The order is another one, the similarities are those to the query."""
    asked = ("--index", photos, "--query", photos / "birds" / "images" / "Egret")
    plain, _ = find(*asked, "--k", "47")
    found, _ = find(*asked, "--k", "12", *flags)
    reranked, _ = find(*asked, "--k", "12", *flags, "--rerank")
    changed = 0
    for before, *after in zip(plain, found, reranked):
        similarities = {each["path"]: each for each in before["neighbours"]}
        for query in after:
            assert len(query["neighbours"]) == 12
            assert all(similarities[each["path"]] == each for each in query["neighbours"])
            changed += query["neighbours"] != before["neighbours"][:12]
    assert changed > 4


def test_a_reader_may_stop_early(photos, run_folder):
    places = [str(run_folder), "--index", str(photos), "--query", str(photos)]
    command = [sys.executable, "-m", "programs.search", *places, "--k", "40", *QUICK]
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{shlex.join(command)} | head -n 1"],
        cwd=Path(search.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0 and ended.stdout == "[\n" and "BrokenPipe" not in ended.stderr


def test_the_picture_shows_query_and_neighbours(photos, find, tmp_path):
    picture = tmp_path / "new" / "found.png"
    query = photos / "birds" / "images" / "Dove" / "Dove_3.png"
    queries = ("--query", query, query.with_name("Dove_4.png"))
    find("--index", photos, *queries, "--k", "4", "--picture", picture)
    with Image.open(picture) as image:
        assert (
            image.width > 1.5 * image.height and len(image.convert("RGB").getcolors(2**24)) > 1000
        )


def test_what_was_found_is_printed_where_the_images_of_an_index_lie_elsewhere(
    own_photos, run_folder, tmp_path, capsys
):
    index, query = tmp_path / "photos.index", tmp_path / "query.png"
    shutil.copy(own_photos / "birds" / "images" / "Dove" / "Dove_3.png", query)
    quick = ["--query", str(query), "--k", "2", "--device", "cpu", "--kernels", "0"]
    asked = [str(run_folder), *quick, "--save_index", str(index)]
    assert search.main([*asked, "--index", str(own_photos)]) == 0
    found = capsys.readouterr().out
    own_photos.rename(tmp_path / "elsewhere")
    picture = ["--picture", str(tmp_path / "found.png")]
    assert search.main([str(run_folder), *quick, "--index", str(index), *picture]) == 2
    said = capsys.readouterr()
    assert said.out == found and "--picture" in said.err and "cannot be drawn" in said.err


def test_broken_images_stay_out_of_index_and_queries_when_told(
    own_photos, run_folder, find, capsys
):
    doves = own_photos / "birds" / "images" / "Dove"
    (doves / "Dove_0.png").write_bytes(b"broken")
    asked = ["--index", str(own_photos), "--query", str(doves), "--k", "60"]
    assert (
        search.main([str(run_folder), *asked, *QUICK]) == 2
        and "Dove_0.png cannot be read" in capsys.readouterr().err
    )
    found, said = find(*asked, "--on_bad_image", "skip")
    assert (
        len(found) == 7
        and all(len(query["neighbours"]) == 46 for query in found)
        and said.count("Dove_0.png (") == 2
    )
    places = ["--index", str(own_photos), "--query", str(doves / "Dove_0.png")]
    assert search.main([str(run_folder), *places, "--on_bad_image", "skip", *QUICK]) == 2
    assert "--query: none of the 1 images can be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, part",
    [
        (["--index", "PHOTOS", "--query", "no.png"], "--query no.png: there is no such image"),
        (
            ["--index", "nowhere", "--query", "PHOTOS"],
            "nowhere: there is no such folder",
        ),
        (["--index", "PHOTOS", "--query", __file__], f"The image {__file__} cannot be read"),
    ],
)
def test_wrong_images_are_a_sentence(run_folder, photos, capsys, flags, part):
    given = [str(photos) if flag == "PHOTOS" else flag for flag in flags]
    assert search.main([str(run_folder), *given, *QUICK]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("python -m programs.search: error: ") and part in message


@pytest.mark.parametrize(
    "flags, part",
    [
        (["--k", "0"], "at least 1"),
        (["--picture", "x.jpg"], "must end in .png"),
        (["--save_index", "x"], "must be a folder of images"),
        (["--index", "PHOTOS", "--save_index", __file__], "is a file; it takes a folder"),
        (["--index", "SHARDS", "--save_index", "x", "--index_kind", "flat"], "needs no index"),
        (["--index", "KEPT"], "holds an index without its embeddings; give the folder of"),
        (["--expand_alpha", "3"], "it weighs the neighbours of --expand"),
        (["--expand", "3", "--expand_alpha", "nan"], "must be a number of at least 0, not nan"),
    ],
)
def test_wrong_flags_are_told_at_once(run_folder, photos, tmp_path, capsys, flags, part):
    places = {"PHOTOS": photos, "SHARDS": tmp_path / "shards", "KEPT": tmp_path / "kept"}
    for name, file in {"SHARDS": GALLERY, "KEPT": "ivf.faiss"}.items():
        places[name].mkdir()
        (places[name] / file).touch()
    given = [str(places.get(flag, flag)) for flag in flags]
    with pytest.raises(SystemExit) as stopped:
        search.main([str(run_folder), "--index", __file__, "--query", __file__, *given])
    assert stopped.value.code == 2 and part in capsys.readouterr().err


@pytest.mark.parametrize("beside", [(GALLERY, "shard_00000.npy"), (SAVED_INDEX,), ("a.jpg",)])
def test_an_index_may_lie_beside_what_it_is_of(run_folder, tmp_path, beside):
    for name in ("ivf.faiss", "ivf.json", *beside):
        (tmp_path / name).touch()
    flags = search.parse([str(run_folder), "--index", str(tmp_path), "--query", "x.jpg"])
    assert flags.index == tmp_path


def test_embeddings_that_are_not_finite_are_not_searched(
    photos, diverged, run_folder, tmp_path, capsys
):
    query = ["--query", str(photos / "birds" / "images" / "Dove" / "Dove_3.png")]
    index, half = ["--index", str(photos)], ["--precision", "fp16"]
    assert search.main([str(diverged), *index, *query, *QUICK, *half]) == 2
    assert "is not finite in --precision fp16" in capsys.readouterr().err
    network = trained.load(run_folder, "cpu")
    source = network.source(images.below(str(photos), "--index"))
    for number in (np.nan, 1e20):
        saved = tmp_path / f"{number}.npz"
        rows = np.full((len(source.paths), 16), number, dtype=np.float32)
        embedding_file.write(saved, [rows], 16, source, "--to")
        assert search.main([str(run_folder), "--index", str(saved), *query, *QUICK]) == 2
        assert "holds embeddings that are not finite" in capsys.readouterr().err


def test_an_index_that_is_one_already_is_not_saved_again(
    photos, run_folder, find, tmp_path, capsys
):
    query = photos / "birds" / "images" / "Dove" / "Dove_3.png"
    saved = tmp_path / "index"
    find("--index", photos, "--query", query, "--save_index", saved)
    flags = ["--index", str(saved), "--query", str(query), "--save_index", str(tmp_path / "other")]
    with pytest.raises(SystemExit) as stopped:
        search.main([str(run_folder), *flags])
    assert stopped.value.code == 2
    assert "--index must be a folder of images" in capsys.readouterr().err


def test_the_home_folder_in_every_path(photos, find, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    query = "~/photos/birds/images/Dove/Dove_3.png"
    found, _ = find(
        "--index=~/photos", "--query", query, "--save_index=~/index", "--picture=~/found.png"
    )
    assert found and not (tmp_path / "~").exists()
    assert (tmp_path / "index").is_dir() and (tmp_path / "found.png").is_file()


ODD_ARRAYS = {
    "labels without a name": {"labels": np.full(48, 7)},
    "labels that are no numbers": {"labels": np.full(48, "a")},
    "labels of other images": {"labels": np.zeros(3, dtype=np.int64)},
    "paths that are none": {"paths": np.arange(48)},
    "fewer paths": {"paths": np.array(["a", "b"])},
    "a number": {"embeddings": np.float32(3)},
    "numbers of another type": {"embeddings": np.zeros((48, 16))},
    "another dimension": {"embeddings": np.zeros((48, 5), dtype=np.float32)},
    "another evaltype": {"evaltype": np.array("others")},
    "objects": {"paths": np.array([{}] * 48, dtype=object)},
}


@pytest.mark.parametrize("case", ODD_ARRAYS)
def test_a_file_of_embeddings_that_is_not_whole_is_a_sentence(
    run_folder, photos, tmp_path, capsys, case
):
    file = tmp_path / "odd.npz"
    assert embed.main([str(run_folder), "--from", str(photos), "--to", str(file), *QUICK]) == 0
    with np.load(file) as whole:
        arrays = dict(whole) | ODD_ARRAYS[case]
    np.savez(file, **arrays)
    query = str(photos / "birds" / "images" / "Dove" / "Dove_3.png")
    capsys.readouterr()
    assert search.main([str(run_folder), "--index", str(file), "--query", query, *QUICK]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("python -m programs.search: error: --index") and "odd.npz" in said


def test_an_enormous_label_does_not_fill_the_memory(run_folder, photos, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    file = tmp_path / "odd.parquet"
    assert embed.main([str(run_folder), "--from", str(photos), "--to", str(file), *QUICK]) == 0
    table = parquet.read_table(file)
    labels = pa.array([10**12] * len(table))
    place = table.column_names.index("label")
    parquet.write_table(table.set_column(place, "label", labels), file)
    with pytest.raises(UserError, match="it has the label 1000000000000"):
        embedding_file.read(file, "--index")


@pytest.mark.parametrize("content", [b"", b"abc", b"\x80\x04N.", b"NP"])
def test_what_is_no_archive_is_not_opened_as_something_else(tmp_path, content):
    (tmp_path / "odd.npz").write_bytes(content)
    with pytest.raises(UserError, match="it is no .npz archive"):
        embedding_file.read(tmp_path / "odd.npz", "--index")


def test_queries_of_a_flag_given_twice_are_all_asked(tmp_path):
    (tmp_path / "run.pth.tar").touch()
    words = ["--index", ".", "--query", "a.jpg", "--query", "b.jpg", "c.jpg"]
    assert search.parse([str(tmp_path / "run.pth.tar"), *words]).query == [
        "a.jpg",
        "b.jpg",
        "c.jpg",
    ]
