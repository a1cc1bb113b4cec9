"""Flags: the paper's table, the registries, --config, and messages."""

import inspect
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import reference
import yaml

import batchminer
import criteria
import datasampler
import datasets
import metrics
import parameters
from batchminer.pml import PytorchMetricLearningMiner
from criteria.pml import PytorchMetricLearningLoss
from language_guidance import controls, language_models
from training import optimizers, schedules
from utilities.flags import LARGEST, Choice, Flag, Need, Number, Place, Switch
from utilities.version import VERSION

SECTIONS = (
    "Objectives (--loss)",
    "Batch miners (--batch_mining)",
    "Batch samplers (--data_sampler)",
    "Metrics (--evaluation_metrics)",
    "Datasets (--dataset)",
    "Language models (--language_model)",
    "Optimisers (--optim)",
)
ROOT = Path(__file__).resolve().parents[1]
FILLED_BY_THE_RUN = {"n_classes", "embed_dim", "feature_dim", "miner", "flag", "self"}
BUILT_BEFORE = {"source", "target"}  # the flag names an objective, the argument is that objective


def flags() -> dict:
    return {action.dest: action for action in parameters.build_parser()._actions}


def fails(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        parameters.parse(list(argv))
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_every_flag_of_the_paper_with_name_type_default_and_group():
    text = reference.require(reference.SHARED / "PAPER_FLAGS.md", "SHARED_DIR").read_text()
    kinds = {"str": str, "int": int, "float": float}
    parser = parameters.build_parser()
    groups = {
        group.title: {action.dest for action in group._group_actions}
        for group in parser._action_groups
    }
    section, seen = None, 0
    for line in text.splitlines():
        section = line[3:].strip() if line.startswith("## ") else section
        row = re.fullmatch(r"\| `--(\w+)` \| (\w+) \| `(.+)` \| (.*) \|", line)
        if not row:
            continue
        name, kind, default, takes = row.groups()
        action = flags()[name]
        expected = (
            default if kind == "str" and not default.startswith("[") else eval(default)
        )  # a literal of the table
        assert action.default == expected, name
        assert name in groups[section], name
        assert (action.nargs == 0) if kind == "flag" else (action.type is kinds[kind]), name
        assert (action.nargs == "+") == (takes.strip() == "several"), name
        seen += 1
    assert seen > 80
    assert {"--datapath", "--source_path"} <= set(flags()["source_path"].option_strings)
    assert {"--epochs", "--n_epochs"} <= set(flags()["n_epochs"].option_strings)


def test_the_catalogue_names_what_the_registries_hold():
    kinds = ("loss", "miner", "sampler", "metric", "dataset", "model", "optimiser")
    sections = dict(zip(kinds, SECTIONS))
    held = {
        "loss": {*criteria.REGISTRY, "pml:<ClassName>"},
        "miner": {*batchminer.REGISTRY, "pml:<ClassName>"},
        "sampler": set(datasampler.REGISTRY),
        "metric": set(metrics.REGISTRY),
        "dataset": {*datasets.BENCHMARKS, *datasets.OWN_DATA, "shapes", "<any name>"},
        "model": {*language_models.REGISTRY, *parameters.OPEN_MODELS},
        "optimiser": {*optimizers.REGISTRY, "timm:<name>"},
    }
    assert {kind: set(parameters.catalogue()[title]) for kind, title in sections.items()} == held
    assert set(parameters.BENCHMARK_LINES) == set(datasets.BENCHMARKS)
    assert set(parameters.OWN_DATA_LINES) == set(datasets.OWN_DATA)
    kinds_of_models = {name.partition(":")[0] for name in parameters.OPEN_MODELS}
    assert kinds_of_models == set(language_models.OPEN)
    assert parameters.IMAGENET_PRIMERS == language_models.IMAGENET_PRIMERS
    assert set(parameters.LANGUAGE_CONTROL_LINES) == set(controls.CONTROLS)
    assert parameters.WITHOUT_TEXTS == controls.WITHOUT_TEXTS


def test_who_mines_and_who_pools_is_as_in_the_components():
    mining = {name for name, component in criteria.REGISTRY.items() if "miner" in component.NEEDS}
    assert {*parameters.ANY_MINER, *parameters.MINERS} == mining
    anchored = {
        name
        for name, component in criteria.REGISTRY.items()
        if issubclass(component, criteria.base.AnchoredCriterion)
    }
    assert set(parameters.ANCHORED) == anchored
    pooled = {name for name, part in datasampler.REGISTRY.items() if "pool_size" in part.OPTIONS}
    assert set(parameters.POOLED) == pooled
    assert set(parameters.BATCH_MATCHING) == {
        name for name, part in datasampler.REGISTRY.items() if "candidates" in part.OPTIONS
    }


def test_choices_are_the_registries():
    assert set(parameters.CHOICES["loss"]) == set(criteria.REGISTRY)
    assert set(parameters.CHOICES["batch_mining"]) == set(batchminer.REGISTRY)
    assert set(parameters.CHOICES["data_sampler"]) == set(datasampler.REGISTRY)
    assert set(parameters.METRIC_PATTERNS) == set(metrics.REGISTRY)
    assert set(parameters.CHOICES["optim"]) == set(optimizers.REGISTRY)
    assert set(parameters.CHOICES["scheduler"]) == set(schedules.REGISTRY)


@pytest.mark.parametrize(
    "kind, name, component",
    [
        *(
            ("loss", name, component)
            for name, component in (
                criteria.REGISTRY | {"pml:X": PytorchMetricLearningLoss}
            ).items()
        ),
        *(
            ("miner", name, component)
            for name, component in (
                batchminer.REGISTRY | {"pml:X": PytorchMetricLearningMiner}
            ).items()
        ),
    ],
)
def test_signatures_match_the_flags(kind, name, component):
    arguments = {
        argument: given.default
        for argument, given in inspect.signature(component).parameters.items()
        if argument not in FILLED_BY_THE_RUN
    }
    arguments.pop("name", None)  # the class behind pml:
    flags = parameters.hyperparameters(parameters.build_parser().parse_args([]), kind, name)
    assert arguments.keys() == flags.keys()
    assert all(
        (list(default) if isinstance(default, tuple) else default) == flags[argument]
        for argument, default in arguments.items()
        if argument not in BUILT_BEFORE
    )


def test_the_table_of_miners_is_that_of_the_objectives():
    assert {
        name: component.MINERS for name, component in criteria.REGISTRY.items() if component.MINERS
    } == parameters.MINERS
    assert set(parameters.COMPOSITES) == {
        name for name, component in criteria.REGISTRY.items() if "source" in component.NEEDS
    }


@pytest.mark.parametrize(
    "argv, parts",
    [
        (["--loss", "npair"], ["--loss npair", "--batch_mining npair", "distance"]),
        (["--loss", "lifted", "--batch_mining", "semihard"], ["--batch_mining lifted", "semihard"]),
        (
            ["--loss", "s2sd", "--loss_s2sd_target", "angular"],
            ["--loss_s2sd_target angular", "--batch_mining npair"],
        ),
        (["--loss", "s2sd", "--loss_s2sd_source", "s2sd"], ["--loss_s2sd_source s2sd"]),
        (["--loss", "pml:TripletMarginLoss", "--batch_mining", "semihard"], ["pml:<ClassName>"]),
        (
            ["--loss", "pml:TripletMarginLoss", "--loss_pml_args", "margin"],
            ["--loss_pml_args", "JSON"],
        ),
        (["--loss", "pml:"], ["--loss pml: is not known"]),
    ],
)
def test_impossible_pairs_are_refused_with_the_possible_ones(capsys, argv, parts):
    message = fails(capsys, *argv)
    assert all(part in message for part in parts)


def test_help_is_instant_and_imports_nothing_heavy():
    started = time.monotonic()
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "main.py", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0 and time.monotonic() - started < 5
    assert not re.search(r"\|\s+(torch|numpy|timm|yaml)$", shown.stderr, re.MULTILINE)
    for flag, choices in parameters.CHOICES.items():
        assert f"--{flag}" in shown.stdout
        assert all(choice in shown.stdout for choice in choices)


def test_all_wrong_settings_are_told_together(capsys):
    message = fails(
        capsys,
        "--loss",
        "multisimilaritty",
        "--bs",
        "91",
        "--samples_per_class",
        "2",
        "--lr",
        "0",
        "--evaluation_metrics",
        "recall@1",
        "--language_model",
        "clipp",
        "--arch_weights",
        "nowhere.pt",
        "--use_tv_split",
        "--tv_split_perc",
        "1",
        "--store_improvements",
    )
    for part in (
        "did you mean multisimilarity?",
        "--bs 91",
        "--lr",
        "recall@1",
        "did you mean clip?",
        "nowhere.pt",
        "--tv_split_perc",
        "--storage_metrics",
    ):
        assert part in message
    assert all(line.startswith("main.py: error: ") for line in message.splitlines())


@pytest.mark.parametrize(
    "argv, part",
    [
        (["--image_size", "4"], "--image_size"),
        (["--language_temp", "0"], "--language_temp"),
        (["--internal_split", "0"], "--internal_split"),
        (["--use_float16", "--precision", "bf16"], "contradict"),
        (["--use_float16", "--precision", "fp32"], "contradict"),
        (["--language_primer", "a photo"], "{}"),
        (["--savename", "a/b"], "--savename"),
        (["--resume", "nowhere.pth.tar"], "nowhere.pth.tar"),
        (["--precision", "fp8"], "fp16"),
        (["--no_such_flag"], "no_such_flag"),
        (["--data_ssl_set", "--bs", "6", "--samples_per_class", "2"], "--data_ssl_set"),
        (["--lr", "nan"], "--lr"),
        (["--lr", "inf"], "--lr"),
        (["--tv_split_perc", "-0.1"], "--tv_split_perc"),
        (["--tv_split_classes", __file__], "--use_tv_split"),
        (["--class_text", "nowhere.json"], "nowhere.json"),
        (
            ["--tv_split_classes", __file__, "--use_tv_split", "--tv_split_by_samples"],
            "--tv_split_by_samples",
        ),
        (["--cache", "rom"], "--cache rom"),
        (["--cache_limit", "0"], "--cache_limit"),
        (["--cache_size", "100"], "--cache_size 100"),
        (["--cache_size", "-1"], "--cache_size"),
        (["--on_bad_image", "ignore"], "skip"),
        (["--decoding", "slow"], "exact"),
        (["--evaluation_memory", "much"], "--evaluation_memory"),
        (["--evaluation_memory", "256"], "256MB"),
        (["--evaluate_every", "0"], "--evaluate_every"),
        (["--evaluation_backend", "annoy"], "faiss"),
        (["--evaluate_only", "nowhere.pth.tar"], "nowhere.pth.tar"),
        (["--evaluation_metrics", "rho_spectrum@1@avg_features"], "--evaltypes avg_features"),
        (["--scheduler", "plateau", "--gamma", "1"], "needs --gamma below 1, not 1"),
        (["--xbm_size", "9", "--loss", "proxyanchor"], "which --loss proxyanchor cannot take"),
        (["--xbm_size", "9", "--loss", "pml:CircleLoss"], "it works with contrastive,"),
        (["--ema", "1"], "--ema must be "),
    ],
)
def test_wrong_settings(capsys, argv, part):
    assert part in fails(capsys, *argv)


def test_config_is_overridden_by_flags(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "bs: 10\nlr: 1\ntau: 7\nevaluation_metrics: [nmi, e_recall@1]\nlog_online: true\n"
    )
    opt = parameters.parse(["--config", str(path), "--bs", "20"])
    assert (opt.bs, opt.lr, opt.tau, opt.evaluation_metrics, opt.log_online) == (
        20,
        1.0,
        [7],
        ["nmi", "e_recall@1"],
        True,
    )


@pytest.mark.parametrize(
    "text, part",
    [
        ("bss: 3", "did you mean bs?"),
        ("bs: many", "a whole number"),
        ("bs: 2.5", "a whole number"),
        ("lr: [1]", "a number"),
        ("log_online: 1", "true or false"),
        ("- 1", "flag: value"),
        ("a: [", "YAML"),
        ("wandb_key: x", "wandb_key"),
        ("bs: 4\nlr: 1\nbs: 4", "run.yaml is not valid YAML: line 3: bs is there twice"),
    ],
)
def test_wrong_config(capsys, tmp_path, text, part):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert part in fails(capsys, "--config", str(path))
    assert "nowhere.yaml" in fails(capsys, "--config", "nowhere.yaml")


@pytest.mark.parametrize("flag", ["config", "arch_weights", "resume", "class_text"])
def test_a_pipe_that_nobody_writes_and_a_link_to_itself_are_no_files(pipe, tmp_path, capsys, flag):
    (tmp_path / "link").symlink_to("link")
    for path, why in ((pipe, "is a pipe or a device"), (tmp_path / "link", "levels of symbolic")):
        with pytest.raises(SystemExit) as ended:
            parameters.parse([f"--{flag}", str(path)])
        lines = capsys.readouterr().err.splitlines()
        told = [line for line in lines if f" --{flag} {str(path)[:20]}" in line]
        assert ended.value.code == 2 and len(told) == 1 and why in told[0], lines


def test_what_is_wrong_stays_on_one_line(capsys):
    with pytest.raises(SystemExit):
        parameters.parse(["--loss", "a\nb\x1b[31m"])
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "\x1b" not in error


def test_stored_settings_are_a_config_without_the_key(tmp_path):
    opt = parameters.parse(
        [
            "--bs",
            "20",
            "--wandb_key",
            "secret",
            "--tau",
            "3",
            "5",
            "--language_weights",
            str(tmp_path),
        ]
    )
    path = tmp_path / "args.yaml"
    path.write_text(yaml.safe_dump(parameters.stored(opt)))
    assert "secret" not in path.read_text()
    assert any("WANDB_API_KEY" in notice for notice in parameters.notices(opt))
    assert parameters.stored(parameters.parse(["--config", str(path)])) == parameters.stored(opt)


def test_savename_is_group_plus_seed():
    opt = parameters.parse(["--group", "g", "--seed", "3"])
    assert parameters.run_name_of(opt) == "g_s3"
    assert parameters.stored(opt)["savename"] == "group_plus_seed"
    assert parameters.run_name_of(parameters.parse(["--savename", "mine"])) == "mine"


def test_runs_of_other_values_are_groups_of_their_own():
    """The whole name is stored, so that a resumed run and an evaluation keep it."""
    words = "--group g --group_by lr tau use_float16 source_path"
    words += " --lr 0.001 --tau 3 5 --use_float16 --source_path a/b"
    opt, whole = parameters.parse(words.split()), "g_lr0.001_tau3-5_use_float16True_source_patha-b"
    assert parameters.run_name_of(opt) == f"{whole}_s0"
    assert parameters.stored(opt)["group"] == whole and parameters.stored(opt)["group_by"] == []
    assert not parameters.notices(opt)
    (idle,) = parameters.notices(parameters.parse([*words.split(), "--savename", "s"]))
    assert idle.startswith(f"--group {whole} has no effect, because")
    _, problems = parameters.examine(["--group_by", "lrr", "wandb_key"])
    assert [problem.split(" is not ")[0] for problem in problems] == [
        "--group_by 'lrr'",
        "--group_by 'wandb_key'",
    ]


@pytest.mark.parametrize("savename", ["group_plus_seed", "g_s3"])
def test_stored_settings_with_another_seed_have_another_name(tmp_path, savename):
    """Older files hold the name that group and seed gave."""
    path = tmp_path / "args.yaml"
    stored = parameters.stored(parameters.parse(["--group", "g", "--seed", "3"]))
    path.write_text(yaml.safe_dump(stored | {"savename": savename}))
    for flags, name in (
        ([], "g_s3"),
        (["--seed", "1"], "g_s1"),
        (["--group", "h"], "h_s3"),
        (["--savename", "mine", "--seed", "1"], "mine"),
    ):
        opt = parameters.parse(["--config", str(path), *flags])
        assert parameters.run_name_of(opt) == name


def test_what_only_the_beginning_of_a_run_reads_stays():
    opt = parameters.parse(["--loss_margin_beta", "1.5", "--arch_weights", __file__])
    begun = {"loss_margin_beta": 1.2, "not_pretrained": True, "lr": 0.5}
    (sentence,) = parameters.keep_beginning(opt, begun)
    assert sentence.startswith("--loss_margin_beta stays 1.2 (here 1.5)")
    assert (opt.loss_margin_beta, opt.not_pretrained, opt.arch_weights) == (1.2, True, None)
    constant = parameters.parse(["--loss_margin_beta_constant", "--loss_margin_beta", "1.5"])
    assert parameters.keep_beginning(constant, begun) == [] and constant.loss_margin_beta == 1.5


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_shipped_configs_are_valid(path):
    opt = parameters.parse(["--config", str(path)])
    assert parameters.notices(opt) == []


@pytest.mark.parametrize("schedule", ["constant", "suggested"])
def test_the_papers_runs_are_valid_commands(schedule):
    """Each command of the script, as the shell passes it, beside the table of the paper's runs."""
    environment = {**os.environ, "PYTHON": "printf %s\\n --- python", "SCHEDULE": schedule}
    shown = subprocess.run(
        ["bash", "language_guidance_benchmark_runs.sh", "--source_path", "a b"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    commands = [command.splitlines() for command in shown.stdout.split("---\n")[1:]]
    runs = {opt.group: opt for opt in (parameters.parse(command[2:]) for command in commands)}
    assert len(runs) == 16 and all(
        opt.source_path == "a b" and opt.completed for opt in runs.values()
    )
    table = reference.require(reference.SHARED / "PAPER_RUNS.md", "SHARED_DIR").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith(("| cub200", "| cars196"))
    ]
    assert len(rows) == 8
    for dataset, dim, objective, group, seed, epochs, bs, weight, suggested in rows:
        if schedule == "suggested":  # other settings never share a name or a W&B group
            group = group.replace("_plg", "_suggested_plg")
        guided, baseline = runs[group], runs[group.replace("_plg", "_baseline")]
        tau, gamma = (
            (int(suggested.split(",")[0]), float(suggested.split(",")[1]))
            if schedule == "suggested"
            else (int(epochs), 1)
        )
        for opt in (guided, baseline):
            assert (opt.dataset, opt.embed_dim, opt.seed, opt.n_epochs, opt.bs) == (
                dataset,
                int(dim),
                int(seed),
                int(epochs),
                int(bs),
            )
            assert (opt.tau, opt.gamma, opt.no_train_metrics, opt.loss) == (
                [tau],
                gamma,
                "*" not in objective,
                objective.split(" ")[0],
            )
        assert (
            guided.language_distill_w,
            guided.language_pseudoclass,
            baseline.language_distill_w,
        ) == (float(weight), True, 0)
        if "feat_w" in objective:
            assert (
                guided.loss_s2sd_feat_w == float(objective.split("feat_w ")[1].rstrip(")"))
                and guided.loss_s2sd_feat_distill
                and guided.loss_s2sd_pool_aggr
            )


# Bounds

NUMBERS = [flag for flag in parameters.FLAGS if isinstance(flag, Number)]


def beyond(flag: Number) -> list:
    """Numbers just outside the bounds, in the type of the flag."""
    bounds = flag.bounds
    step = 1 if flag.kind is int else 1e-6
    low = bounds.low if bounds.low_excluded else bounds.low - step
    high = bounds.high if bounds.high_excluded else bounds.high + max(step, 1e-6 * bounds.high)
    return [flag.kind(low), flag.kind(high)]


def lines_about(flag: Flag, message: str) -> list[str]:
    lines = message.splitlines()
    assert all(line.startswith("main.py: error: ") for line in lines)
    return [line for line in lines if re.search(rf"\b{flag.name}\b", line)]


def test_no_number_is_declared_elsewhere():
    assert len(NUMBERS) > 90
    assert not {flag.name for flag in parameters.FLAGS if flag.kind in (int, float)} - {
        flag.name for flag in NUMBERS
    }


@pytest.mark.parametrize("flag", NUMBERS, ids=lambda flag: flag.name)
def test_each_bound_holds_on_the_command_line_and_in_yaml(capsys, tmp_path, flag):
    for value in [*beyond(flag), 10**31, -(10**31), 10**400]:
        rule = rf"--{flag.name} must be (at least|at most|above|below) "
        assert re.search(rule, fails(capsys, f"--{flag.name}={value}")) or value == 10**400
        assert lines_about(flag, in_yaml(capsys, tmp_path, flag, str(value)))
    inside = [flag.bounds.low] * (not flag.bounds.low_excluded)
    assert not flag.problems(inside + [flag.bounds.high] * (not flag.bounds.high_excluded))


@pytest.mark.parametrize("flag", NUMBERS, ids=lambda flag: flag.name)
def test_what_is_no_finite_number_is_refused(capsys, tmp_path, flag):
    for text in ("nan", "inf", "-inf", "-infinity", "x", "", "1,5", "true", "0x10"):
        assert lines_about(flag, fails(capsys, f"--{flag.name}={text}")), text
    assert lines_about(flag, fails(capsys, f"--{flag.name}"))
    assert lines_about(flag, fails(capsys, f"--{flag.name}", "-inf"))
    for text in (".nan", ".inf", "-.inf", "true", "null", "[[1]]", "{}", "0x" + "f" * 9000):
        assert lines_about(flag, in_yaml(capsys, tmp_path, flag, text)), text
    if flag.kind is int:
        assert lines_about(flag, fails(capsys, f"--{flag.name}=2.5"))
        assert lines_about(flag, in_yaml(capsys, tmp_path, flag, "2.5"))


def in_yaml(capsys, tmp_path, flag: Flag, text: str) -> str:
    path = tmp_path / "settings.yaml"
    path.write_text(f"{flag.name}: {text}\n")
    return fails(capsys, "--config", str(path))


def test_learning_rates_do_not_ascend_but_where_minus_one_stands_for_another():
    rates = [flag for flag in NUMBERS if re.search(r"(^|_)(lr|lrmulti)$", flag.name)]
    assert len(rates) == 12
    negative = {flag.name for flag in rates if flag.bounds.low < 0}
    assert negative == {"fc_lr", "loss_pml_lr"}


# What has no effect


def other_value(need: Need, flag: str, holds: bool) -> list[str]:
    """The flag with a name under which the need holds, or does not."""
    for name in parameters.CHOICES[flag]:
        settings = parameters.parse([])
        setattr(settings, flag, name)
        if need.holds(settings, None) == holds:
            return [f"--{flag}", name]
    raise AssertionError(f"no name of --{flag} is of that kind")


def meeting(need: Need, flag: Flag, file: str) -> tuple[list[str], list[str]] | None:
    """Flags under which the need holds, and flags under which it does not; None: it never holds."""
    own = {
        "--evaluate_only trains nothing": ([], ["--evaluate_only", file]),
        "--evaluate_only trains nothing and draws no figures": (
            [],
            ["--evaluate_only", file, "--no_figures"],
        ),
        "the checkpoint of --resume brings its own weights": ([], ["--resume", file]),
        "--tv_split_classes is given": ([], ["--tv_split_classes", file]),
        "neither --cache disk, guidance nor a metric keeps anything there": (
            ["--cache", "disk"],
            ["--cache", "ram"],
        ),
        "--embed_dim {embed_dim} is no larger": ([], ["--embed_dim", "8"]),
        # The value of the flag itself is what has no effect.
        "only the first is used (--gpu {gpu})": ([], ["--gpu", "0", "1"]),
        "the pool is at least a batch (--bs {bs})": ([], ["--data_batchmatch_bigbs", "50"]),
        "nothing can be projected to no dimension; -1 says that nothing is": (
            [],
            ["--data_sampler_lowproj_dim", "0"],
        ),
        "the paper's code is what the textbook says": ([], ["--loss_triplet_form", "textbook"]),
        "the pool is a single batch (--data_batchmatch_bigbs {data_batchmatch_bigbs}, --bs {bs})": (
            [],
            ["--data_batchmatch_bigbs", "112"],
        ),
        "training ends at --n_epochs {n_epochs}": ([], ["--n_epochs", "3"]),
        "training ends at --n_epochs {n_epochs}, before the rates can fall": (
            [],
            ["--n_epochs", "3"],
        ),
        "training ends at --n_epochs {n_epochs}, before --tau {tau}": (["--tau", "3"], []),
        "no split is evaluated (--no_train_metrics, --no_test_metrics)": (
            [],
            ["--no_train_metrics", "--no_test_metrics"],
        ),
        "figures show the test split (--no_test_metrics)": ([], ["--no_test_metrics"]),
        "--savename {savename} names the run folder and --log_online is not given": (
            [],
            ["--savename", "other"],
        ),
        "neither --log_online nor --tensorboard is given": (["--tensorboard"], []),
        "neither the objective (--loss {loss}) nor guidance has parameters of its own": (
            ["--loss", "arcface"],
            ["--loss", "supcon"],
        ),
        "the objective mines nothing (--loss {loss})": (
            ["--loss", "margin"],
            ["--loss", "supcon"],
        ),
        "nothing is distilled (--loss_s2sd_w {loss_s2sd_w}, no feature distillation)": (
            ["--loss_s2sd_w", "1"],
            ["--loss_s2sd_w", "0"],
        ),
        "ProxyNCA has no scales (--loss_oproxy_mode nca, --loss_oproxy_form textbook)": (
            ["--loss_oproxy_mode", "nca"],
            ["--loss_oproxy_mode", "nca", "--loss_oproxy_form", "textbook"],
        ),
        "--loss_softtriplet_n_centroids is {loss_softtriplet_n_centroids}": (
            [],
            ["--loss_softtriplet_n_centroids", "1"],
        ),
        "every triplet pushes a positive away (--miner_rho_distance_cp {miner_rho_distance_cp})": (
            [],
            ["--miner_rho_distance_cp", "1"],
        ),
        "--language_pseudoclass_arch {language_pseudoclass_arch} has classes of its own": (
            ["--language_pseudoclass_arch", "clip:ViT-B-32/openai"],
            [],
        ),
        "--language_model {language_model} reads no sentences": (
            [],
            ["--language_model", f"vectors:{__file__}"],
        ),
        parameters.READS_TEXTS.because: (
            ["--evaluation_metrics", "e_recall@1", "semantic_consistency"],
            [],
        ),
        parameters.READS_CLASS_TEXTS.because: (["--language_distill_w", "1"], []),
        parameters.HAS_MOMENTUM.because: (["--optim", "sgd"], ["--optim", "adamw"]),
        parameters.SMALLER_THAN_BATCH.because: (["--bs", "112"], ["--bs", "4"]),
        parameters.DECAYS.because: ([], ["--decay", "0"]),
    }
    if need.because in own:
        return own[need.because]
    owner = flag.owner.split(" ")[-1]
    if need.because.startswith("this run has no objective"):
        name = "pml:TripletMarginLoss" if owner == "pml" else owner
        miner = (
            ["--batch_mining", parameters.MINERS[owner][0]] if owner in parameters.MINERS else []
        )
        other = "circle" if owner == "supcon" else "supcon"
        return ["--loss", name, *miner], ["--loss", other]
    if need.because == "--batch_mining is {batch_mining}":
        name = "pml:MultiSimilarityMiner" if owner == "pml" else owner
        return ["--batch_mining", name], ["--batch_mining", "random"]
    match = re.fullmatch(r"--(\w+) is (.+)", need.because)
    if match is None:
        assert not need.words
        return None
    name, state = match.groups()
    if state == "not given":
        return [f"--{name}"], []
    if state == "given":
        return [], [f"--{name}"]
    if name in parameters.CHOICES:
        return other_value(need, name, True), other_value(need, name, False)
    return [f"--{name}", "1"], [f"--{name}", "0"]


GIVEN = {
    "tau": ["3"],
    "tags": ["first", "second"],
    "data_sampler_lowproj_dim": ["8"],
    "cache_size": ["300"],
    "micro_batch": ["8"],
    "evaluation_metrics": ["e_recall@1", "semantic_consistency"],
    "storage_metrics": ["e_recall@1"],
    "data_sampler": ["class_balanced"],
}


def giving(flag: Flag, file: str) -> list[str]:
    """The flag with a value that is right."""
    if isinstance(flag, Switch):
        return [f"--{flag.name}"]
    if isinstance(flag, Place):
        return [f"--{flag.name}", file]
    value = flag.initial() if isinstance(flag.initial(), list) else [flag.initial()]
    return [f"--{flag.name}", *GIVEN.get(flag.name, map(str, value))]


def test_the_control_is_named_under_which_no_texts_are_read():
    argv = ["--language_distill_w", "5", "--language_control", "random", "--no_figures"]
    (said,) = parameters.notices(parameters.parse([*argv, "--language_model", "minilm"]))
    assert "--language_model minilm has no effect" in said and "--language_control random" in said


@pytest.mark.parametrize("control", parameters.WITHOUT_TEXTS)
def test_pseudolabels_that_a_control_does_not_read_are_told(control):
    argv = ["--language_distill_w", "5", "--language_pseudoclass", "--no_figures"]
    (said,) = parameters.notices(parameters.parse([*argv, "--language_control", control]))
    assert said.startswith("--language_pseudoclass has no effect") and control in said


def said_of(flag: Flag, argv: list[str]) -> list[str]:
    notices = parameters.notices(parameters.parse(argv))
    verdict = "is ignored" if flag.secret else "has no effect"
    return [line for line in notices if re.match(rf"--{flag.name} (.*){verdict}, because", line)]


@pytest.mark.parametrize(
    "flag", [flag for flag in parameters.FLAGS if flag.needs], ids=lambda flag: flag.name
)
def test_a_setting_without_effect_is_told_for_each_reason_and_only_then(tmp_path, flag):
    """With all needs but one met the notice names that one; with all met there is none."""
    file = tmp_path / "a file"
    file.write_text("x")
    given = giving(flag, str(file))
    if flag.name == "tv_split_classes":
        return  # it is refused where it has no effect
    meetings = [meeting(need, flag, str(file)) for need in flag.needs]
    for number, (need, met) in enumerate(zip(flag.needs, meetings)):
        others = [
            word
            for place, other in enumerate(meetings)
            if other and place != number
            for word in other[0]
        ]
        broken = met[1] if met else []
        argv = [*others, *broken, *(given if f"--{flag.name}" not in broken else [])]
        (sentence,) = said_of(flag, argv)
        opt = parameters.parse(argv)
        assert sentence.endswith(f", because {need.because.format_map(shown(opt))}."), argv
        assert sentence.startswith(f"--{flag.name}") and sentence.count(".") >= 1
        assert f"--{flag.name}" in broken or not said_of(flag, [*others, *broken])
    if all(meetings):
        assert not said_of(flag, [*(word for met in meetings if met for word in met[0]), *given])


def shown(opt) -> dict[str, str]:
    """Settings as notices write them."""
    return {
        name: " ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in vars(opt).items()
    }


@pytest.mark.parametrize(
    "argv, parts",
    [
        (["--language_temp", "2"], ["--language_temp 2.0", "--language_distill_w is 0"]),
        (["--tau", "10", "200"], ["--tau 200 has no effect", "--n_epochs 150"]),
        (["--scheduler", "none", "--gamma", "0.5"], ["--gamma 0.5", "--scheduler is none"]),
        (["--loss", "triplet", "--loss_margin_nu", "1"], ["no objective margin (--loss triplet)"]),
        (["--loss", "supcon", "--batch_mining", "semihard"], ["--batch_mining semihard", "supcon"]),
        (["--loss", "pml:NTXentLoss", "--batch_mining", "distance"], ["mines nothing"]),
        (["--warmup", "150"], ["--warmup 150", "the trunk never trains"]),
        (["--loss", "s2sd"], ["--loss s2sd distils nothing"]),
        (
            ["--loss", "s2sd", "--loss_s2sd_feat_distill", "--loss_s2sd_feat_w", "0"],
            ["distils nothing"],
        ),
        (
            ["--language_distill_w", "1", "--language_pseudoclass", "--class_text", __file__],
            ["--class_text does not guide beside --language_pseudoclass"],
        ),
        (
            [
                "--language_distill_w",
                "1",
                "--language_pseudoclass",
                "--no_figures",
                "--class_text",
                __file__,
            ],
            ["--class_text", "has no effect"],
        ),
        (
            ["--language_distill_w", "1", "--arch", "resnet50_frozen"],
            ["not their cosines", "--arch resnet50_frozen has no _normalize"],
        ),
        (["--batch_mining", "intra_random"], ["--samples_per_class above 2"]),
        (["--project", "p"], ["--project p", "--log_online"]),
        (["--tags", "a", "b"], ["--tags a b has no effect", "--log_online is not given"]),
        (["--notes", "n", "--tensorboard"], ["--notes n has no effect", "--log_online"]),
        (["--log_steps", "5"], ["--log_steps 5", "neither --log_online nor --tensorboard"]),
        (["--epochs", "3", "--tau", "5"], ["--tau 5 has no effect", "--epochs 3"]),
        (["--gpu", "1", "0"], ["--gpu 0 has no effect"]),
    ],
)
def test_notices_in_words(argv, parts):
    said = parameters.notices(parameters.parse(argv))
    assert any(all(part in sentence for part in parts) for sentence in said), said


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--seed", "3", "--optim", "adam", "--bs", "90", "--group", "g"],
        [
            "--loss",
            "s2sd",
            "--loss_s2sd_target",
            "margin",
            "--loss_s2sd_w",
            "1",
            "--loss_margin_nu",
            "1",
        ],
        ["--loss", "adversarial_separation", "--loss_multisimilarity_margin", "0.2"],
        ["--loss", "pml:TripletMarginLoss", "--batch_mining", "pml:TripletMarginMiner"],
        ["--language_distill_w", "1", "--language_primer", "{}", "--language_pseudoclass"],
        ["--evaluation_metrics", "semantic_consistency", "--class_text", __file__],
        ["--tau", "100", "149", "--gamma", "0.5", "--warmup", "149"],
        ["--cache", "disk", "--cache_path", "x", "--cache_limit", "1"],
        ["--dataset", "folder", "--no_train_metrics", "--no_test_metrics", "--evaltypes", "embeds"],
        ["--log_online", "--savename", "s", "--group", "g", "--project", "p", "--tags", "a"],
        ["--tensorboard", "--log_steps", "5"],
    ],
    ids=" ".join,
)
def test_settings_with_effect_are_not_told(argv):
    assert parameters.notices(parameters.parse(argv)) == []


