"""What a sweep file stands for, and what is wrong with one."""

from collections.abc import Callable
from pathlib import Path

import pytest

import parameters
from programs.sweeping import study
from programs.sweeping.document import WrongFile
from programs.sweeping.study import Study

ROOT = Path(__file__).resolve().parents[3]
Read = Callable[..., Study]


@pytest.fixture
def read(tmp_path) -> Read:
    def read(text: str, *further: str) -> Study:
        (tmp_path / "a.yaml").write_text(text)
        return study.read(tmp_path / "a.yaml", further)

    return read


@pytest.fixture
def wrong(read, tmp_path) -> Callable[..., list[str]]:
    """What is told of a file, from the place in it on."""

    def wrong(text: str, *further: str) -> list[str]:
        with pytest.raises(WrongFile) as refused:
            read(text, *further)
        return [line.removeprefix(f"{tmp_path}/a.yaml") for line in refused.value.sentences]

    return wrong


def test_what_stands_behind_the_hyphens_takes_the_place_of_the_file(read):
    """So that the run does not say that a flag is given twice."""
    text = "{settings: {loss: triplet, bs: 8, save_path: A}, variants: {base: {}}}"
    (run,) = read(text, "--save_path", "B", "--bs=16").runs
    assert (run.settings.save_path, run.settings.bs, run.settings.loss) == ("B", 16, "triplet")
    assert not run.settings.repeated


def test_runs_are_seeds_x_datasets_x_variants(read):
    planned = read("""
        settings: {loss: triplet, bs: 8, lr: 1e-3}
        datasets:
          cub200: {source_path: A, variants: {guided: {language_distill_w: 7.5}}}
          cars: {dataset: cars196, bs: 16}
        variants:
          base:
          guided: {language_distill_w: 1, language_pseudoclass: true, bs: 4}
        seeds: [0, 10]
        baseline: guided
        jobs: 3
        gpus: 1
    """)
    assert [run.label for run in planned.runs[:4]] == [
        "cub200/base_s0",
        "cub200/guided_s0",
        "cars196/base_s0",
        "cars196/guided_s0",
    ]
    assert [run.settings.seed for run in planned.runs] == [0] * 4 + [10] * 4
    settings = [run.settings for run in planned.runs[:4]]
    assert [one.bs for one in settings] == [8, 4, 16, 4]
    assert [one.language_distill_w for one in settings] == [0, 7.5, 0, 1]
    assert [one.source_path for one in settings] == ["A", "A", "../../Datasets", "../../Datasets"]
    assert [one.language_pseudoclass for one in settings] == [False, True, False, True]
    assert (planned.baseline, planned.jobs, planned.gpus) == ("guided", 3, ["1"])
    for run in planned.runs:  # as the process of the run will read its command
        words = run.command(None)[2:]
        assert vars(parameters.parse(words)) | {"completed": False} == vars(run.settings)


def test_without_seeds_each_variant_has_its_own(read):
    planned = read("variants: {a: {seed: 3}, b: --seed 4 --bs 8, 7: }")
    assert [run.label for run in planned.runs] == ["cub200/a_s3", "cub200/b_s4", "cub200/7_s0"]
    assert planned.runs[1].settings.bs == 8 and planned.baseline == "a"
    assert read("variants: {a: }\nbaseline: null").baseline is None


def test_datasets_may_be_a_list_of_names(read):
    planned = read("variants: {a: }\ndatasets: [cub200, cars196]")
    assert [run.label for run in planned.runs] == ["cub200/a_s0", "cars196/a_s0"]


def test_datasets_of_one_kind_have_groups_of_their_own(read):
    planned = read("""
        variants: {a: , b: {lr: 1}}
        datasets:
          mine: {dataset: folder, source_path: A}
          yours: {dataset: folder, source_path: B}
    """)
    names = [run.label for run in planned.runs]
    assert names == [
        "folder/mine_a_s0",
        "folder/mine_b_s0",
        "folder/yours_a_s0",
        "folder/yours_b_s0",
    ]


