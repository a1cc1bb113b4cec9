"""Sweeps of Weights & Biases, on a stand-in of its agent that takes them at their word."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

import parameters
from programs import sweep

STUDY = """
settings: {{save_path: {here}/runs, no_figures: true, tau: [3, 5], class_text: null, bs: 8}}
datasets: [cub200, cars196]
variants:
  base: {{project: paper}}
  guided: {{language_distill_w: 5, language_pseudoclass: true}}
seeds: [0, 7]
"""


def commands(path: Path) -> list[list[str]]:
    """What an agent runs, by W&B's documented meaning of parameters and macros."""
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    assert content["method"] == "grid"
    names, values = [], []
    for name, parameter in content["parameters"].items():
        names.append(name)
        values.append(parameter["values"] if "values" in parameter else [parameter["value"]])
    macros = {"${env}": ["env"], "${interpreter}": ["python"], "${program}": [content["program"]]}
    ran = []
    for combination in itertools.product(*values):
        flags: list[str] = []
        for name, value in zip(names, combination):
            if isinstance(value, bool):
                flags += [f"--{name}"] * value
            else:
                flags.append(f"--{name}={value}")
        known = macros | {"${args_no_boolean_flags}": flags}
        ran.append([word for part in content["command"] for word in known.get(part, [part])])
    return ran