def test_a_config_gives_what_is_not_the_default(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "language_temp: 1\nlanguage_shift: 2\nstore_improvements: false\ntau: [10000]\n"
    )
    (sentence,) = parameters.notices(parameters.parse(["--config", str(path)]))
    assert sentence == "--language_shift 2.0 has no effect, because --language_distill_w is 0."


def test_the_settings_of_a_finished_run_bring_no_notice(tmp_path):
    path = tmp_path / "args.yaml"
    opt = parameters.parse(["--seed", "3", "--group", "g"])
    path.write_text(yaml.safe_dump(parameters.stored(opt)))
    assert parameters.notices(parameters.parse(["--config", str(path)])) == []


def test_what_a_run_recorded_brings_no_notice_and_what_is_given_beside_it_does(tmp_path):
    path = tmp_path / "settings.yaml"
    opt = parameters.parse(["--not_pretrained", "--language_temp", "3", "--loss_margin_beta", "1"])
    path.write_text(yaml.safe_dump(parameters.stored(opt)))
    argv = ["--config", str(path), "--resume", __file__]
    assert parameters.notices(parameters.parse(argv)) == []
    (sentence,) = parameters.notices(parameters.parse([*argv, "--language_shift", "2"]))
    assert sentence.startswith("--language_shift 2.0 has no effect")