def test_a_config_may_be_taken_back_in_parts(read, tmp_path):
    """A switch that is off and null, which no flag of main.py says."""
    config = tmp_path / "c.yaml"
    config.write_text("no_figures: true\nbs: 8\nclass_text: x.csv\nsavename: other\ngpu: [3]\n")
    (tmp_path / "x.csv").write_text("class,text\n")
    config.write_text(config.read_text().replace("x.csv", str(tmp_path / "x.csv")))
    text = (
        f"settings: {{config: {config}}}\nvariants: {{a: , b: {{no_figures: false, class_text: }}}}"
    )
    a, b = read(text).runs
    assert "--config" in a.words and a.settings.no_figures and a.settings.class_text
    assert "--config" not in b.words and not b.settings.no_figures
    assert b.settings.class_text is None and a.settings.bs == b.settings.bs == 8
    assert (a.name, b.name) == ("a_s0", "b_s0") and a.settings.gpu == b.settings.gpu == [0]


def test_odd_values_reach_main(read):
    (run,) = read("""
        settings: {project: --x, tau: [3, 5], wandb_key: secret, language_primer: '"{}" # it''s'}
        variants: {"a b": }
    """).runs
    settings = parameters.parse(run.command(None)[2:])
    assert (settings.project, settings.tau, settings.group) == ("--x", [3, 5], "a b")
    assert settings.language_primer == ['"{}" # it\'s']
    assert "secret" in run.words and "secret" not in run.shown(None)


def test_what_stands_behind_counts_over_the_file(read, wrong):
    (run,) = read("variants: {a: {bs: 8}}", "--bs", "4", "--source_path=X").runs
    assert (run.settings.bs, run.settings.source_path) == (4, "X")
    assert wrong("variants: {a: }", "--bs", "1", "--group", "b") == [
        ": behind --: --group is not given to a sweep: the name of a variant is the group of its "
        "runs.",
        ": behind --: --bs must be at least 2, not 1.",
        ": behind --: --bs 1 is not a multiple of --samples_per_class 2.",
    ]


@pytest.mark.parametrize(
    "text, told",
    [
        ("[1]", " must hold lines of the form 'name: value'."),
        (
            "a: [",
            " is not valid YAML: line 1: while parsing a flow node, expected the node content",
        ),
        ("settings: {}", ": variants must name at least one"),
        ("variants: {a: }\nsetings: {}", ", line 2: setings means nothing here (did you mean sett"),
        ("variants: {a: }\nlr: 1", ", line 2: lr is a setting of main.py: put it below settings."),
        ("variants: {a: {batch_siz: 1}}", ", line 1: there is no setting batch_siz"),
        ("variants:\n  a:\n    lr: fast", ", line 3: lr: 'fast' is not a number."),
        ("variants:\n  a:\n    no_figures: 1", ", line 3: no_figures: 1 is not true or false."),
        ("variants:\n  a:\n    lr: -1", ", line 3: --lr must be "),
        ("variants:\n  a: {}\n  b: --lr", ", line 3: --lr needs a value: a number."),
        (
            "variants:\n  a: {}\n  b: --lr '",
            ", line 3: these are no flags of a command line: No cl",
        ),
        ("variants:\n  a/b: {}", ", line 2: --group a/b names the run folder, which takes no sla"),
        (
            "variants:\n  a:\n    group: b",
            ", line 3: group is not set in a sweep: the name of a va",
        ),
        ("variants:\n  a: 3", ", line 2: a must hold lines of the form 'name: value'."),
        ("variants:\n  no: {}", ", line 1: YAML reads a name as False; write it in quotes."),
        ("variants: {a: }\nseeds: 3", ", line 2: seeds must be a list of whole numbers"),
        ("variants: {a: }\nseeds: [0x2, 1_2]", ", line 2: seeds must be a list of whole numbers"),
        ("variants: {a: {bs: 1_6}}", ", line 1: bs: '1_6' is not a whole number."),
        ("variants: {1: , '1': }", ", line 1: 1 is there twice, with quotes and without."),
        ("variants: {a: }\nseeds: [-1]", ", line 2: --seed must be at least 0, not -1."),
        ("variants: {a: {seed: 1}}\nseeds: [1]", ", line 1: seed: the seeds of all runs stand in"),
        ("variants: {one: }\nbaseline: onne", ", line 2: baseline: there is no variant onne (did"),
        ("variants: {a: }\njobs: 0", ", line 2: jobs must be a whole number of at least 1."),
        *[
            (f"variants: {{a: }}\ngpus: {gpus}", ", line 2: gpus must be a list of their numbers")
            for gpus in ("[[]]", "0,1", "'0,1'", "0 1", "[-1]", "[0.5]", "true", "[]", "['']")
        ],
        ("variants: {a: }\nslurm: {time: [1]}", ", line 2: time must be a long option of sbatch"),
        (
            "variants: {a: }\ndatasets:\n  x:\n    variants: {b: {}}",
            ", line 4: there is no variant b",
        ),
        ("settings: {config: nowhere.yaml}\nvariants: {a: }", ", line 1: --config nowhere.yaml"),
    ],
)
def test_what_is_wrong_has_its_line(wrong, text, told):
    sentences = wrong(text)
    assert any(sentence.startswith(told) for sentence in sentences), sentences


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WrongFile, match="nowhere.yaml: there is no such file"):
        study.read(tmp_path / "nowhere.yaml")
    with pytest.raises(WrongFile, match=f"{tmp_path}: it is a folder, not a file"):
        study.read(tmp_path)


