"""The paper's numbers beside runs that are one of its rows."""

import re
from pathlib import Path

import pytest
import yaml
from made_runs import R1, make_run

import parameters
from programs.results import published, settings
from programs.results.comparison import compare
from programs.results.runs import find

SURVEY = Path(published.__file__).with_name("published.yaml")
MULTISIMILARITY = {"dataset": "cub200", "loss": "multisimilarity"}
S2SD = {
    "loss": "s2sd",
    "loss_s2sd_source": "multisimilarity",
    "loss_s2sd_target": "multisimilarity",
    "loss_s2sd_pool_aggr": True,
    "loss_s2sd_feat_distill": True,
}
NAMES = {"language_distill_w": 6.0}
PSEUDOLABELS = {"language_distill_w": 7.5, "language_pseudoclass": True}


def of(**flags) -> dict[str, tuple[float, float]]:
    made_of = settings.effective(flags)
    found = published.of(str(flags["dataset"]), [made_of, made_of])
    return {metric: (each.mean, each.std) for metric, each in found.items()}


@pytest.mark.parametrize(
    "flags, expected",
    [
        (MULTISIMILARITY, {"e_recall@1": (62.8, 0.2), "mAP_1000": (31.1, 0.2)}),
        (MULTISIMILARITY | NAMES, {"e_recall@1": (67.3, 0.2), "mAP_1000": (34.8, 0.2)}),
        (MULTISIMILARITY | PSEUDOLABELS, {"e_recall@1": (67.1, 0.4)}),
        (MULTISIMILARITY | S2SD | PSEUDOLABELS, {"e_recall@1": (69.0, 0.4)}),
        ({"dataset": "cars196", "loss": "margin"}, {"e_recall@1": (79.4, 0.5)}),
        ({"dataset": "cars196", "loss": "margin"} | NAMES, {"e_recall@1": (83.2, 0.5)}),
        ({"dataset": "online_products", **S2SD}, {"e_recall@1": (77.7, 0.2)}),
        ({**MULTISIMILARITY, "bs": 3, "lr": 0.5, "seed": 7}, {"e_recall@1": (62.8, 0.2)}),
        ({**MULTISIMILARITY, "n_epochs": 9, "decay": 0.1}, {"e_recall@1": (62.8, 0.2)}),
        # It is only measured by these texts.
        ({**MULTISIMILARITY, **PSEUDOLABELS, "class_text": "a.json"}, {"e_recall@1": (67.1, 0.4)}),
    ],
)
def test_a_row_has_its_numbers(flags, expected):
    assert expected.items() <= of(**flags).items()


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "inshop"},
        {"dataset": "folder"},
        {"arch": "resnet18_frozen_normalize"},
        {"arch": "resnet50_normalize"},
        {"embed_dim": 512},
        {"loss": "triplet"},
        {"loss": "margin", "loss_margin_beta": 0.6},
        {"not_pretrained": True},
        {"allow_partial": True},
        {"arch_weights": "own.pth"},
        {"freeze_until": "layer3"},
        {"lora_rank": 4},
        {"ema": 0.999},
        {"use_tv_split": True, "tv_split_perc": 0.5},
        {"image_size": 64},
        {"augmentation": "adv"},
        {"interpolation": "bicubic"},
        {"color_jitter": 0.1},
        {"rand_augment": 2},
        {"data_sampler": "random"},
        {"data_ssl_set": True},
        {"xbm_size": 1000},
        {"loss_multisimilarity_form": "textbook"},
        {"language_model": "minilm"},
        {"language_weights": "own.pt"},
        {"language_primer": ["a {}"]},
        {"language_primer": ["a photo of a {}", "a {}"]},
        {"language_loss": "squares"},
        {"language_distill_dir": "forward"},
        {"language_control": "shuffle"},
        {"language_control": "random"},
        {"language_control": "onehot"},
        {"language_pseudoclass_arch": "resnet18"},
        {"language_pseudoclass_weights": "own.pth"},
        {
            "language_pseudoclass_arch": "clip:ViT-B-32/openai",
            "language_pseudoclass_vocabulary": "words.txt",
        },
        {"language_pseudoclass_share": 0.1},
        {"language_pseudoclass_topk": 1},
        {"language_pseudoclass_level": "sample"},
        {"language_pseudoclass_ranks": "probability"},
        {"language_pseudoclass_mean": "probabilities"},
    ],
)
def test_what_is_no_row_has_none(other):
    assert of(**MULTISIMILARITY, **PSEUDOLABELS)
    assert not of(**(MULTISIMILARITY | PSEUDOLABELS | other))


@pytest.mark.parametrize("control", ["shuffle", "random", "onehot"])
def test_a_control_of_names_has_none(control):
    assert not of(**MULTISIMILARITY, **NAMES, language_control=control)


@pytest.mark.parametrize(
    "objective, other",
    [
        ({"loss": "margin"}, {"loss_margin_form": "textbook"}),
        ({"loss": "margin"}, {"loss_margin_beta_constant": True}),
        ({"loss": "margin"}, {"batch_mining": "semihard"}),
        ({"loss": "margin"}, {"miner_distance_form": "textbook"}),
        (S2SD, {"loss_multisimilarity_form": "textbook"}),
        (S2SD, {"loss_s2sd_target": "margin"}),
        (S2SD, {"loss_s2sd_target_dims": [512]}),
        (S2SD, {"loss_s2sd_pool_aggr": False}),
        (S2SD, {"loss_s2sd_feat_distill": False}),
        (S2SD, {"loss_s2sd_feat_w": 0}),
    ],
)
def test_another_form_of_the_objective_has_none(objective, other):
    assert of(dataset="cub200", **objective)
    assert not of(**({"dataset": "cub200"} | objective | other))


def test_own_texts_are_no_guidance_of_the_paper():
    assert of(**MULTISIMILARITY, **NAMES) and not of(
        **MULTISIMILARITY, **NAMES, class_text="texts.json"
    )


def test_runs_of_two_rows_are_none():
    rows = [settings.effective(MULTISIMILARITY | guidance) for guidance in (NAMES, PSEUDOLABELS)]
    assert not published.of("cub200", rows) and not published.of("cub200", [])


def test_only_the_test_split_is_published(tmp_path):
    curves = {R1: [0.5]}
    make_run(tmp_path, "a", 0, curves, **MULTISIMILARITY)
    (test,) = compare(find([tmp_path])).groups
    assert test.measured["e_recall@1"].published == (62.8, 0.2, published._table()["source"])
    (train,) = compare(find([tmp_path]), metrics=["loss"], split="Train").groups
    assert train.measured["loss"].published is None


def test_the_data_is_whole():
    table = yaml.safe_load(SURVEY.read_text())
    needs = [table["settings"], *table["objectives"].values(), *table["guidance"].values()]
    assert {name for need in needs for name in need} <= parameters.BY_NAME.keys()
    for objectives in table["rows"].values():
        assert objectives.keys() == table["objectives"].keys()
        for kinds in objectives.values():
            assert kinds.keys() == table["guidance"].keys()
            for values in kinds.values():
                assert all(0 < std < 1 < mean < 100 for mean, std in values.values())


def test_the_objectives_of_the_script_of_the_paper_are_rows():
    """Its runs at 128 dimensions have a published number each."""
    script = (Path(__file__).parents[3] / "language_guidance_benchmark_runs.sh").read_text()
    rows = re.findall(r"^ *run \S+ +(\w+) +128 ", script, flags=re.MULTILINE)
    assert rows and set(rows) <= yaml.safe_load(SURVEY.read_text())["rows"].keys()