@pytest.mark.parametrize(
    "delays, iterations, flags",
    [
        (["--language_distill_w", "1", "--language_delay", "61"], 60, ["--language_delay 61"]),
        (["--language_distill_w", "1", "--language_delay", "60"], 60, []),
        (["--language_delay", "61"], 60, []),
        (["--language_distill_w", "1", "--language_rise", "60"], 60, ["--language_rise 60"]),
        (["--language_distill_w", "1", "--language_rise", "59"], 60, []),
        (
            ["--language_distill_w", "1", "--language_delay", "9", "--language_rise", "52"],
            60,
            ["--language_rise 52"],
        ),
        (
            ["--loss", "s2sd", "--loss_s2sd_feat_distill"],
            1000,
            ["--loss_s2sd_feat_distill_delay 1000"],
        ),
        (["--loss", "s2sd", "--loss_s2sd_feat_distill"], 1001, []),
        (
            ["--xbm_size", "9", "--xbm_start", "60", "--ema", "0.99"],
            60,
            ["--ema 0.99", "--xbm_start 60"],
        ),
        (["--xbm_size", "9", "--xbm_start", "59", "--ema", "0.98"], 60, []),
    ],
)
def test_what_would_begin_after_the_run_is_told(delays, iterations, flags):
    said = parameters.notices_of_length(parameters.parse(delays), iterations)
    assert [sentence.split(" outlasts")[0] for sentence in said] == flags


