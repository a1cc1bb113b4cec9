"""python -m programs.language: what guidance would read, and the same in a run's folder."""

import csv
import json
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from evaluation import language as tables
from language_guidance import (
    TextBank,
    agreement,
    class_similarities,
    class_vectors,
    nearest_classes,
)
from language_guidance.build import GuidanceSettings
from language_guidance.language_models import MINILM_PACKAGE
from language_guidance.similarities import BankSimilarities
from programs import language
from utilities import packages

CLASSES = ["Auklet", "Blackbird", "Catbird"]


def rows_of(file) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture
def words(photos, run_folder) -> list[str]:
    """Flags of the data of the session's run, whose texts are encoded already."""
    places = ["--source_path", photos, "--cache_path", run_folder.parents[1] / "cache"]
    other = ["--dataset", "birds", "--language_model", "minilm", "--kernels", "0"]
    return [*map(str, places), *other, "--device", "cpu"]


def test_a_run_keeps_what_guidance_reads(run_folder):
    place = run_folder / "Language"
    names = {"similarities.csv", "nearest_classes.csv", "similarities.png", "classes_1.png"}
    assert {file.name for file in place.iterdir()} == names
    vectors = class_vectors(
        GuidanceSettings(model="minilm"),
        [(name,) for name in CLASSES],
        cache=run_folder.parents[1] / "cache",
        device=torch.device("cpu"),
    )
    matrix = rows_of(place / "similarities.csv")
    assert [row["class"] for row in matrix] == CLASSES
    written = [[float(row[name]) for name in CLASSES] for row in matrix]
    np.testing.assert_allclose(written, (vectors @ vectors.T).numpy(), atol=1e-4)
    near = rows_of(place / "nearest_classes.csv")
    assert [row["rank"] for row in near] == ["1", "2"] * 3
    for row in near:
        value = written[CLASSES.index(row["class"])][CLASSES.index(row["nearest"])]
        assert float(row["similarity"]) == value


def test_the_program_shows_what_the_run_read(words, run_folder, tmp_path, capsys):
    folder = tmp_path / "seen"
    weights = packages.file_in(MINILM_PACKAGE, "model/model.safetensors")
    by_another_name = f"hf:{weights.parent}"
    assert language.main([*words, "--to", str(folder), "--against", by_another_name]) == 0
    said = capsys.readouterr().out
    assert "birds: minilm reads class names\neach text in a photo of a {}" in said
    assert "rank correlation 1.00" in said and "100% are the same" in said
    assert str(folder) in said
    for name in ("similarities.csv", "nearest_classes.csv"):
        assert (folder / name).read_text() == (run_folder / "Language" / name).read_text()
    own = (folder / "class_texts.csv").read_text()
    assert own == (run_folder / "class_texts.csv").read_text()
    agreed = json.loads((folder / "agreement.json").read_text())
    assert agreed["correlation"] == pytest.approx(1) and agreed["common"] == 1
    assert (folder / "agreement.png").stat().st_size > 1000
    assert language.main([*words, "--to", str(folder)]) == 2
    assert "holds something" in capsys.readouterr().err


def test_its_own_folder_is_a_new_one(words, tmp_path, capsys):
    for name in ("Language", "Language_1"):
        assert language.main([*words, "--save_path", str(tmp_path), "--no_figures"]) == 0
        written = {file.name for file in (tmp_path / "birds" / name).iterdir()}
        assert written == {"class_texts.csv", "similarities.csv", "nearest_classes.csv"}


@pytest.mark.parametrize("control", ["shuffle", "random", "onehot"])
def test_a_control_is_shown_as_it_guides(words, tmp_path, capsys, control):
    folder = tmp_path / "seen"
    asked = ["--language_control", control, "--no_figures", "--to", str(folder)]
    assert language.main([*words, *asked]) == 0
    assert (folder / "class_texts.csv").exists() == (control == "shuffle")
    values = [float(row["Catbird"]) for row in rows_of(folder / "similarities.csv")]
    assert values[2] == pytest.approx(1, abs=1e-4) and max(values[:2]) < 0.99
    assert control != "onehot" or values[:2] == [0, 0]


