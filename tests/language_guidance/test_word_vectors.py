"""Word vectors from the files that people have."""

import gzip
import logging
import unicodedata

import numpy as np
import pytest
import torch

from language_guidance import GuidanceSettings, class_vectors, language_models, word_vectors
from utilities.errors import UserError

VECTORS: dict[str, list[float]] = {
    "red": [1.0, 0, 0],
    "dog": [0, 2.0, 0],
    "three-toed": [0, 0, 3.0],
    "St.": [9, 9, 9],
    "o'clock": [0.5, 0.5, 0],
    "naïve": [4, 0, 4],
}


def lines(header: str = "") -> str:
    rows = [" ".join([word, *map(str, vector)]) for word, vector in VECTORS.items()]
    return "\n".join([*([header] if header else []), *rows]) + "\n"


@pytest.fixture(params=["glove", "word2vec", "array"])
def file(request, tmp_path):
    if request.param == "array":
        np.save(tmp_path / "words.npy", np.array(list(VECTORS.values()), dtype=np.float32))
        (tmp_path / "words.txt").write_text("\n".join(VECTORS) + "\n", encoding="utf-8")
        return tmp_path / "words.npy"
    header = "6 3" if request.param == "word2vec" else ""
    (tmp_path / "words.vec").write_text(lines(header), encoding="utf-8")
    return tmp_path / "words.vec"


def test_the_mean_over_the_words(file):
    texts = ["red dog", "Red", "three-toed DOG", "a naïve o'clock"]
    found = word_vectors.encode(str(file), texts)
    expected = [[0.5, 1, 0], [1, 0, 0], [0, 1, 1.5], [2.25, 0.25, 2]]
    assert found.dtype == torch.float32 and found.tolist() == expected


def test_vectors_that_are_kept_follow_the_words_of_an_array(tmp_path):
    np.save(tmp_path / "words.npy", np.eye(2, dtype=np.float32))
    settings = GuidanceSettings(model=f"vectors:{tmp_path / 'words.npy'}")
    for words in (["red", "dog"], ["dog", "red"]):
        (tmp_path / "words.txt").write_text("\n".join(words))
        found = class_vectors(settings, [("red",)], cache=tmp_path, device=torch.device("cpu"))
        assert found.argmax().item() == words.index("red")


def test_a_word_that_is_missing_counts_by_its_parts_or_is_told(file, caplog):
    with caplog.at_level(logging.WARNING):
        found = word_vectors.encode(str(file), ["red-dog", "red unicorn", "dog unicorn zebra"])
    assert found.tolist() == [[0.5, 1, 0], [1, 0, 0], [0, 2, 0]]
    assert "lacks 2 of the words" in caplog.text and "unicorn, zebra" in caplog.text


def test_a_text_without_any_known_word_is_refused(file, tmp_path):
    settings, texts = GuidanceSettings(model=f"vectors:{file}"), [("red",), ("unicorn",)]
    with pytest.raises(UserError, match="'unicorn' is zero, as where none of its words.*_text"):
        class_vectors(settings, texts, cache=tmp_path / "cache", device=torch.device("cpu"))
    assert not word_vectors.encode(str(file), ["unicorn"]).any()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gzip"])
def test_files_of_other_encodings(tmp_path, encoding):
    path = tmp_path / ("words.vec.gz" if encoding == "gzip" else "words.vec")
    content = lines("6 3").replace("\n", "\r\n")
    path.write_bytes(
        gzip.compress(content.encode()) if encoding == "gzip" else content.encode(encoding)
    )
    assert word_vectors.encode(str(path), ["red", "Naïve"]).tolist() == [[1, 0, 0], [4, 0, 4]]


def test_an_archive_that_ends_early(tmp_path):
    (tmp_path / "words.gz").write_bytes(gzip.compress(lines().encode())[:-12])
    with pytest.raises(UserError, match=r"words\.gz cannot be read"):
        word_vectors.encode(str(tmp_path / "words.gz"), ["red"])


def test_letters_whose_accents_stand_apart(file):
    apart = unicodedata.normalize("NFD", "naïve dog")
    assert word_vectors.encode(str(file), [apart]).tolist() == [[2, 1, 2]]


@pytest.mark.parametrize("word", ["हिन्दी", "தமிழ்", "می\u200cشود"])
def test_signs_of_vowels_part_no_word(tmp_path, word):
    (tmp_path / "words.vec").write_text(f"{word} 1 2\nred 3 4\n", encoding="utf-8")
    found = word_vectors.encode(str(tmp_path / "words.vec"), [f"{word}, red"])
    assert found.tolist() == [[2, 3]]


def test_underscores_part_words_that_are_not_there_as_one(file, tmp_path):
    assert word_vectors.encode(str(file), ["red_dog", "_red"]).tolist() == [[0.5, 1, 0], [1, 0, 0]]
    (tmp_path / "phrases.txt").write_text("red_dog 7 7\nred 1 1\ndog 3 3\n")
    assert word_vectors.encode(str(tmp_path / "phrases.txt"), ["red_dog"]).tolist() == [[7, 7]]