@pytest.mark.parametrize(
    "argv, stored, expected",
    [
        ([], {"loss_arcface_lr": 3.0}, False),
        (["--loss", "arcface"], {"loss_arcface_lr": 3.0}, True),
        ([], {"tau": [20000]}, False),
        ([], {"tau": [100, 20000]}, True),
        ([], {"language_temp": 2.0}, False),
        (["--language_distill_w", "1"], {"language_temp": 2.0}, True),
        (["--arch_weights", __file__], {"arch_weights": None}, True),
        (["--arch_weights", __file__, "--resume", "auto"], {"arch_weights": None}, True),
        (["--precision", "fp16"], {"use_float16": True}, False),
        ([], {"kernels": 0}, False),
        ([], {"source_path": "elsewhere"}, False),
        (["--dataset", "folder"], {"source_path": "elsewhere"}, True),
        ([], {"lr": "fast"}, True),
    ],
)
def test_settings_that_make_another_run(argv, stored, expected):
    ((name, other),) = stored.items()
    assert parameters.matters(name, parameters.parse(argv), other) is expected


@pytest.mark.parametrize(
    "stored, argv, precision",
    [
        ({"use_float16": True, "precision": "fp16"}, [], "fp16"),
        ({"use_float16": True, "precision": "fp16"}, ["--precision", "fp32"], "fp32"),
        ({"use_float16": True}, ["--precision", "bf16"], "bf16"),
        ({"precision": "bf16"}, ["--use_float16"], "fp16"),
    ],
)
def test_the_number_format_on_the_command_line_wins(tmp_path, stored, argv, precision):
    path = tmp_path / "args.yaml"
    path.write_text(yaml.safe_dump(stored))
    opt = parameters.parse(["--config", str(path), *argv])
    assert (opt.precision, opt.use_float16) == (precision, False)
    opt = parameters.inherit(parameters.parse(argv), stored)
    assert (opt.precision, opt.use_float16) == (precision, False)


