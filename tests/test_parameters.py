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
import metrics
import parameters
from batchminer.pml import PytorchMetricLearningMiner
from criteria.pml import PytorchMetricLearningLoss

ROOT = Path(__file__).resolve().parents[1]
FILLED_BY_THE_RUN = {"n_classes", "embed_dim", "feature_dim", "miner", "self"}
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


def test_choices_are_the_registries():
    assert set(parameters.CHOICES["loss"]) == set(criteria.REGISTRY)
    assert set(parameters.CHOICES["batch_mining"]) == set(batchminer.REGISTRY)
    assert set(parameters.CHOICES["data_sampler"]) == set(datasampler.REGISTRY)
    assert set(parameters.METRIC_PATTERNS) == set(metrics.REGISTRY)


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
    assert parameters.MINERS == {
        name: component.MINERS for name, component in criteria.REGISTRY.items() if component.MINERS
    }
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
    ],
)
def test_wrong_config(capsys, tmp_path, text, part):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert part in fails(capsys, "--config", str(path))
    assert "nowhere.yaml" in fails(capsys, "--config", "nowhere.yaml")


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
    assert parameters.parse(["--group", "g", "--seed", "3"]).savename == "g_s3"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_shipped_configs_are_valid(path):
    parameters.parse(["--config", str(path)])


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