@pytest.mark.parametrize(
    "given, idle",
    [
        ("--language_pseudoclass_topk 3", "--language_pseudoclass_topk 3"),
        ("--language_control onehot --language_primer {}", "--language_primer {}"),
        (
            "--language_pseudoclass --language_pseudoclass_level sample "
            "--language_pseudoclass_mean probabilities",
            "--language_pseudoclass_mean probabilities",
        ),
        ("--language_pseudoclass --class_text FILE", "--class_text FILE"),
        ("--language_model vectors:FILE --language_primer {}", "--language_primer {}"),
        ("--language_pseudoclass --language_pseudoclass_share 0.5 --class_text FILE", None),
        ("--language_model minilm --language_primer {} --lr 0.1", None),
        ("--language_model vectors:FILE --language_primer {} --against minilm", None),
        (
            "--language_model vectors:FILE --language_primer {} --against matrix:FILE",
            "--language_primer {}",
        ),
    ],
    ids=lambda value: value and value.replace("--", "").replace(" ", "-"),
)
def test_flags_by_which_nothing_else_is_read_are_told(given, idle, tmp_path):
    file = str(tmp_path / "file")
    (tmp_path / "file").touch()
    flags = language.parse(["--source_path", str(tmp_path), *given.replace("FILE", file).split()])
    told = language._notices(flags.settings, flags.against)
    assert len(told) == (1 if idle else 0), told
    assert not idle or told[0].startswith(f"{idle.replace('FILE', file)} has no effect, because ")


def test_flags_without_effect_are_told_beside_what_is_shown(words, tmp_path, capsys):
    given = ["--language_pseudoclass_topk", "3", "--no_figures", "--to", str(tmp_path / "seen")]
    assert language.main([*words, *given]) == 0
    told = (
        "--language_pseudoclass_topk 3 has no effect, because --language_pseudoclass is not given."
    )
    assert told in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    "texts, said",
    [
        ([], "  Auklet"),
        (["a"], "  Auklet: a"),
        (list("abcde"), "  Auklet: a, b, c, d, e"),
        (list("abcdefg"), "  Auklet: a, b, c, d, e and 2 more"),
    ],
    ids=["none", "one", "five", "seven"],
)
def test_texts_that_the_console_leaves_out_are_counted(texts, said, capsys):
    shown = tables.ClassView("Auklet", texts, [0])
    view = tables.View([shown], 1, np.ones((1, 1)), np.zeros((1, 0), dtype=int))
    language._print_view(view, "captions", language.parse([]).settings)
    assert said in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    "wrong, said",
    [
        (["--language_modl", "clip"], "--language_modl is not known"),
        (["--against", "clop"], "--against"),
        (["--against", "clip"], "--against clip is the --language_model itself"),
        (["--language_pseudoclass_share", "2"], "--language_pseudoclass_share"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(wrong, said, capsys):
    with pytest.raises(SystemExit) as ended:
        language.parse(wrong)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"python -m programs.language: error: {said}")


def test_classes_of_equal_texts_are_equally_near():
    """In their order, whatever a product of equal vectors is rounded to."""
    random = torch.Generator().manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn(3, 384, generator=random), dim=1)
    similarities = (texts @ texts.T).repeat(15, 15)
    rounded = similarities + 1e-7 * torch.randn(similarities.shape, generator=random)
    assert torch.equal(nearest_classes(rounded, 5), nearest_classes(similarities, 5))
    assert nearest_classes(rounded, 5)[1].tolist() == [4, 7, 10, 13, 16]
    agreed = agreement(rounded, similarities)
    assert agreed.correlation == pytest.approx(1, abs=1e-9) and agreed.common == 1
    assert agreement(rounded, 1 + 0 * rounded).correlation == 0
    assert agreement(rounded, 1 + 0.1 * (rounded - similarities)).correlation == 0


