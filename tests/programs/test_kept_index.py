"""python -m programs.search in folders of shards, by an index that is chosen, made and kept."""

import json
import logging
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation import faiss_library, large_search
from evaluation.large_search import Found, Rows
from programs import embed, image_index, kept_index, search, shards
from programs.kept_index import Indexing
from utilities.errors import UserError

QUICK = ["--kernels", "0", "--device", "cpu"]
KINDS = ("ivf", "hnsw", "pq")


@pytest.fixture
def gallery(run_folder, photos, tmp_path, monkeypatch, capsys) -> Path:
    """The photos in shards of 20."""
    monkeypatch.setattr(shards, "ROWS", 20)
    places = ["--from", str(photos), "--to", str(tmp_path / "gallery")]
    assert embed.main([str(run_folder), *places, *QUICK, "--bs", "10"]) == 0
    capsys.readouterr()
    return tmp_path / "gallery"


def dove(photos: Path) -> Path:
    return photos / "birds" / "images" / "Dove" / "Dove_3.png"


@pytest.mark.parametrize("few", [0, 1000])
def test_shards_are_searched_as_their_images_are(gallery, photos, find, monkeypatch, few):
    monkeypatch.setattr(image_index, "FEW_SHARDED", few)
    queries = ("--query", dove(photos).parent)
    expected, _ = find("--index", photos, *queries, "--k", "6")
    found, said = find("--index", gallery, *queries, "--k", "6")
    assert found == expected and "index" not in said


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_kept_while_the_gallery_is_the_same(
    gallery, photos, find, tmp_path, kind, monkeypatch
):
    kept = tmp_path / "kept"
    asked = ("--index", gallery, "--query", dove(photos), "--k", "5", "--index_kind", kind)
    exact, _ = find(*asked[:-1], "flat")
    first, said = find(*asked, "--save_index", kept)
    assert f"The {kind} index is made" in said and first == exact
    assert f"{kind} is compared with an exact search for 48 images of the gallery" in said
    assert f"{kind} finds 1.0000 of the 5 nearest: it loses 0.00 %" in said
    assert sorted(file.name for file in kept.iterdir()) == [f"{kind}.faiss", f"{kind}.json"]
    again, said = find(*asked, "--save_index", kept)
    assert again == first and f"comes from {kept / f'{kind}.faiss'}" in said
    assert "is compared" not in said and "it loses 0.00 %" in said
    (kept / f"{kind}.faiss").write_bytes(b"broken")
    again, said = find(*asked, "--save_index", kept)
    assert again == first and "cannot be read" in said and "is made" in said
    content = (gallery / "gallery.json").read_text().replace("fp32", "bf16")
    (gallery / "gallery.json").write_text(content)
    again, said = find(*asked, "--save_index", kept)
    assert again == first and "is of other embeddings: the index is made anew" in said


def test_an_index_of_images_is_kept_beside_their_embeddings(photos, find, tmp_path):
    own = Path(shutil.copytree(photos, tmp_path / "photos"))
    kept = tmp_path / "kept"
    asked = ("--query", dove(own), "--index_kind", "ivf", "--recall_sample", "0")
    first, said = find("--index", own, "--save_index", kept, *asked)
    assert "is made" in said and "loses" not in said and (kept / "ivf.faiss").is_file()
    again, said = find("--index", kept, *asked)
    assert again == first and "The ivf index comes from" in said
    shutil.copy(dove(own), dove(own).with_name("Dove_0.png"))
    _, said = find("--index", own, "--save_index", kept, *asked)
    assert "is of other embeddings: the index is made anew" in said


def test_a_gallery_that_is_not_whole_or_of_another_network_is_refused(
    gallery, photos, run_folder, make_checkpoint, capsys
):
    asked = ["--index", str(gallery), "--query", str(dove(photos)), *QUICK]
    other = str(make_checkpoint("test_resnet_normalize"))
    assert search.main([other, *asked]) == 2
    assert f"{gallery} holds embeddings of another checkpoint" in capsys.readouterr().err
    (gallery / "shard_00001.npy").unlink()
    assert search.main([str(run_folder), *asked]) == 2
    assert "is not whole: 1 of its 3 shards" in capsys.readouterr().err