def test_of_a_word_that_is_there_twice_the_first_counts(tmp_path, caplog):
    (tmp_path / "words.txt").write_text("red\ndog\nred\n")
    np.save(tmp_path / "words.npy", np.array([[1, 0], [0, 1], [5, 5]]))
    (tmp_path / "words.vec").write_text("red 1 0\ndog 0 1\nred 5 5\n")
    for name in ("words.npy", "words.vec"):
        assert word_vectors.encode(str(tmp_path / name), ["red"]).tolist() == [[1, 0]]
        assert f"{name} has several vectors of a word, of which the first counts: red." in (
            caplog.text
        )


def test_words_that_hold_what_may_end_a_line(tmp_path):
    """As U+0085 and U+2028, which published vectors have."""
    (tmp_path / "words.txt").write_text("a\x85b\nc\u2028d\nred \n", encoding="utf-8")
    np.save(tmp_path / "words.npy", np.array([[1, 0], [0, 1], [5, 5]]))
    assert word_vectors.encode(str(tmp_path / "words.npy"), ["red"]).tolist() == [[5, 5]]


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"red 1 2 3\ndog 3 4 5\n", mtime=0),
        "red is a colour\nred 1 2 3\n",
        "dog 0,5 1,5\nred 1,5 1,5\n",
        "dog 1 2 3\nred 1 a 3\n",
        "red 1 2 3\ndog 1 2\n",
        "red one two three\n",
        "red\n",
        "red 1 nan 2\n",
        "red 1_0 2 3\n",
        "dog 1 2 3\nred 1 0_5 3\n",
        "red 1 1e99 2\n",
        b"\x00\x01\x02",
    ],
)
def test_files_of_another_form(tmp_path, content):
    path = tmp_path / "words.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"words\.txt cannot be read"):
        word_vectors.encode(str(path), ["red dog"])


def test_words_without_numbers_are_no_vectors(tmp_path):
    """As in the words beside an array, some of which have spaces in them."""
    (tmp_path / "words.txt").write_text("blue\nred\n")
    (tmp_path / "others.txt").write_text("blue\ngreen\n")
    with pytest.raises(
        UserError, match=r"words\.txt cannot be read \(line 2 has no numbers behind"
    ):
        word_vectors.encode(str(tmp_path / "words.txt"), ["red"])
    with pytest.raises(UserError, match=r"\(no line has a word and, behind a space, its numbers\)"):
        word_vectors.encode(str(tmp_path / "others.txt"), ["red"])


@pytest.mark.parametrize(
    "fault", ["no words", "other count", "pickle", "one dimension", "archive", "nan", "texts"]
)
def test_arrays_of_another_form(tmp_path, fault):
    array = np.zeros((2, 3), dtype=np.float32)
    if fault == "pickle":
        array = np.array([{"red": 1}, {}], dtype=object)
    if fault == "one dimension":
        array = array[:, 0]
    if fault == "nan":
        array[0, 1] = np.nan
    np.save(tmp_path / "words.npy", array.astype(str) if fault == "texts" else array)
    if fault == "archive":
        with (tmp_path / "words.npy").open("wb") as file:
            np.savez(file, a=array)
    if fault != "no words":
        (tmp_path / "words.txt").write_text("red\ndog\n" + "cat\n" * (fault == "other count"))
    with pytest.raises(UserError, match=r"words\.npy cannot be read"):
        word_vectors.encode(str(tmp_path / "words.npy"), ["red"])


def test_words_with_spaces_in_them_are_others(tmp_path):
    """As in published vectors: "at name@domain.com" is a word of its own."""
    path = tmp_path / "words.txt"
    rows = ["red 1 2", "at name@domain.com 7 7", "at 3 4", ". . . 5 5"]
    for order in (rows, rows[::-1], rows[1:] + rows[:1]):
        path.write_text("\n".join(order) + "\n")
        assert word_vectors.encode(str(path), ["red at"]).tolist() == [[2, 3]]


def test_a_pipe_is_not_waited_for(pipe):
    with pytest.raises(UserError, match="a pipe or a device"):
        word_vectors.encode(str(pipe), ["red"])


def test_words_are_read_without_a_primer_and_all_at_once(file, monkeypatch):
    monkeypatch.setattr(language_models, "SENTENCES_AT_ONCE", 1)
    read = []
    encode = word_vectors.encode
    monkeypatch.setattr(word_vectors, "encode", lambda *given: read.append(given) or encode(*given))
    model = language_models.select(f"vectors:{file}")
    vectors = language_models.encode(model, ["red", "dog"], "a photo of a {}", torch.device("cpu"))
    assert vectors.tolist() == [[1, 0, 0], [0, 2, 0]] and len(read) == 1


@pytest.mark.parametrize("separator", ["\t", ","])
def test_words_and_numbers_without_a_space_between_them(tmp_path, separator):
    path = tmp_path / "words.txt"
    path.write_text(lines().replace(" ", separator))
    with pytest.raises(UserError, match="no line has a word and, behind a space, its numbers"):
        word_vectors.encode(str(path), ["red"])