def test_what_a_checkpoint_says_was_not_given():
    opt = parameters.inherit(
        parameters.parse([]), {"language_temp": 3.0, "no_figures": True, "gone": 1}
    )
    assert (opt.language_temp, opt.no_figures, opt.given) == (3.0, False, frozenset())


@pytest.mark.parametrize(
    ("stored", "further", "complaint"),
    [
        ({"arch_weights": "/gone.pt"}, [], None),
        ({"language_model": "vectors:/gone.vec", "language_distill_w": 1.0}, [], None),
        ({"class_text": "/gone.csv", "language_distill_w": 1.0}, [], None),
        (
            {"language_weights": "/gone", "language_model": "bert", "language_distill_w": 1.0},
            [],
            None,
        ),
        (
            {"class_text": "/gone.csv"},
            ["--evaluation_metrics", "semantic_consistency"],
            "--class_text /gone.csv",
        ),
        (
            {"language_model": "vectors:/gone.vec"},
            ["--evaluation_metrics", "semantic_consistency"],
            "--language_model vectors:/gone.vec",
        ),
        ({}, ["--arch_weights", "/gone.pt"], "--arch_weights /gone.pt"),
    ],
)
def test_an_evaluation_needs_of_the_files_of_a_training_those_that_it_reads(
    tmp_path, capsys, stored, further, complaint
):
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.touch()
    argv = ["--evaluate_only", str(checkpoint), "--no_figures", *further]
    if complaint is None:
        parameters.inherit(parameters.parse(argv), stored)
        return
    with pytest.raises(SystemExit):
        parameters.inherit(parameters.parse(argv), stored)
    assert f"{complaint}: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "lost", [("class_text", "/gone.csv"), ("language_model", "vectors:/gone.vec")]
)
def test_figures_of_an_evaluation_do_without_the_texts_of_its_training(tmp_path, capsys, lost):
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.touch()
    name, file = lost
    stored, argv = {name: file, "language_distill_w": 1.0}, ["--evaluate_only", str(checkpoint)]
    opt = parameters.inherit(parameters.parse(argv), stored)
    said = f"Figures do not compare classes with language: --{name} {file}: there is no such file"
    assert not parameters.draws_texts(opt) and said in " ".join(parameters.notices(opt))
    with pytest.raises(SystemExit):
        parameters.inherit(parameters.parse([*argv, f"--{name}", file]), stored)
    assert f"--{name} {file}: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "stored",
    [
        {
            "loss": "of_another_version",
            "optim": "gone",
            "batch_mining": "gone",
            "scheduler": "gone",
        },
        {"samples_per_class": 5},
        {"store_improvements": True, "storage_metrics": ["nmi"]},
        {"loss": "histogram", "batch_mining": "random", "xbm_size": 100, "gamma": 7.0},
    ],
)
def test_an_evaluation_minds_no_setting_of_the_training(tmp_path, stored):
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.touch()
    argv = ["--evaluate_only", str(checkpoint), "--bs", "7", "--evaluation_metrics", "mAP@R"]
    opt = parameters.inherit(parameters.parse(argv), stored)
    assert {name: getattr(opt, name) for name in stored} == stored