@pytest.mark.parametrize(
    "rows, queries, kept, free, expected",
    [
        (200, 1, True, 2**30, "flat"),
        (300, 1, False, 2**30, "flat"),
        (300, 20, False, 2**30, "hnsw"),
        (300, 1, True, 2**30, "hnsw"),
        (300, 1, True, 60_000, "ivf"),
        (300, 1, True, 10_000, "pq"),
        (500, 1, True, 2**30, "ivf"),
    ],
)
def test_the_kind_follows_size_use_and_memory(
    rows, queries, kept, free, expected, monkeypatch, caplog
):
    for name, value in (("FEW_ROWS", 200), ("FEW_QUERIES", 10), ("GRAPH_ROWS", 400)):
        monkeypatch.setattr(kept_index, name, value)
    monkeypatch.setattr(kept_index.memory, "free", lambda: free)
    indexing = Indexing("auto", Path("kept") if kept else None)
    caplog.set_level(logging.INFO)
    many = Rows([np.zeros((rows, 16), dtype=np.float32)])
    assert kept_index.chosen_kind(indexing, many, queries) == expected
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert (f"--index_kind auto: {expected} for {rows} rows, because" in told) == (rows > 200)
    assert ("which needs no index: none is kept" in told) == (rows <= 200)


def test_an_index_without_faiss_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    faiss_library.library.cache_clear()
    rows = Rows([np.zeros((3, 4), dtype=np.float32)])
    try:
        with pytest.raises(UserError, match="--index_kind ivf: faiss is not installed"):
            kept_index.chosen_kind(Indexing("ivf"), rows, 1)
        monkeypatch.setattr(kept_index, "FEW_ROWS", 2)
        assert kept_index.chosen_kind(Indexing(), rows, 1) == "flat"
    finally:
        faiss_library.library.cache_clear()


def test_the_loss_is_measured_with_the_queries_where_they_are_many(caplog):
    random = np.random.default_rng(0)
    rows = Rows([random.standard_normal((300, 8), dtype=np.float32)])
    vectors = random.standard_normal((40, 8), dtype=np.float32)
    gallery = kept_index.Gallery(rows, kept_index.identity_of(rows))
    caplog.set_level(logging.INFO)
    opened = kept_index.OpenIndex(gallery, "ivf", Indexing("ivf", None, 30))
    opened.tell_loss(vectors, np.full(40, -1), 3)
    found = opened.find(vectors, np.full(40, -1), 3)
    assert found.places.shape == (40, 3)
    assert "compared with an exact search for 30 of the queries" in caplog.text


def test_a_kept_loss_is_measured_again_by_more_queries(tmp_path, caplog):
    random = np.random.default_rng(0)
    rows = Rows([random.standard_normal((48, 8), dtype=np.float32)])
    gallery = kept_index.Gallery(rows, kept_index.identity_of(rows))
    caplog.set_level(logging.INFO)

    def told(sample: int, k: int = 3) -> str:
        caplog.clear()
        opened = kept_index.OpenIndex(gallery, "ivf", Indexing("ivf", tmp_path, sample))
        opened.tell_loss(rows.parts[0][:2], np.arange(2), k)
        return caplog.text

    assert "measured" not in told(0)
    assert "exact search for 1 of the queries" in told(1)
    assert "measured before with 1 query." in told(0)
    said = told(30)
    assert "exact search for 30 images" in said and "measured with 30 queries." in said
    said = told(20)
    assert "exact search" not in said and "measured before with 30 queries." in said
    assert "measured with 48 queries." in told(256)
    assert "measured before with 48 queries." in told(10**6)
    assert "measured with 5 queries." in told(5, k=2)
    described = json.loads((tmp_path / "ivf.json").read_text())
    described |= {"format": 1, "recalls": {"3": 0.5}}
    (tmp_path / "ivf.json").write_text(json.dumps(described))
    said = told(5)
    assert "The ivf index comes from" in said and "measured with 5 queries." in said
    assert "loses 50.00 %" not in said
    for damaged in ("[]", '"x"', json.dumps(described | {"format": 2})):
        (tmp_path / "ivf.json").write_text(damaged)
        assert "cannot be read" in told(5)


def test_codes_of_too_few_rows_are_refused():
    rows = Rows([np.eye(15, 16, dtype=np.float32)])
    with pytest.raises(UserError, match="learns its codes from 16 images or more"):
        kept_index.chosen_kind(Indexing("pq"), rows, 1)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e19, 3e38])
def test_rows_that_are_not_finite_are_refused(number):
    rows = np.eye(20, 16, dtype=np.float32)
    rows[7, 3] = number
    with pytest.raises(UserError, match="not finite, from row 7 on"):
        list(Rows([rows]).units())


def test_where_none_are_to_be_found_none_are_missed():
    nothing = Found(np.full((1, 1), np.inf), np.full((1, 1), -1))
    assert large_search.recall(nothing, nothing) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.npy", np.full(48, 99)),
        ("labels.npy", np.full(48, 1.5)),
        ("path_ends.npy", np.full(48, 10**9)),
        ("path_names.npy", np.zeros(3, np.uint32)),
        ("labels.npy", None),
    ],
)
def test_damaged_shards_are_a_sentence(gallery, name, content):
    if content is None:
        (gallery / name).write_bytes(b"")
    else:
        np.save(gallery / name, content)
    with pytest.raises(UserError, match="is no folder of embeddings"):
        shards.read(gallery, "--index")
