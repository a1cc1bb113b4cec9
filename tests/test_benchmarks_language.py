"""The study of language guidance: at its smallest, and how it chooses."""

import csv
import importlib.util
from types import ModuleType

import pytest
from benchmark_scripts import FOLDER, smoke

SCRIPT = "language/study.py"


def module_of(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("script", FOLDER / script)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def study():
    return module_of(SCRIPT)


def test_it_tunes_and_tests_and_prints_its_tables(tmp_path):
    lines = smoke(SCRIPT, tmp_path).splitlines()
    assert any(line.startswith("| shuffled | 0.0001 | 3 | 1 | ") for line in lines)
    assert any(line.startswith("| shuffled | mistake") for line in lines)


def test_every_variant_makes_as_many_trials(study):
    counts = {len(set(study.trials(variant, study.Size()))) for variant in study.VARIANTS}
    assert counts == {6}


def test_the_best_validation_value_chooses_and_of_equals_the_earliest(study, tmp_path, capsys):
    size = study.Size(trials=3)
    part = study.Part("birds", "margin", {study.BASELINE: {}}, tmp_path)
    family, metric = study.CHOSEN_BY[1].split(": ")
    curves = ([0.1, 0.5, 0.2], [0.3, 0.6, 0.6], [0.6, 0.6, 0.1])
    for trial, curve in zip(study.trials(study.BASELINE, size), curves):
        folder = part.place("tuning") / "birds" / f"baseline_{trial.name}_s{study.TUNING_SEED}"
        (folder / "CSV_Logs").mkdir(parents=True)
        (folder / "args.yaml").write_text("dataset: birds\n")
        with open(folder / "CSV_Logs" / f"Data_Val_{family}.csv", "w") as file:
            csv.writer(file).writerows([("epoch", metric), *enumerate(curve, 1)])
    assert study.choose(part, size) == {
        "baseline": {"lr": study.BASELINE_RATES[2], "language_distill_w": 0.0, "n_epochs": 1}
    }
    assert "| baseline | 0.00014 | 0 | 1 | 60.0 |" in capsys.readouterr().out


def test_each_variant_is_reported_by_what_it_is_measured_by(study, tmp_path, monkeypatch):
    """Word vectors by themselves too, which know nothing of the texts of the last two metrics."""
    asked = []
    monkeypatch.setattr(study.compare, "main", lambda argv: asked.append(argv) or 0)
    for variants in (["word_vectors"], ["word_vectors", "names"]):
        of_them = {variant: {} for variant in variants}
        study.write(study.Part("birds", "margin", of_them, tmp_path), tmp_path / "values.csv")
    alone, together = [
        words[words.index("--metrics") + 1 : words.index("--value")] for words in asked
    ]
    assert alone == ["e_recall@1", "mAP_1000", "mAP@R"]
    assert together == [*alone, "semantic_consistency", "mistake_severity"]


def test_the_demos_classes_are_compared_by_what_their_looks_share():
    script = module_of("language/demo_similarities.py")
    first, other, *_ = looks = script.shapes.class_looks()
    found = script.by_attributes([look.name for look in looks])
    assert found[0, 1] == sum(one == two for one, two in zip(first, other))
    assert (found.diagonal() == 4).all() and found.fill_diagonal_(0).max() == 3
    read = [script.settings_of("x", further) for further in script.READ.values()]
    assert all(settings.language_distill_w and settings.use_tv_split for settings in read)
    assert [settings.language_pseudoclass_share for settings in read] == [1, 1, 1, 1, 0]