def test_what_the_other_model_lacks_is_said_of_its_own_flag(words, tmp_path, capsys):
    file = tmp_path / "a.csv"
    file.write_text(",Auklet\nAuklet,1\n")
    assert language.main([*words, "--to", str(tmp_path / "a"), "--against", f"matrix:{file}"]) == 2
    said = capsys.readouterr().err
    assert f"--against matrix:{file} has no row of the training class" in said
    assert "--language_model" not in said and not (tmp_path / "a").exists()


def test_weights_of_the_other_model_are_given_with_its_name():
    said = language._of_against("pass it with --language_weights PATH (a folder), or use")
    assert said == "pass it with --against hf:PATH or clip:<model>/PATH (a folder), or use"


def test_agreement_against_loops():
    random = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(9, 4, generator=random), dim=1)
    others = torch.nn.functional.normalize(vectors + 0.4 * torch.randn(9, 4, generator=random))
    first, second = vectors @ vectors.T, others @ others.T
    pairs = list(combinations(range(9), 2))
    expected = spearmanr([first[p].item() for p in pairs], [second[p].item() for p in pairs])
    common = 0
    for place in range(9):
        near = []
        for similarities in (first, second):
            rest = [other for other in range(9) if other != place]
            rest.sort(key=lambda other, of=similarities[place]: -of[other].item())
            near.append(set(rest[:3]))
        common += len(near[0] & near[1])
    found = agreement(first, second, neighbours=3)
    assert found.correlation == pytest.approx(expected.statistic, abs=1e-9)
    assert found.common == pytest.approx(common / 27) and found.by_chance == 3 / 8
    assert agreement(first, first).common == 1
    one_way = first.tril() + second.triu(1)  # given similarities need not be symmetric
    is_pair = ~np.eye(len(first), dtype=bool)
    both_ways = spearmanr(*(each.numpy()[is_pair].round(5) for each in (one_way, second)))
    assert agreement(one_way, second).correlation == pytest.approx(both_ways.statistic)
    assert agreement(torch.eye(9), torch.eye(9)).correlation == 0
    with pytest.raises(ValueError, match="two or more"):
        agreement(torch.eye(1), torch.eye(1))


def test_classes_whose_images_have_their_own_texts_are_means_over_pairs():
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    bank = TextBank(
        torch.randn(5, 3, generator=random),
        torch.randint(5, (9, 2), generator=random),
        by_image=True,
    )
    source = BankSimilarities(bank)
    whole = source(labels, torch.arange(9))
    found = class_similarities(source, labels, torch.tensor([0, 2]), by_image=True)
    # Of 3 images at 8 even steps the middle one counts twice, the others three times.
    weights = torch.tensor([2, 4, 2]) / 8
    rows = [slice(0, 3), slice(6, 9)]
    for place, first in enumerate(rows):
        for other, second in enumerate(rows):
            expected = weights @ whole[first, second] @ weights
            assert found[place, other].item() == pytest.approx(expected.item(), abs=1e-6)


def test_many_classes_are_listed_in_part(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "LISTED", 4)
    chosen = tables.at_even_steps(10, tables.LISTED)
    assert chosen == [0, 3, 6, 9]
    similarities = torch.eye(4)
    view = tables.View(
        [tables.ClassView("alike", [], []) for _ in chosen],
        10,
        similarities.numpy(),
        nearest_classes(similarities, 5).numpy(),
    )
    assert view.left_out().startswith("4 of 10 classes are listed")
    tables.write_tables(tmp_path, view)
    first, *others = (tmp_path / "similarities.csv").read_text().splitlines()
    assert first == "class,alike,alike,alike,alike" and len(others) == 4