def test_an_evaluation_needs_no_gpu_that_the_training_had(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.touch()
    argv, stored = ["--evaluate_only", str(checkpoint)], {"device": "cuda", "gpu": [3, 5]}
    opt = parameters.inherit(parameters.parse(argv), stored)
    assert (opt.device, opt.gpu) == ("auto", [0])
    opt = parameters.inherit(parameters.parse([*argv, "--device", "cuda", "--gpu", "1"]), stored)
    assert (opt.device, opt.gpu) == ("cuda", [1])
    assert parameters.inherit(parameters.parse(argv), {"device": "cpu"}).device == "cpu"


@pytest.mark.parametrize("flag", ["--resume", "--evaluate_only"])
def test_a_settings_file_may_name_weights_that_nothing_reads(tmp_path, capsys, flag):
    checkpoint, config = tmp_path / "checkpoint.pt", tmp_path / "args.yaml"
    checkpoint.touch()
    config.write_text("arch_weights: /gone.pt")
    argv = ["--config", str(config)]
    assert parameters.parse([*argv, flag, str(checkpoint)]).arch_weights == "/gone.pt"
    for words in (argv, [*argv, flag, str(checkpoint), "--arch_weights", "/gone.pt"]):
        with pytest.raises(SystemExit):
            parameters.parse(words)
        assert "--arch_weights /gone.pt: there is no such file" in capsys.readouterr().err


def test_a_checkpoint_with_settings_of_another_kind(capsys):
    with pytest.raises(SystemExit):
        parameters.inherit(parameters.parse([]), {"bs": "many"})
    assert "the settings of the checkpoint: bs" in capsys.readouterr().err


def test_settings_hold_nothing_but_values():
    opt = parameters.parse(["--bs", "20"])
    assert opt.given == {"bs"} and "given" not in vars(opt)
    assert set(vars(opt)) == {flag.name for flag in parameters.FLAGS}
    yaml.safe_dump(parameters.stored(opt))


# The command line


@pytest.mark.parametrize(
    "argv, line",
    [
        (["--los", "margin"], "--los is not known (did you mean --loss?)."),
        (["--los=margin"], "--los is not known (did you mean --loss?)."),
        (["--bs"], "--bs needs a value: a whole number."),
        (["--bs", "many"], "--bs many is not a whole number."),
        (["--bs=1.5"], "--bs 1.5 is not a whole number."),
        (["--tau", "3", "x"], "--tau x is not a whole number."),
        (["--log_online", "true"], "--log_online takes no value (given: true)."),
        (["--seed", "-1"], "--seed must be at least 0, not -1."),
        (["--seed", str(2**70)], f"--seed must be at most {2**32 - 1}, not {2**70}."),
        (
            ["--loss_margin_beta_lr", "-1e-3"],
            "--loss_margin_beta_lr must be at least 0, not -0.001.",
        ),
        (
            ["--language_pseudoclass_topk", "1001"],
            "--language_pseudoclass_topk must be at most 1000,",
        ),
        (["--n_epochs", str(LARGEST + 1)], f"--n_epochs must be at most {LARGEST}"),
        (["--gpu", "0", "-1"], "--gpu must be at least 0, not -1."),
        (["--tau", "0"], "--tau must be at least 1, not 0."),
        (["--group", "exp/1"], "--group exp/1 names the run folder"),
        (["--language_model", "hf:"], "--language_model hf: is not known"),
    ],
)
def test_one_line_without_the_usage(capsys, argv, line):
    message = fails(capsys, *argv)
    assert message.startswith(f"main.py: error: {line}") and message.count("\n") == 1


def test_wrong_words_and_wrong_values_are_told_together(capsys):
    message = fails(capsys, "--los", "margin", "--bs", "x", "--lr", "0", "--loss", "marign")
    named = {line.split()[2] for line in message.splitlines()}
    assert named == {"--los", "--bs", "--lr", "--loss"}


def test_forms_of_a_flag():
    opt = parameters.parse(
        [
            "--bs=20",
            "--epochs",
            "7",
            "--datapath=x",
            "--loss_softtriplet_lambda",
            "9",
            "--fc_lr",
            "-2",
        ]
    )
    assert (opt.bs, opt.n_epochs, opt.source_path, opt.loss_softtriplet_scale, opt.fc_lr) == (
        20,
        7,
        "x",
        9.0,
        -2.0,
    )


def test_samples_per_class_is_no_reason_where_it_has_no_effect(capsys):
    assert parameters.parse(["--bs", "91", "--data_sampler", "random"]).bs == 91
    assert "must be even" in fails(capsys, "--bs", "91", "--data_sampler", "semi_class_random")


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_bytes(b"\xef\xbb\xbfsave_path: ~/runs\n")
    opt = parameters.parse(["--config", "~/run.yaml", "--language_model", "hf:~/model"])
    assert opt.save_path == str(tmp_path / "runs")
    assert opt.language_model == f"hf:{tmp_path}/model"
    assert opt.cache_path == "~/.cache/language_guided_dml"  # as stored; expanded where it is used


# Help, list, version, documentation


def shown_by(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        parameters.parse(list(argv))
    assert not stopped.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("topic", parameters.TOPICS)
def test_help_on_a_topic_shows_its_flags_and_no_others(capsys, topic):
    shown = shown_by(capsys, "--help", topic)
    for flag in parameters.FLAGS:
        assert bool(re.search(rf"^  --{flag.name}\b", shown, re.MULTILINE)) == (flag.topic == topic)


def test_every_flag_has_a_topic_and_a_group():
    assert {flag.topic for flag in parameters.FLAGS} == set(parameters.TOPICS)
    assert {flag.group for flag in parameters.FLAGS} == set(parameters.GROUPS)
    assert all(flag.help.endswith((".", ":")) for flag in parameters.FLAGS)


@pytest.mark.parametrize(
    "argv, parts",
    [
        (
            ["--help", "margin"],
            ["--loss margin", "a beta per class", "--loss_margin_nu", "At least 0"],
        ),
        (["-h", "npair"], ["--loss_npair_l2", "--miner_npair_form", "[miner: npair]"]),
        (["--help=pml"], ["--loss_pml_args", "--miner_pml_args"]),
        (["--help", "random"], ["--batch_mining random", "--data_sampler random"]),
        (["--help", "d2_coreset"], ["--data_d2_coreset_lambda", "--samples_per_class"]),
        (["--help", "wandb", "guidance"], ["--log_online", "--language_temp"]),
        (["--bs", "x", "--help"], [*parameters.TOPICS, *parameters.GROUPS]),
    ],
)
def test_help_on_components_and_topics(capsys, argv, parts):
    shown = " ".join(shown_by(capsys, *argv).split())
    assert all(part in shown for part in parts)
    if len(argv) == 2 and argv[-1] == "margin":
        assert "--loss_triplet_margin" not in shown


@pytest.mark.parametrize(
    "name, meant",
    [
        ("lossess", "losses"),
        ("objectiv", "losses"),
        ("sampler", "batches"),
        ("metric", "evaluation"),
    ],
)
def test_help_on_what_is_not_known_is_one_line(capsys, name, meant):
    message = fails(capsys, "--help", name)
    assert f"--help {name} is not known (did you mean {meant}?)" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "flag, expected", [("--version", f"language-guided-dml {VERSION}"), ("--list", SECTIONS[-1])]
)
def test_version_and_list_import_nothing_heavy(flag, expected):
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "main.py", flag],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0 and expected in shown.stdout
    assert not re.search(r"\|\s+(torch|numpy|timm|yaml)$", shown.stderr, re.MULTILINE)