def test_variants_of_the_same_settings_are_told(read):
    """Also where they differ in what has no effect in them."""
    planned = read("""
        variants:
          a: {language_model: bert}
          b: {language_distill_w: 0}
          c: {language_distill_w: 1}
        seeds: [0, 1]
    """)
    assert study.notices(planned) == ["The variants a and b come to the same settings on cub200."]


def test_what_acts_in_no_run_is_told_once(read):
    planned = read("settings: {loss: triplet, loss_margin_nu: 1}\nvariants: {a: , b: {lr: 1}}")
    (notice,) = study.notices(planned)
    assert notice.startswith("--loss_margin_nu 1.0 has no effect")


def test_the_file_of_the_page_is_one(read, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "many_runs.md").read_text()
    planned = read(page.split("```yaml\n")[1].split("```")[0])
    shipped = study.read(ROOT / "configs" / "sweeps" / "demo.yaml")
    assert [vars(run.settings) for run in planned.runs] == [
        vars(run.settings) for run in shipped.runs
    ]


@pytest.mark.parametrize(
    "path",
    [*(ROOT / "configs" / "sweeps").glob("*.yaml"), *(ROOT / "benchmarks").glob("*.yaml")],
    ids=lambda path: path.name,
)
def test_shipped_sweeps_are_valid(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert study.notices(study.read(path)) == []


def test_runs_of_one_folder_are_refused(wrong):
    text = "variants: {a: {lr: 1}}\nseeds: [0, 1]"
    (told,) = wrong(text, "--seed", "3")
    assert "several of its runs come to be" in told and "a_s3" in told


def test_numbers_as_names_are_those_that_are_written(read):
    planned = read("""
        settings: {notes: 1.50, tags: [1.50, 2026-01-01T00:00:00, 010]}
        variants: {1.50: {lr: 1.50}, 1.5e-3: {lr: 2}, 0x10: {lr: 3}, 1_000: {lr: 4}}
        baseline: 1.5e-3
    """)
    assert [run.group for run in planned.runs] == ["1.50", "1.5e-3", "0x10", "1_000"]
    settings = planned.runs[0].settings
    assert settings.notes == "1.50" and settings.tags == ["1.50", "2026-01-01T00:00:00", "010"]
    assert type(settings.lr) is float and settings.lr == 1.5 and planned.baseline == "1.5e-3"


def test_names_that_run_into_each_other_are_refused(wrong):
    """Wherever the runs lie: a sweep tells them apart by their names."""
    told = wrong("""
        variants: {a_b: , b: {lr: 1}}
        datasets:
          mine: {dataset: folder, source_path: A, save_path: A}
          mine_a: {dataset: folder, source_path: B, save_path: B}
    """)
    assert told == [
        ", line 2: folder/mine_a_b_s0 would be the name of two runs: of variant a_b on mine, and "
        "of b on mine_a; rename one of these."
    ]


def test_what_is_no_flag_behind_the_dashes_is_no_value_of_a_flag_before_them(wrong):
    text = "variants: {a: {evaluation_metrics: [e_recall@1]}}"
    assert "behind --: nmi belongs to no flag" in wrong(text, "nmi")[0]


def test_an_option_of_sbatch_is_one_line(wrong):
    text = 'variants: {a: {lr: 1}}\nslurm: {time: "1\\n#SBATCH --wrap=x"}'
    assert wrong(text) == [", line 2: time must be a value of one line."]