@pytest.fixture
def written(tmp_path, capsys):
    def written(text: str) -> Path:
        (tmp_path / "paper.yaml").write_text(text.format(here=tmp_path))
        assert sweep.main([str(tmp_path / "paper.yaml"), "--wandb"]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith("wandb sweep ")
        return Path(line.removeprefix("wandb sweep "))

    return written


def test_an_agent_runs_what_the_sweep_would(written, tmp_path):
    ran = commands(written(STUDY))
    assert len(ran) == 8 and all(words[:3] == ["env", "python", "main.py"] for words in ran)
    runs = {}
    for words in ran:
        settings = parameters.parse(words[3:])
        runs[settings.dataset, settings.group, settings.seed] = settings
        assert settings.log_online and settings.completed and settings.no_figures
        assert settings.tau == [3, 5] and settings.bs == 8
        is_guided = settings.group == "guided"
        assert settings.language_pseudoclass == is_guided
        assert settings.language_distill_w == (5 if is_guided else 0)
        assert settings.project == ("DiVA_Sample_Runs" if is_guided else "paper")
    assert runs.keys() == set(itertools.product(["cub200", "cars196"], ["base", "guided"], [0, 7]))


def test_other_variants_change_nothing_below_the_agents_of_a_sweep(written):
    """An agent reads a variant's file when its run begins, days later."""
    first = written(STUDY)
    before = {path: path.read_bytes() for path in first.parent.rglob("*.yaml")}
    assert written(STUDY) == first
    other = written(STUDY.replace("language_distill_w: 5", "language_distill_w: 6"))
    assert other.parent != first.parent
    assert {path: path.read_bytes() for path in first.parent.rglob("*.yaml")} == before


def test_further_parameters_of_the_file_are_swept(written):
    """Switches too: each value reaches main.py, and none is held by the variant's file."""
    text = STUDY.replace("[cub200, cars196]", "[cub200]").replace("[0, 7]", "[0]") + (
        "wandb: {{project: mine, parameters: {{no_figures: {{values: [true, false]}}, "
        "lr: {{values: [0.1, 0.2]}}}}}}"
    )
    path = written(text)
    assert yaml.safe_load(path.read_text())["project"] == "mine"
    settings = [parameters.parse(words[3:]) for words in commands(path)]
    swept = itertools.product(["base", "guided"], [True, False], [0.1, 0.2])
    assert {(one.group, one.no_figures, one.lr) for one in settings} == {
        (f"{variant}_no_figures{figures}_lr{lr}", figures, lr) for variant, figures, lr in swept
    }


def test_numbers_reach_readers_of_yaml_as_numbers(written):
    text = "settings: {{save_path: {here}/r}}\nvariants: {{a: }}\nwandb: {{parameters: {{" + (
        "lr: {{distribution: log_uniform_values, min: 1e-5, max: 1e-3}}, decay: {{values: [1e-4]}},"
        "bs: {{min: 8, max: 16}}, gamma: {{distribution: log_uniform, min: -3, max: -1.50}}}}, "
        "early_terminate: {{eta: 2.50}}}}"
    )
    path = written(text)
    assert "eta: 2.50\n" in path.read_text()
    swept = yaml.safe_load(path.read_text())["parameters"]
    assert swept["lr"] == {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-3}
    assert swept["decay"] == {"values": [1e-4]} and swept["bs"] == {"min": 8, "max": 16}
    assert swept["gamma"] == {"distribution": "log_uniform", "min": -3, "max": -1.5}


def test_variants_of_their_own_seeds_are_not_crossed_with_others(written):
    text = "settings: {{save_path: {here}/r}}\nvariants: {{a: {{seed: 3}}, b: {{seed: 4}}}}"
    settings = [parameters.parse(words[3:]) for words in commands(written(text))]
    assert [(one.group, one.seed) for one in settings] == [("a", 3), ("b", 4)]


def test_each_variant_of_each_dataset_has_a_file_of_its_own(written):
    text = "settings: {{save_path: {here}/r}}\nvariants: {{half_x: , x: {{bs: 16}}}}\n" + (
        "datasets: [cars196, cars196_half]\nseeds: [1]"
    )
    settings = [parameters.parse(words[3:]) for words in commands(written(text))]
    ran = {(one.dataset, one.group) for one in settings}
    assert ran == set(itertools.product(["cars196", "cars196_half"], ["half_x", "x"]))


def test_a_parameter_that_is_no_flag_is_refused(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("variants: {a: }\nwandb: {parameters: {lrr: {value: 1}}}")
    assert sweep.main([str(tmp_path / "a.yaml"), "--wandb"]) == 2
    assert "there is no setting lrr (did you mean lr?)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "rest",
    [
        "variants: {a: , b: {bs: 16}}",
        "variants: {b: --bs 16}",
        "variants: {b: }\ndatasets: {cub200: {variants: {b: {bs: 16}}}}",
        "variants: {a: , b: {config: CONFIG}}",
        "variants: {b: }\ndatasets: {cars196: {bs: 8}, cub200: {bs: 16}}",
    ],
)
def test_what_tells_runs_apart_is_not_swept(tmp_path, capsys, rest):
    (tmp_path / "c.yaml").write_text("bs: 16")
    (tmp_path / "a.yaml").write_text(
        "wandb: {parameters: {bs: {values: [8, 16]}}}\n"
        + rest.replace("CONFIG", str(tmp_path / "c.yaml"))
    )
    assert sweep.main([str(tmp_path / "a.yaml"), "--wandb", "--dry_run"]) == 2
    why = "bs is no parameter of a sweep: b on cub200 has bs of its own; leave it out"
    assert why in capsys.readouterr().err


def test_what_acts_by_what_the_sweep_adds_is_not_said_to_be_idle(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text(
        "settings: {tags: [x], language_model: bert}\nvariants: {a: }\n"
        "wandb: {parameters: {language_distill_w: {values: [0, 5]}}}"
    )
    assert sweep.main([str(tmp_path / "a.yaml"), "--wandb", "--dry_run"]) == 0
    assert capsys.readouterr().err == ""


def test_a_dry_run_shows_the_sweep(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text(f"settings: {{save_path: {tmp_path}/r}}\nvariants: {{a: }}")
    assert sweep.main([str(tmp_path / "a.yaml"), "--wandb", "--dry_run"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["name"] == "a" and shown["parameters"]["completed"] == {"value": True}
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("parameter", "why"),
    [
        ("config: {values: [x]}", "config is no parameter of a sweep: its values are the variants"),
        ("lr: 5", "parameter lr must say its values"),
        ("lr: {values: 5}", "parameter lr must say its values"),
        ("lr: {values: [abc]}", "lr: 'abc' is not a number"),
        ("lr: {values: [-1]}", "lr: --lr must be above 0, not -1"),
        ("lr: {min: abc, max: 1}", "lr: 'abc' is not a number"),
        ("bs: {min: 1.5, max: 8}", "bs: 1.5 is not a whole number"),
        ("optim: {min: 1, max: 2}", "optim: min is for numbers, and this is a text"),
        ("class_text: {values: [null]}", "class_text: None is not a path"),
        ("tau: {values: [[10, 20], [30]]}", "tau: [10, 20] is a list, and an agent hands over"),
        ("evaluation_metrics: {value: [nmi]}", "evaluation_metrics: ['nmi'] is a list"),
    ],
)
def test_parameters_that_no_agent_could_hand_over_are_refused(tmp_path, capsys, parameter, why):
    (tmp_path / "a.yaml").write_text(f"variants: {{a: }}\nwandb: {{parameters: {{{parameter}}}}}")
    assert sweep.main([str(tmp_path / "a.yaml"), "--wandb", "--dry_run"]) == 2
    assert why in capsys.readouterr().err