def test_the_documentation_is_what_the_declarations_say():
    """`python parameters.py > docs/flags.md` writes it."""
    text = (ROOT / "docs" / "flags.md").read_text()
    assert text == parameters.documentation()
    assert all(f"`--{flag.name}`" in text for flag in parameters.FLAGS)


def test_each_choice_has_a_line():
    for flag in parameters.FLAGS:
        if isinstance(flag, Choice):
            assert all(line.strip() for line in flag.choices.values()), flag.name


@pytest.mark.parametrize("flag", ["--list", "--help"])
def test_a_reader_that_has_had_enough_is_no_error(flag):
    command = f"{sys.executable} main.py {flag} | head -n 1"
    ended = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout.count("\n") == 1 and not ended.stderr


@pytest.mark.parametrize(
    "argv, part",
    [
        (["--resume", ""], "--resume is empty"),
        (["--evaluate_only", ""], "--evaluate_only is empty"),
        (["--dataset", "../elsewhere"], "--dataset ../elsewhere"),
        (["--dataset", ".."], "--dataset .."),
        (["--evaluation_metrics", "e_recall@" + "9" * 20], "is not known"),
        (["--savename", "\udcff"], "--savename"),
        (["--group", "\udcff"], "--group"),
        (["--save_path", "~nosuchuser/runs"], "--save_path '~nosuchuser/runs': there is no user"),
        (["--resume=~nosuchuser"], "--resume '~nosuchuser': there is no user 'nosuchuser'"),
        (["--config", "~nosuchuser"], "--config '~nosuchuser': there is no user"),
        (["--language_model", "hf:~nosuchuser/m"], "--language_model hf:'~nosuchuser/m': there"),
        (["--save_path="], "--save_path is empty"),
        (["--config", ""], "--config is empty"),
        (["--bs="], "--bs '' is not a whole number."),
        (["--loss="], "--loss '' is not known"),
        (["--epochs", "a"], "--epochs a is not a whole number."),
        (["--epochs", "0"], "--epochs must be at least 1, not 0."),
        (["--n_epochs", "0"], "--n_epochs must be at least 1, not 0."),
    ],
)
def test_what_would_lead_elsewhere_is_refused(capsys, argv, part):
    assert part in fails(capsys, *argv)


