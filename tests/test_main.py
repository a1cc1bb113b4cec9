"""main.py as people call it: results, resuming, interrupts, wrong input, optional packages."""

import csv
import json
import math
import re
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import small_benchmarks as small
import torch
from forked import Program
from PIL import Image
from wandb_files import wandb_records

import batchminer
import build
import criteria
import datasampler
import datasets
import main
import parameters
from language_guidance import language_models
from programs import prepare as prepare_command
from utilities import run_folder

ROOT = Path(__file__).resolve().parents[1]
ONE_METRIC = [
    "--no_train_metrics",
    "--evaluation_metrics",
    "e_recall@1",
]  # a figure of each metric is most of the time of a tiny run
TINY = [
    "--arch",
    "test_resnet_normalize",
    "--not_pretrained",
    "--image_size",
    "32",
    "--embed_dim",
    "16",
    "--loss",
    "multisimilarity",
    "--bs",
    "8",
    "--lr",
    "1e-3",
    "--kernels",
    "0",
    "--device",
    "cpu",
    "--n_epochs",
    "1",
    "--allow_partial",
    "--no_figures",
    "--evaluation_metrics",
    "e_recall@1",
    "c_recall@2",
    "mAP_1000",
    "nmi",
    "f1",
]


@pytest.fixture(scope="session")
def birds(tmp_path_factory) -> Path:
    """A folder laid out like CUB-200: 6 classes of 8 images, each class a colour.

    With the stray files that archives bring.
    """
    source, random = tmp_path_factory.mktemp("source"), np.random.default_rng(0)
    for number, name in enumerate(
        [
            "Black_footed_Albatross",
            "Laysan_Albatross",
            "Crested_Auklet",
            "Least_Auklet",
            "Gray_Catbird",
            "Eastern_Towhee",
        ],
        1,
    ):
        folder = source / "cub200" / "images" / f"{number:03}.{name}"
        folder.mkdir(parents=True)
        colour = random.uniform(40, 215, 3)
        for image in range(8):
            pixels = (colour + random.normal(0, 30, (40, 48, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}_{image:04}.jpg")
        (folder / "._stray.jpg").write_bytes(b"not an image")
    (source / "cub200" / "images" / ".DS_Store").write_bytes(b"")
    return source


@pytest.fixture
def call(birds, tmp_path):
    """Call main with the tiny settings; returns its exit status."""

    def run(*argv: str) -> int:
        return main.main(
            [
                *TINY,
                "--dataset",
                "cub200",
                "--source_path",
                str(birds),
                "--save_path",
                str(tmp_path / "runs"),
                "--cache_path",
                str(tmp_path / "cache"),
                *argv,
            ]
        )

    return run


@pytest.fixture(scope="session")
def encoded(tmp_path_factory) -> list[str]:
    """Flags with which texts are encoded once for all tests, not for each run."""
    return ["--cache_path", str(tmp_path_factory.mktemp("encoded"))]


def run_in(tmp_path, name="Sample_Run_s0") -> Path:
    return tmp_path / "runs" / "cub200" / name


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / run_folder.LAST_CHECKPOINT, weights_only=True)["state_dict"]


@pytest.mark.curves
def test_a_guided_run_leaves_its_records(call, tmp_path, capsys):
    guided = ["--language_distill_w", "5", "--language_model", "minilm"]
    flags = ["--n_epochs", "2", *guided, "--store_improvements", "--tau", "1"]
    assert call(*flags) == 0
    folder, said = run_in(tmp_path), capsys.readouterr().out
    assert (
        "Black footed Albatross" in said and str(folder) in said and "3 classes, 24 images" in said
    )
    with (folder / "CSV_Logs" / "Data_Test_embeds_e_recall.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["epoch", "e_recall@1"] and [row[0] for row in rows[1:]] == ["1", "2"]
    results = json.loads((folder / "results.json").read_text())
    best = results["metrics"]["Test"]["embeds_e_recall: e_recall@1"]
    assert (
        best["best"] == max(float(row[1]) for row in rows[1:])
        and best["last"] == float(rows[2][1])
        and best["last_epoch"] == 2
        and results["epochs"] == 2
    )
    assert (
        results["metrics"]["Train"]["guidance"]["last"] > 0
        and results["versions"]["torch"]
        and results["seconds"] > 0
    )
    for name in (
        "args.yaml",
        "Parameter_Info.txt",
        "checkpoint_last.pth.tar",
        "checkpoint_Test_embeds_e_recall@1.pth.tar",
        "checkpoint_Train_embeds_e_recall@1.pth.tar",
        "Progression_Plots/Graph_Test_embeds_nmi.svg",
        "CSV_Logs/Data_Train_loss.csv",
    ):
        assert (folder / name).is_file(), name
    # The run's own settings are a configuration; a second run never writes into the folder of the
    # first.
    assert main.main(["--config", str(folder / "args.yaml")]) == 0
    assert torch.equal(
        last_weights(folder)["head.weight"],
        last_weights(run_in(tmp_path, "Sample_Run_s0_1"))["head.weight"],
    )
    assert call(*flags, "--completed") == 0
    assert not run_in(tmp_path, "Sample_Run_s0_2").exists()


def test_guidance_and_seed_change_the_weights(call, tmp_path):
    for name, flags in {
        "plain": [],
        "guided": ["--language_distill_w", "5", "--language_model", "minilm"],
        "seed": ["--seed", "1"],
    }.items():
        assert call("--savename", name, *flags) == 0
    weights = [
        last_weights(run_in(tmp_path, name))["head.weight"] for name in ("plain", "guided", "seed")
    ]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    "flags, said_at_start",
    [
        ("--language_control shuffle", "class names, shuffled between classes"),
        ("--language_control onehot", "from no texts, control onehot"),
        ("--language_loss contrastive --language_map_lr 1e-2", "guidance map lr 0.01, decay 0"),
    ],
)
def test_other_guidance_changes_nothing_but_guidance(call, tmp_path, capsys, flags, said_at_start):
    """At a weight that rounds away a run ends as the objective alone."""
    for name, more in {
        "plain": [],
        "guided": ["--language_distill_w", "1e-30", *flags.split()],
    }.items():
        short = ["--n_epochs", "1", "--no_test_metrics", "--language_model", "minilm"]
        assert call("--savename", name, *short, *more) == 0
    plain, guided = (last_weights(run_in(tmp_path, name)) for name in ("plain", "guided"))
    assert all(torch.equal(plain[name], guided[name]) for name in plain)
    assert said_at_start in " ".join(capsys.readouterr().out.split())


CONTRASTIVE = [
    *("--language_distill_w", "5", "--language_model", "minilm", "--language_control", "shuffle"),
    *("--language_loss", "contrastive", "--language_rise", "9", "--language_half_life", "4"),
]
BRANCHES = [
    "--loss_s2sd_target_dims",
    "8",
    "12",
    "--loss_s2sd_source",
    "arcface",
    "--loss_s2sd_target",
    "proxynca",
]


@pytest.mark.parametrize(
    "flags",
    [
        ["--language_distill_w", "5", "--language_model", "minilm", "--language_delay", "5"],
        CONTRASTIVE,
        ["--loss", "margin", "--kernels", "1", "--tau", "2"],
        [
            "--loss",
            "s2sd",
            *BRANCHES,
            "--loss_s2sd_feat_distill",
            "--loss_s2sd_feat_distill_delay",
            "7",
        ],
        [
            "--loss",
            "adversarial_separation",
            "--data_sampler",
            "greedy_coreset",
            "--data_batchmatch_bigbs",
            "16",
        ],
        [
            "--loss",
            "pml:ProxyAnchorLoss",
            "--loss_pml_lr",
            "0.1",
            "--data_sampler",
            "class_balanced",
        ],
    ],
    ids=["guided", "contrastive", "margin", "s2sd", "adversarial_separation", "pml"],
)
def test_a_resumed_run_ends_with_the_same_parameters(call, tmp_path, flags, capsys):
    assert call("--n_epochs", "4", "--savename", "whole", *flags) == 0
    assert call("--n_epochs", "2", "--savename", "parts", *flags) == 0
    assert call("--n_epochs", "4", "--savename", "parts", *flags, "--resume", "auto") == 0
    whole, parts = (
        torch.load(run_in(tmp_path, name) / run_folder.LAST_CHECKPOINT, weights_only=True)
        for name in ("whole", "parts")
    )
    for part in ("state_dict", "criterion"):
        assert whole[part].keys() == parts[part].keys()
        assert all(torch.equal(whole[part][name], parts[part][name]) for name in whole[part])
    for tables in ("Data_Test_embeds_e_recall.csv", "Data_Train_loss.csv"):
        assert (run_in(tmp_path, "whole") / "CSV_Logs" / tables).read_text() == (
            run_in(tmp_path, "parts") / "CSV_Logs" / tables
        ).read_text()
    assert not run_in(tmp_path, "parts_1").exists()
    assert "--n_epochs 2 (here 4)" in capsys.readouterr().out


@pytest.mark.parametrize("number, name", list(enumerate(criteria.REGISTRY)))
def test_every_objective_trains_with_guidance_in_every_precision(
    call, encoded, tmp_path, number, name
):
    miner = (criteria.REGISTRY[name].MINERS or ("distance",))[0]
    dims = ["--loss_s2sd_target_dims", "8"] if name == "s2sd" else []
    assert (
        call(
            "--loss",
            name,
            "--batch_mining",
            miner,
            *dims,
            *encoded,
            "--precision",
            ("fp32", "bf16", "fp16")[number % 3],
            "--no_train_metrics",
            "--evaluation_metrics",
            "e_recall@1",
            "--language_distill_w",
            "1",
            "--language_model",
            "minilm",
        )
        == 0
    )
    losses = json.loads((run_in(tmp_path) / "results.json").read_text())["metrics"]["Train"]
    assert all(math.isfinite(losses[part]["last"]) for part in ("objective", "guidance"))


@pytest.mark.parametrize(
    "flags",
    [
        *(
            ["--loss", "triplet", "--batch_mining", name, "--samples_per_class", "4"]
            for name in batchminer.REGISTRY
        ),
        *(
            [
                "--data_sampler",
                name,
                "--data_batchmatch_bigbs",
                "16",
                "--data_sampler_lowproj_dim",
                "4",
            ]
            for name in datasampler.REGISTRY
        ),
        [
            "--loss",
            "pml:TripletMarginLoss",
            "--loss_pml_args",
            '{"margin": 0.1}',
            "--batch_mining",
            "pml:BatchHardMiner",
        ],
        [
            "--loss",
            "margin",
            "--batch_mining",
            "pml:MultiSimilarityMiner",
            "--miner_pml_args",
            '{"epsilon": 0.5}',
        ],
    ],
    ids=" ".join,
)
def test_every_miner_and_sampler_trains(call, tmp_path, flags, capsys):
    assert call(*flags, "--no_train_metrics", "--evaluation_metrics", "e_recall@1") == 0
    assert flags[1] in capsys.readouterr().out
    assert math.isfinite(
        json.loads((run_in(tmp_path) / "results.json").read_text())["metrics"]["Train"][
            "objective"
        ]["last"]
    )


def test_the_list_names_everything_with_a_line_each(capsys):
    assert main.main(["--list", "--loss", "nothing of the kind"]) == 0
    said = capsys.readouterr().out
    for name in (
        *criteria.REGISTRY,
        *batchminer.REGISTRY,
        *datasampler.REGISTRY,
        *parameters.METRIC_PATTERNS,
        *parameters.LANGUAGE_MODELS,
        *parameters.OPTIMIZER_LINES,
        *datasets.BENCHMARKS,
        *datasets.OWN_DATA,
        "shapes",
        "pml:<ClassName>",
    ):
        assert re.search(rf"^  {re.escape(name)}  +\S", said, re.MULTILINE), name
    assert "[miner: npair]" in said and "[miner: any]" in said


@pytest.mark.parametrize(
    "name, layout",
    [
        pytest.param(name, layout, id=f"{name}, {layout}")
        for name, makers in small.MAKERS.items()
        for layout in makers
    ],
)
def test_every_layout_of_a_benchmark_trains_once_prepared(
    call, tmp_path, monkeypatch, name, layout
):
    small.use_small_counts(monkeypatch)
    (tmp_path / "from").mkdir()
    sources = map(str, small.MAKERS[name][layout](tmp_path / "from"))
    assert prepare_command.main([name, "--from", *sources, "--to", str(tmp_path / "to")]) == 0
    assert (
        call(
            "--dataset",
            name,
            "--source_path",
            str(tmp_path / "to"),
            "--bs",
            "4",
            "--language_distill_w",
            "1",
            "--language_model",
            "minilm",
            *ONE_METRIC,
        )
        == 0
    )
    results = json.loads((tmp_path / "runs" / name / "Sample_Run_s0" / "results.json").read_text())
    assert (
        math.isfinite(results["metrics"]["Train"]["guidance"]["last"])
        and results["metrics"]["Test"]["embeds_e_recall: e_recall@1"]["last"] > 0
    )


@pytest.mark.parametrize(
    "name, metric", [("online_products", "superclass_recall@1"), ("inshop", "mAP")]
)
def test_superclasses_and_galleries_are_evaluated_and_drawn(
    birds, tmp_path, monkeypatch, name, metric
):
    small.use_small_counts(monkeypatch)
    (tmp_path / "from").mkdir()
    sources = map(str, next(iter(small.MAKERS[name].values()))(tmp_path / "from"))
    assert prepare_command.main([name, "--from", *sources, "--to", str(tmp_path / "to")]) == 0
    drawing = [flag for flag in TINY if flag != "--no_figures"]
    assert (
        main.main(
            [
                *drawing,
                "--dataset",
                name,
                "--source_path",
                str(tmp_path / "to"),
                "--save_path",
                str(tmp_path / "runs"),
                "--cache_path",
                str(tmp_path / "cache"),
                "--bs",
                "4",
                "--no_train_metrics",
                "--language_model",
                "minilm",
                "--evaluation_metrics",
                "e_recall@1",
                metric,
                "semantic_consistency",
                "nmi",
            ]
        )
        == 0
    )
    folder = tmp_path / "runs" / name / "Sample_Run_s0"
    found = {
        key.split(": ")[-1]: values["last"]
        for key, values in json.loads((folder / "results.json").read_text())["metrics"][
            "Test"
        ].items()
    }
    assert (
        found[metric] >= (found["e_recall@1"] if "superclass" in metric else 0)
        and -1 <= found["semantic_consistency"] <= 1
    )
    assert {"retrieval.png", "projection.png"} <= {
        path.name for path in (folder / "Figures").iterdir()
    }


def test_own_folders_tables_and_class_texts_train(call, birds, tmp_path, capsys):
    images = birds / "cub200" / "images"
    rows = [
        f"{path},{path.parent.name},{'test' if path.parent.name > '004' else 'train'}\n"
        for path in sorted(images.glob("*/*.jpg"))
        if not path.name.startswith(".")
    ]
    (tmp_path / "birds.csv").write_text("path,label,split\n" + "".join(rows))
    (tmp_path / "validation.txt").write_text("001.Black_footed_Albatross\n002.Laysan_Albatross\n")
    (tmp_path / "texts.json").write_text(
        json.dumps(
            {
                path.name: [f"a bird called {path.name[4:]}", "it flies"]
                for path in images.iterdir()
                if path.is_dir()
            }
        )
    )
    guided = [
        "--language_distill_w",
        "1",
        "--language_model",
        "minilm",
        "--class_text",
        str(tmp_path / "texts.json"),
        "--language_primer",
        "{}",
        *ONE_METRIC,
    ]
    assert call("--dataset", "folder", "--source_path", str(images), *guided) == 0
    assert "a bird called Black_footed_Albatross, it flies" in capsys.readouterr().out
    assert call("--dataset", "table", "--source_path", str(tmp_path / "birds.csv"), *guided) == 0
    assert "table (test)  " in capsys.readouterr().out
    assert (
        call(
            "--dataset",
            "folder",
            "--source_path",
            str(images),
            "--use_tv_split",
            "--tv_split_classes",
            str(tmp_path / "validation.txt"),
        )
        == 2
    )
    assert "leaves 1 classes for training" in capsys.readouterr().err
    assert call("--dataset", "cub200", "--use_tv_split", "--tv_split_by_samples", *ONE_METRIC) == 0
    assert "cub200 (validation)  3 classes, 6 images" in capsys.readouterr().out


def test_a_benchmark_that_is_not_whole_is_refused_unless_asked(birds, tmp_path, capsys):
    tiny = [flag for flag in TINY if flag != "--allow_partial"]
    argv = [*tiny, "--source_path", str(birds), "--save_path", str(tmp_path / "runs")]
    assert main.main(argv) == 2
    message = capsys.readouterr().err
    assert (
        "train has 24 images of 3 classes instead of 5,864 images of 100 classes" in message
        and "--allow_partial" in message
    )
    assert main.main([*argv, "--allow_partial", *ONE_METRIC]) == 0
    assert "do not compare with published ones" in capsys.readouterr().out


def test_ctrl_c_ends_cleanly_and_says_how_to_resume(birds, tmp_path):
    words = [
        *TINY,
        "--dataset",
        "cub200",
        "--source_path",
        str(birds),
        "--save_path",
        str(tmp_path / "runs"),
        "--n_epochs",
        "500",
        "--kernels",
        "1",
    ]
    program = Program(ROOT / "main.py", words, tmp_path / "said")
    checkpoint = run_in(tmp_path) / run_folder.LAST_CHECKPOINT
    program.await_file(checkpoint)
    program.signal(signal.SIGINT)  # as a terminal does: to the loader's processes too
    assert program.wait(60) == 130
    error = program.err.read_text()
    assert "Traceback" not in error
    assert f"--config {run_in(tmp_path) / 'args.yaml'} --resume {checkpoint}" in error


@pytest.mark.parametrize(
    "flags, parts",
    [
        (["--arch", "resnet5O"], ["--arch", "did you mean resnet50"]),
        (["--source_path", "nowhere"], ["nowhere", "--source_path"]),
        (["--bs", "80"], ["--bs 80", "24 images"]),
        (["--device", "cuda"], ["--device cuda"]),
        (["--resume", __file__], ["--resume", "is not a checkpoint of this program"]),
        (["--use_tv_split", "--tv_split_perc", "0.5"], ["--tv_split_perc"]),
        (
            ["--language_distill_w", "1", "--language_model", "hf:/nowhere/model"],
            ["language model /nowhere/model is not there: ", "--language_weights"],
        ),
    ],
)
def test_wrong_input_is_one_sentence_and_writes_nothing(
    call, tmp_path, capsys, monkeypatch, flags, parts
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if "cuda" in flags and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert call(*flags) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("main.py: error: ") and all(part in message for part in parts)
    assert not (tmp_path / "runs").exists()


def test_no_network_and_no_file_says_what_to_download(birds, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    argv = [
        "--arch",
        "resnet50_frozen_normalize",
        "--dataset",
        "cub200",
        "--source_path",
        str(birds),
        "--save_path",
        str(tmp_path / "runs"),
        "--loss",
        "multisimilarity",
        "--bs",
        "8",
        "--allow_partial",
    ]
    assert main.main(argv) == 2
    message = capsys.readouterr().err
    assert (
        "resnet50.tv_in1k" in message
        and "--arch_weights" in message
        and "--not_pretrained" in message
    )
    assert not (tmp_path / "runs").exists()


def test_broken_data_is_named(call, birds, tmp_path, capsys):
    source = Path(shutil.copytree(birds, tmp_path / "source"))
    image = source / "cub200" / "images" / "005.Gray_Catbird" / "Gray_Catbird_0003.jpg"
    image.write_bytes(image.read_bytes()[:300])
    assert call("--source_path", str(source)) == 2
    assert str(image) in capsys.readouterr().err
    for folder in (source / "cub200" / "images").glob("00[1-5]*"):
        shutil.rmtree(folder)
    assert call("--source_path", str(source)) == 2
    assert "1 class folder with" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_cached_run_ends_with_the_parameters_of_one_that_decodes_each_time(
    call, tmp_path, kind, capsys
):
    exact = ["--n_epochs", "2", "--decoding", "exact"]
    assert call(*exact, "--savename", "decoded") == 0
    assert (
        call(
            *exact,
            "--savename",
            "cached",
            "--kernels",
            "1",
            "--cache",
            kind,
            "--cache_limit",
            "0.0001",
        )
        == 0
    )  # room for some of the images
    assert "Decoded images are kept in" in capsys.readouterr().out
    weights = [last_weights(run_in(tmp_path, name)) for name in ("decoded", "cached")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_broken_images_are_left_out_counted_and_named(call, birds, tmp_path, capsys):
    source = Path(shutil.copytree(birds, tmp_path / "source"))
    broken = [
        source / "cub200" / "images" / folder / f"{folder[4:]}_0003.jpg"
        for folder in ("001.Black_footed_Albatross", "005.Gray_Catbird")
    ]
    for image in broken:
        image.write_bytes(image.read_bytes()[:300])
    assert call("--source_path", str(source), "--on_bad_image", "skip") == 0
    said = capsys.readouterr().out
    assert "3 classes, 23 images" in said
    assert all(
        str(image) in part
        for image in broken
        for part in (said.split("Results:")[0], said.split("Results:")[1])
    )  # before the run and at its end
    assert json.loads((run_in(tmp_path) / "results.json").read_text())[
        "images_left_out"
    ].keys() == {str(image) for image in broken}


def test_foreign_weights_and_checkpoints_are_refused(call, birds, tmp_path, capsys):
    assert call() == 0
    checkpoint = run_in(tmp_path) / run_folder.LAST_CHECKPOINT
    assert (
        call("--resume", str(checkpoint), "--arch", "test_vit_normalize", "--image_size", "160")
        == 2
    )
    assert "--arch test_resnet_normalize (here test_vit_normalize)" in capsys.readouterr().err
    foreign = tmp_path / "foreign.pt"
    torch.save({"weight": torch.zeros(2)}, foreign)
    pretrained = [flag for flag in TINY if flag != "--not_pretrained"]
    assert (
        main.main(
            [
                *pretrained,
                "--dataset",
                "cub200",
                "--source_path",
                str(birds),
                "--save_path",
                str(tmp_path / "runs"),
                "--savename",
                "x",
                "--arch_weights",
                str(foreign),
            ]
        )
        == 2
    )
    assert (
        f"--arch_weights {foreign} does not hold weights of test_resnet" in capsys.readouterr().err
    )
    assert call("--resume", str(foreign)) == 2
    assert "not a checkpoint" in capsys.readouterr().err
    assert not run_in(tmp_path, "x").exists()


def test_a_non_finite_loss_stops_the_run_and_names_part_epoch_and_step(call, capsys):
    assert call("--n_epochs", "2", "--lr", "1e30") == 1
    message = capsys.readouterr().err
    assert "not finite" in message and "step" in message and "of epoch 1" in message


@pytest.mark.parametrize(
    "flags",
    [
        ["--precision", "bf16"],
        ["--precision", "bf16", "--channels_last", "--loss", "margin"],
        ["--arch", "test_vit_frozen_double_normalize"],
        ["--use_float16"],
        ["--augmentation", "adv"],
        ["--augmentation", "big"],
        ["--augmentation", "red"],
        ["--warmup", "1"],
        ["--fc_lr", "0.01", "--scheduler", "none"],
        [
            "--use_tv_split",
            "--tv_split_perc",
            "0.5",
            "--tv_split_by_samples",
            "--no_test_metrics",
            "--store_improvements",
        ],
        ["--data_ssl_set"],
        ["--internal_split", "0.5"],
        ["--check_images"],
        ["--decoding", "exact", "--kernels", "2"],
        ["--cache", "ram", "--cache_size", "38", "--kernels", "1"],
        ["--evaltypes", "embeds", "avg_features", "--evaluate_on_cpu"],
    ],
    ids=" ".join,
)
def test_settings_run(call, flags):
    assert call(*flags) == 0


def test_pseudolabels_from_a_local_classifier_are_cached(call, tmp_path, capsys, monkeypatch):
    import timm

    classifier = timm.create_model("test_resnet", num_classes=1000)
    weights = tmp_path / "classifier.pt"
    torch.save(classifier.state_dict(), weights)
    flags = [
        "--language_distill_w",
        "5",
        "--language_model",
        "minilm",
        "--language_pseudoclass",
        "--language_pseudoclass_topk",
        "3",
        "--language_pseudoclass_arch",
        "test_resnet",
        "--language_pseudoclass_weights",
        str(weights),
    ]
    assert call(*flags) == 0
    said = capsys.readouterr()
    assert "top-3 pseudolabels of test_resnet" in said.out
    assert "A classifier looks at 24 training images" in said.out
    rows = texts_read(run_in(tmp_path))
    assert len(rows) == 3 * 3 and rows[0].keys() == {"class", "text", "probability"}
    assert call(*flags, "--language_pseudoclass_level", "sample") == 0
    said = capsys.readouterr()
    assert "A classifier looks at" not in said.out
    assert "top-3 pseudolabels of each image of test_resnet" in said.out
    rows = texts_read(run_in(tmp_path, "Sample_Run_s0_1"))
    for name in dict.fromkeys(row["class"] for row in rows):
        times = [int(row["images"]) for row in rows if row["class"] == name]
        assert sum(times) == 3 * 8 and times == sorted(times, reverse=True) and max(times) <= 8


@pytest.fixture
def letters(monkeypatch):
    """In the place of a language model: an encoder of thousands of texts in no time."""

    def load(device):
        return lambda sentences: torch.tensor(
            [[text.count(letter) + 0.1 for letter in "aeinorst"] for text in sentences]
        )

    model = language_models.LanguageModel("letters", load)
    monkeypatch.setattr(language_models, "select", lambda name, weights: model)


def test_pseudolabels_of_a_classifier_of_other_imagenet_classes(call, tmp_path, letters, capsys):
    """The logits are the same number for every image, so the first class is known."""
    import timm
    from timm.data import ImageNetInfo

    classifier = timm.create_model("test_resnet", num_classes=11821)
    torch.nn.init.zeros_(classifier.fc.weight)
    for rank, place in enumerate((11000, 7)):
        classifier.fc.bias.data[place] = 9.0 - rank
    torch.save(classifier.state_dict(), tmp_path / "classifier.pt")
    flags = ["--language_distill_w", "5", "--language_pseudoclass"]
    flags += ["--language_pseudoclass_arch", "test_resnet", "--language_pseudoclass_topk", "2"]
    flags += ["--language_pseudoclass_weights", str(tmp_path / "classifier.pt")]
    assert call(*flags) == 0
    assert "top-2 pseudolabels of test_resnet" in capsys.readouterr().out
    info = ImageNetInfo("imagenet-12k")
    expected = [info.index_to_description(place).split(", ")[0] for place in (11000, 7)]
    assert [row["text"] for row in texts_read(run_in(tmp_path))] == expected * 3
    torch.save(timm.create_model("test_resnet", num_classes=9).state_dict(), flags[-1])
    assert call(*flags) == 2
    said = capsys.readouterr().err
    assert "classifier.pt has 9 classes" in said and said.count("\n") == 1


def test_words_of_a_file_that_clip_sees(call, birds, tmp_path, letters, capsys):
    """Of each training class by hand: the mean of its images' logits."""
    import open_clip
    from open_clip import factory

    width = {"layers": 1, "width": 32}
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "head_width": 16, "patch_size": 16, **width},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "heads": 2, **width},
    }
    (tmp_path / "tiny-seen.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    torch.save(open_clip.CLIP(**config).state_dict(), tmp_path / "clip.pt")
    words = ["seabird", "songbird", "owl"]
    (tmp_path / "words.txt").write_text("\n".join(words))
    flags = ["--language_distill_w", "5", "--language_pseudoclass"]
    flags += ["--language_pseudoclass_arch", f"clip:tiny-seen/{tmp_path / 'clip.pt'}"]
    flags += ["--language_pseudoclass_topk", "3"]
    known = dict(factory._MODEL_CONFIGS)
    open_clip.add_model_config(tmp_path / "tiny-seen.json")
    try:
        with pytest.raises(SystemExit):
            call(*flags)
        assert "needs --language_pseudoclass_vocabulary FILE" in capsys.readouterr().err
        assert call(*flags, "--language_pseudoclass_vocabulary", str(tmp_path / "words.txt")) == 0
        model, _, see = open_clip.create_model_and_transforms(
            "tiny-seen", pretrained=str(tmp_path / "clip.pt")
        )
    finally:
        factory._MODEL_CONFIGS.clear()
        factory._MODEL_CONFIGS.update(known)
    tokens = open_clip.tokenize([f"a photo of a {word}" for word in words])
    expected = []
    with torch.no_grad():
        texts = model.eval().encode_text(tokens, normalize=True)
        for folder in sorted((birds / "cub200" / "images").glob("[0-9]*"))[:3]:
            seen = torch.stack([see(Image.open(file)) for file in sorted(folder.glob("[!.]*.jpg"))])
            means = (model.encode_image(seen, normalize=True) @ texts.T).mean(0)
            expected += [words[place] for place in means.argsort(descending=True)]
    assert [row["text"] for row in texts_read(run_in(tmp_path))] == expected


def test_similarities_of_a_file_guide(call, tmp_path, capsys):
    names = ["Crested Auklet", "001.Black_footed_Albatross", "Laysan Albatross", "Gray Catbird"]
    values = [[1, 0.2, 0.3, 0], [0.2, 1, 0.9, 0], [0.3, 0.9, 1, 0], [0, 0, 0, 1]]
    rows = [["", *names], *([name, *map(str, row)] for name, row in zip(names, values))]
    file = tmp_path / "taxonomy.csv"
    file.write_text("".join(",".join(row) + "\n" for row in rows))
    flags = ["--language_distill_w", "5", "--language_model", f"matrix:{file}"]
    assert call(*flags, "--language_primer", "see {}") == 0
    said = capsys.readouterr().out
    assert f"backward from matrix:{file}, similarities between classes" in said
    assert "--language_primer see {} has no effect" in said and "reads no sentences" in said
    texts = [row["text"] for row in texts_read(run_in(tmp_path))]
    assert texts == ["001.Black_footed_Albatross", "Laysan Albatross", "Crested Auklet"]
    file.write_text("".join(",".join(row[:-2]) + "\n" for row in rows[:-2]))
    assert call(*flags) == 2
    said = capsys.readouterr().err
    assert "no row of the training class 002.Laysan_Albatross" in said and said.count("\n") == 1


def texts_read(folder: Path) -> list[dict[str, str]]:
    with (folder / "class_texts.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_runs_without_optional_packages(call, monkeypatch, capsys):
    """faiss and wandb cannot be imported here; torch clusters, logging goes to files."""
    from evaluation import faiss_library

    for name in ("faiss", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    faiss_library.library.cache_clear()
    try:
        assert call() == 0
        assert call("--log_online") == 2
        assert (
            call("--evaluation_backend", "faiss") == 2
            and "pip install faiss" in capsys.readouterr().err
        )
    finally:
        faiss_library.library.cache_clear()


def test_a_language_model_that_draws_as_it_loads_moves_no_proxy(call, tmp_path, monkeypatch):
    """It loads only where its vectors are not cached."""
    losses = []
    for draws in (0, 7):

        def class_vectors(opt, captions, runtime, draws=draws):
            torch.rand(draws)
            return torch.eye(len(captions))

        monkeypatch.setattr(build, "build_class_vectors", class_vectors)
        name = f"after_{draws}_draws"
        measured = ["--evaluation_metrics", "semantic_consistency", "--no_figures"]
        assert call("--loss", "proxynca", "--n_epochs", "1", "--savename", name, *measured) == 0
        losses.append((run_in(tmp_path, name) / "CSV_Logs" / "Data_Train_loss.csv").read_text())
    assert losses[0] == losses[1]


def test_every_metric_through_main(call, tmp_path):
    """Of embeddings and of pooled features, also of a validation split.

    One reads super-classes and is refused where the dataset has none.
    """
    names = [
        pattern.replace("@K", "@2").replace("@M", "@1")
        for pattern in parameters.METRIC_PATTERNS
        if not pattern.startswith("superclass")
    ]
    assert (
        call(
            "--evaluation_metrics",
            *names,
            "--evaltypes",
            "embeds",
            "avg_features",
            "--language_model",
            "minilm",
            "--storage_metrics",
            "mAP@R",
            "--store_improvements",
            "--use_tv_split",
            "--tv_split_by_samples",
            "--evaluation_memory",
            "1MB",
            "--evaluation_backend",
            "faiss",
        )
        == 0
    )
    found = json.loads((run_in(tmp_path) / "results.json").read_text())["metrics"]
    for split in ("Test", "Val", "Train"):
        assert {metric.split(": ")[-1] for metric in found[split]} >= set(names)
        assert all(math.isfinite(values["last"]) for values in found[split].values())
    assert (run_in(tmp_path) / "checkpoint_Val_embeds_mAP@R.pth.tar").is_file()


def test_superclasses_that_are_not_there(call, tmp_path, capsys):
    assert call("--evaluation_metrics", "e_recall@1", "superclass_recall@1") == 2
    assert (
        "superclass_recall@1: this dataset has no super-classes" in capsys.readouterr().err
        and not (tmp_path / "runs").exists()
    )


def test_the_backend_and_the_memory_of_a_search_change_no_digit(call, tmp_path):
    tables = []
    for name, flags in {
        "torch": [],
        "faiss": ["--evaluation_backend", "faiss"],
        "little": ["--evaluation_memory", "1MB"],
    }.items():
        assert call("--savename", name, *flags) == 0
        tables.append(
            {
                path.name: path.read_text()
                for path in (run_in(tmp_path, name) / "CSV_Logs").iterdir()
                if path.name.startswith(("Data_Test", "Data_Train_embeds"))
            }
        )
    assert tables[0] and tables[0] == tables[1] == tables[2]


def test_evaluating_every_second_epoch_trains_the_same_and_ends_with_an_evaluation(call, tmp_path):
    assert call("--n_epochs", "4", "--savename", "always") == 0
    assert (
        call(
            "--n_epochs",
            "4",
            "--savename",
            "seldom",
            "--evaluate_every",
            "3",
            "--store_improvements",
        )
        == 0
    )
    always, seldom = (last_weights(run_in(tmp_path, name)) for name in ("always", "seldom"))
    assert all(torch.equal(always[name], seldom[name]) for name in always)
    rows = {
        name: (run_in(tmp_path, name) / "CSV_Logs" / "Data_Test_embeds_e_recall.csv")
        .read_text()
        .splitlines()[1:]
        for name in ("always", "seldom")
    }
    assert rows["seldom"] == rows["always"][2:]
    assert [row.split(",")[0] for row in rows["always"]] == ["1", "2", "3", "4"]
    metrics = json.loads((run_in(tmp_path, "seldom") / "results.json").read_text())["metrics"][
        "Test"
    ]
    assert metrics["embeds_e_recall: e_recall@1"]["last_epoch"] == 4


def test_three_values_of_each_metric(call, tmp_path, capsys):
    assert call("--n_epochs", "3", "--use_tv_split", "--tv_split_by_samples") == 0
    said = capsys.readouterr().out
    assert "at best validation" in said and re.search(
        r"Test +embeds_e_recall: e_recall@1 +\d\.\d{4} \(epoch \d\) +\d\.\d{4} \(epoch \d\) "
        r"+\d\.\d{4} \(epoch 3\)",
        said,
    )
    tables = {
        split: [
            float(row.split(",")[1])
            for row in (run_in(tmp_path) / "CSV_Logs" / f"Data_{split}_embeds_mAP_1000.csv")
            .read_text()
            .split()[1:]
        ]
        for split in ("Test", "Val")
    }
    values = json.loads((run_in(tmp_path) / "results.json").read_text())["metrics"]["Test"][
        "embeds_mAP_1000: mAP_1000"
    ]
    chosen = tables["Val"].index(max(tables["Val"]))
    assert values == {
        "best": max(tables["Test"]),
        "best_epoch": 1 + tables["Test"].index(max(tables["Test"])),
        "last": tables["Test"][2],
        "last_epoch": 3,
        "at_best_val": tables["Test"][chosen],
        "best_val_epoch": 1 + chosen,
    }


def test_evaluating_a_checkpoint_gives_the_numbers_of_its_run(call, birds, tmp_path, capsys):
    guided = ["--language_distill_w", "1", "--language_model", "minilm"]
    flags = ["--n_epochs", "2", "--savename", "trained", *guided]
    assert call(*flags) == 0
    checkpoint = run_in(tmp_path, "trained") / run_folder.LAST_CHECKPOINT
    capsys.readouterr()
    assert (
        main.main(["--evaluate_only", str(checkpoint.parent), "--no_figures"]) == 0
    )  # its last checkpoint; all its settings are the checkpoint's
    said = capsys.readouterr().out
    trained, evaluated = (
        json.loads((run_in(tmp_path, name) / "results.json").read_text())["metrics"]
        for name in ("trained", "trained_evaluation")
    )
    assert (
        str(run_in(tmp_path, "trained_evaluation")) in said and "after 2 epochs, on cub200" in said
    )
    for split in ("Test", "Train"):
        numbers = {
            metric: values["last"] for metric, values in trained[split].items() if ": " in metric
        }
        assert numbers == {metric: values["last"] for metric, values in evaluated[split].items()}
    assert call("--completed", *flags) == 0
    assert not run_in(tmp_path, "trained_1").exists()


def test_evaluating_a_checkpoint_on_another_dataset_with_other_metrics(
    call, birds, tmp_path, capsys
):
    assert call() == 0
    checkpoint = run_in(tmp_path) / run_folder.LAST_CHECKPOINT
    shutil.copytree(birds / "cub200", tmp_path / "source" / "mine")
    assert (
        main.main(
            [
                "--evaluate_only",
                str(checkpoint),
                "--dataset",
                "mine",
                "--source_path",
                str(tmp_path / "source"),
                "--evaluation_metrics",
                "mAP@R",
                "--no_train_metrics",
                "--no_figures",
            ]
        )
        == 0
    )
    results = json.loads(
        (tmp_path / "runs" / "mine" / "Sample_Run_s0_evaluation" / "results.json").read_text()
    )
    assert list(results["metrics"]["Test"]) == ["embeds_mAP: mAP@R"] and results[
        "checkpoint"
    ] == str(checkpoint)


def test_a_checkpoint_that_cannot_be_evaluated(call, tmp_path, capsys):
    assert call() == 0
    checkpoint = run_in(tmp_path) / run_folder.LAST_CHECKPOINT
    assert main.main(["--evaluate_only", str(checkpoint), "--embed_dim", "8"]) == 2
    assert (
        f"--evaluate_only {checkpoint} does not fit these settings (state_dict"
        in capsys.readouterr().err
    )
    (tmp_path / "foreign.pt").write_bytes(b"nothing")
    assert main.main(["--evaluate_only", str(tmp_path / "foreign.pt")]) == 2
    assert "is not a checkpoint of this program" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main.main(["--evaluate_only", str(tmp_path / "nowhere.pt")])
    assert (
        stopped.value.code == 2
        and "nowhere.pt: there is no such checkpoint" in capsys.readouterr().err
    )


def test_online_logging_needs_a_key_and_ignores_the_flag(call, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert call("--log_online", "--wandb_key", "secret") == 2
    said = capsys.readouterr()
    assert "WANDB_API_KEY" in said.err and "--wandb_key is ignored" in said.out


def test_offline_run_of_wandb_holds_the_papers_keys(birds, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    places = ["--source_path", birds, "--save_path", tmp_path / "runs"]
    online = ["--n_epochs", "2", "--log_online", "--project", "P", "--group", "G"]
    guided = ["--language_distill_w", "1", "--language_model", "minilm", "--wandb_key", "secret"]
    # As from the shell, because W&B takes a command line from there.
    monkeypatch.setattr(sys, "argv", ["main.py", *TINY, *map(str, places), *online, *guided])
    assert main.main() == 0
    records = wandb_records(next(run_in(tmp_path, "G_s0").glob("wandb/offline-run-*/*.wandb")))
    history = [
        {
            item.key or ".".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    runs = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert [row["_step"] for row in history] == [0, 1, 2]
    assert any(key.startswith("Train: class_texts") for key in history.pop(0))
    assert {
        "Train: loss",
        "Train: epochs",
        "Test: embeds_e_recall: e_recall@1",
        "Test: embeds_nmi: nmi",
        "Test: embeds_mAP_1000: mAP_1000",
        "Train: learning_rate: trunk",
        "Train: learning_rate: head",
        "Train: images_per_second",
        "Train: peak_memory: host_gb",
    } <= history[0].keys()
    assert [row["Train: epochs"] for row in history] == [1, 2]
    assert runs[0].project == "P" and runs[0].run_group == "G" and runs[0].display_name == "G_s0"
    results = json.loads((run_in(tmp_path, "G_s0") / "results.json").read_text())
    assert history[1]["Test: embeds_nmi: nmi"] == pytest.approx(
        results["metrics"]["Test"]["embeds_nmi: nmi"]["last"]
    )
    assert not any(
        "secret" in path.read_text(errors="ignore")
        for path in run_in(tmp_path, "G_s0").rglob("*")
        if path.is_file()
    )


def test_online_logging_gets_the_figures_of_the_last_epoch(call, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    figures_too = [flag for flag in TINY if flag != "--no_figures"]
    monkeypatch.setattr(sys.modules[__name__], "TINY", figures_too)
    assert call("--n_epochs", "2", "--log_online", "--group", "G", "--no_train_metrics") == 0
    records = wandb_records(next(run_in(tmp_path, "G_s0").glob("wandb/offline-run-*/*.wandb")))
    rows = [
        {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    assert len(rows) == 2 and not {"Test: retrieval", "Test: projection"} & rows[0].keys()
    shown = {"Test: retrieval", "Test: projection", "Test: retrievals", "Train: loss"}
    assert shown <= rows[1].keys()


def test_an_evaluation_is_logged_online_when_it_asks_itself(call, tmp_path, monkeypatch):
    """And evaluates the test split and draws it, though its training did not."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert call("--log_online", "--no_test_metrics", "--savename", "trained") == 0
    checkpoint = run_in(tmp_path, "trained") / run_folder.LAST_CHECKPOINT
    asked = [
        "--evaluate_only",
        str(checkpoint),
        "--no_train_metrics",
        "--evaluation_metrics",
        "mAP@R",
    ]
    assert main.main([*asked, "--savename", "silent", "--no_figures"]) == 0
    assert {path.name for path in run_in(tmp_path, "silent_evaluation").iterdir()}.isdisjoint(
        {"wandb", "Figures"}
    )
    assert main.main([*asked, "--savename", "heard", "--log_online"]) == 0
    records = wandb_records(
        next(run_in(tmp_path, "heard_evaluation").glob("wandb/offline-run-*/*.wandb"))
    )
    logged = {
        item.key or item.nested_key[0]
        for record in records
        if record.WhichOneof("record_type") == "history"
        for item in record.history.item
    }
    assert {"Test: embeds_mAP: mAP@R", "Test: retrieval"} <= logged


def tiny_clip(folder: Path) -> Path:
    """A folder as open_clip saves one, with a CLIP of random weights."""
    import open_clip
    from safetensors.torch import save_file

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    }
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    save_file(
        {name: value.contiguous() for name, value in open_clip.CLIP(**config).state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


def test_the_command_lines_of_the_papers_readme(birds, tmp_path, monkeypatch):
    """Unchanged but for paths, epochs and local weights in the places of the downloads.

    Also for 24 small images that are not all of CUB-200, and a batch that fits them. The baseline's
    line is that of guidance without its flags.
    """
    import timm

    monkeypatch.setenv("WANDB_MODE", "offline")
    resnet50 = tmp_path / "resnet50.pt"
    torch.save(timm.create_model("resnet50", num_classes=1000).state_dict(), resnet50)
    command = (
        "--seed 2 --log_online --group cub200-rn128_msim --no_train_metrics "
        f"--project LanguageGuidance --gpu 0 --source_path {birds} --dataset cub200 --n_epochs 1 "
        "--tau 100 --gamma 1 --arch resnet50_frozen_normalize --embed_dim 128 "
        "--loss multisimilarity --bs 12"
    ).split()
    parameters.parse(command)
    guided = ["--language_distill_w", "7.5", "--language_pseudoclass"]
    local = [
        "--allow_partial",
        "--image_size",
        "64",
        "--arch_weights",
        str(resnet50),
        "--save_path",
        str(tmp_path / "runs"),
        "--cache_path",
        str(tmp_path / "cache"),
        "--kernels",
        "0",
        "--language_weights",
        str(tiny_clip(tmp_path / "clip")),
        "--language_pseudoclass_weights",
        str(resnet50),
    ]
    assert main.main([*command, *guided, *local]) == 0
    assert list(run_in(tmp_path, "cub200-rn128_msim_s2").glob("wandb/offline-run-*/*.wandb"))


def test_a_short_guided_run_on_real_images(assets, tmp_path):
    """Real images, real ImageNet weights, real pseudolabels, a real language model.

    All through main.py itself.
    """
    import tarfile

    taken: Counter[str] = Counter()
    with tarfile.open(assets / "cifar100.tar.gz") as archive:
        for member in archive:
            folder = Path(member.name).parent.name
            if member.isfile() and int(folder[:3]) % 10 == 1 and taken[folder] < 24:
                taken[folder] += 1
                archive.extract(member, tmp_path, filter="data")
    weights = str(assets / "mobilenetv2_100_imagenet1k.safetensors")
    words = [
        "--dataset",
        "cifar100",
        "--source_path",
        str(tmp_path),
        "--loss",
        "multisimilarity",
        "--bs",
        "40",
        "--embed_dim",
        "64",
        "--n_epochs",
        "1",
        "--lr",
        "1e-4",
        "--arch",
        "mobilenetv2_100_frozen_normalize",
        "--arch_weights",
        weights,
        "--image_size",
        "64",
        "--kernels",
        "1",
        "--language_distill_w",
        "10",
        "--language_model",
        "minilm",
        "--language_pseudoclass",
        "--language_pseudoclass_arch",
        "mobilenetv2_100",
        "--language_pseudoclass_weights",
        weights,
        "--save_path",
        str(tmp_path / "runs"),
        "--cache_path",
        str(tmp_path / "cache"),
        "--no_train_metrics",
        "--no_figures",
    ]
    program = Program(ROOT / "main.py", words, tmp_path / "said")
    assert program.wait(400) == 0, program.err.read_text()[-2000:]
    # What the classifier sees in apples of 32 x 32 pixels:
    assert "croquet ball" in program.out.read_text()
    results = json.loads(next((tmp_path / "runs" / "cifar100").glob("*/results.json")).read_text())
    assert (
        results["metrics"]["Test"]["embeds_e_recall: e_recall@1"]["best"] > 0.5
    )  # of 5 classes; chance is 0.2