MATRIX = ["--language_model", f"matrix:{__file__}"]
GUIDED = ["--language_distill_w", "1"]


@pytest.mark.parametrize(
    "argv, part",
    [
        ([*GUIDED, *MATRIX, "--language_pseudoclass"], "--language_pseudoclass reads texts, and"),
        (
            [*GUIDED, *MATRIX, "--language_loss", "contrastive"],
            "--language_loss contrastive reads texts, and --language_model matrix:",
        ),
        (
            [*MATRIX, "--evaluation_metrics", "semantic_consistency"],
            "--evaluation_metrics semantic_consistency reads texts, and --language_model matrix:",
        ),
        ([*GUIDED, "--language_model", "matrix:no.csv"], "matrix:no.csv: there is no such file."),
        ([*GUIDED, "--language_model", "matrix:"], "--language_model matrix: is not known"),
        (
            [*GUIDED, "--language_pseudoclass", "--language_pseudoclass_arch", "clip:ViT-B-32/x"],
            "--language_pseudoclass_arch clip:ViT-B-32/x needs --language_pseudoclass_vocabulary",
        ),
    ],
)
def test_sources_of_language_that_do_not_fit(capsys, argv, part):
    said = fails(capsys, *argv)
    assert part in said and said.count("main.py: error: ") == 1


@pytest.mark.parametrize(
    "argv, said",
    [
        ([*GUIDED, *MATRIX], "Figures do not compare classes with language, because"),
        (
            [*GUIDED, *MATRIX, "--language_control", "random", "--language_loss", "contrastive"],
            "--language_model matrix:.* has no effect",
        ),
        ([*GUIDED, *MATRIX, "--no_figures"], ""),
        ([*GUIDED, *MATRIX, "--no_figures", "--language_control", "shuffle"], ""),
        (
            [*GUIDED, *MATRIX, "--no_figures", "--class_text", __file__],
            "--class_text .* has no effect",
        ),
        ([*GUIDED, *MATRIX, "--no_figures", "--language_primer", "{}"], "reads no sentences"),
        (["--language_model", "matrix:nowhere.csv"], "has no effect"),
        (
            [
                *("--language_model", f"vectors:{__file__}", "--language_primer", "{}", *GUIDED),
                *("--language_pseudoclass", "--language_pseudoclass_arch", "clip:ViT-B-32/openai"),
                *("--language_pseudoclass_vocabulary", __file__),
            ],
            "",
        ),
    ],
)
def test_what_is_said_of_sources_of_language(argv, said):
    notices = parameters.notices(parameters.parse(argv))
    assert len(notices) == bool(said) and all(re.search(said, line) for line in notices), notices


@pytest.mark.parametrize("loss, is_told", [("kl", True), ("contrastive", False)])
def test_the_decay_of_the_map_to_texts_has_an_effect(loss, is_told):
    argv = [*GUIDED, "--language_loss", loss, "--loss", "multisimilarity", "--criterion_decay", "1"]
    settings = parameters.parse(argv)
    said = any(line.startswith("--criterion_decay") for line in parameters.notices(settings))
    assert said == is_told
    assert parameters.matters("criterion_decay", settings, 0) != is_told


def test_a_key_is_not_shown_where_it_is_wrong(capsys):
    assert "s3cret" not in fails(capsys, "--wandb_key", "s3cret", "two")


def test_a_validation_part_of_own_data_is_something_to_compare():
    nothing_else = ["--no_test_metrics", "--no_train_metrics", "--store_improvements"]
    assert parameters.parse(["--dataset", "folder", *nothing_else]).store_improvements


def test_weights_of_the_hub_are_no_file(capsys):
    assert parameters.parse(["--arch_weights", "hf-hub:me/x"]).arch_weights == "hf-hub:me/x"
    with pytest.raises(SystemExit):
        parameters.parse(["--arch_weights", "hub:me/x"])
    assert "there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["source_path", "save_path", "resume", "evaluate_only", "config"])
def test_a_path_that_cannot_be_looked_at_is_a_sentence(name, tmp_path):
    for path in (str(tmp_path / ("x" * 300)), "a\0b"):
        _, problems = parameters.examine([f"--{name}", path])
        assert any(problem.startswith(f"--{name} ") for problem in problems)


@pytest.mark.parametrize("flag", ["group", "savename"])
def test_a_name_that_no_folder_can_have_is_told_before_anything_begins(flag):
    _, problems = parameters.examine([f"--{flag}", "ö" * 120])
    assert any(problem.startswith(f"--{flag} makes the name of") for problem in problems)
    _, problems = parameters.examine([f"--{flag}", "ö" * 100])
    assert not problems or "makes the name" not in " ".join(problems)


def test_a_flag_that_is_given_twice_is_told_and_a_file_of_settings_is_refused(tmp_path, capsys):
    words = [
        "--lr",
        "1",
        "--bs",
        "8",
        "--lr=2",
        "--bs",
        "8",
        "--datapath",
        "a",
        "--source_path",
        "b",
    ]
    told = parameters.notices(parameters.parse(words))
    assert [sentence for sentence in told if "more than once" in sentence] == [
        "--lr 1 --lr 2: the same flag is given more than once; the last counts.",
        "--datapath a --source_path b: the same flag is given more than once; the last counts.",
    ]
    (told, *_) = parameters.notices(parameters.parse(["--wandb_key", "a", "--wandb_key", "b"]))
    assert (
        told == "--wandb_key --wandb_key: the same flag is given more than once; the last counts."
    )
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for file in files:
        file.write_text("lr: 1\n")
    with pytest.raises(SystemExit):
        parameters.parse(["--config", str(files[0]), "--config", str(files[1])])
    assert "--config is given more than once" in capsys.readouterr().err
