"""Runs by group over seeds, and what is said of those that are not in it."""

import pytest
from made_runs import COUNTS, MAP, R1, make_run, unfinished

import parameters
from programs.results import settings
from programs.results.comparison import Comparison, compare
from programs.results.metric_names import Metric, named_by
from programs.results.runs import find
from utilities.errors import UserError


def of(tmp_path, *arguments, **named) -> Comparison:
    return compare(find([tmp_path]), *arguments, **named)


def measured(comparison: Comparison, group: str, metric: str = "e_recall@1"):
    (found,) = (each for each in comparison.groups if each.name == group)
    return found.measured[metric]


def said(sentences: list[str], *parts: str) -> bool:
    """Whether one sentence has all parts."""
    return any(all(part in sentence for part in parts) for sentence in sentences)


def test_values_of_each_seed_their_means_and_differences(tmp_path):
    for seed, value in {1: 0.5, 10: 0.6, 2: 0.7}.items():
        make_run(tmp_path, "base", seed, {R1: [value, value - 0.1]}, best_val=2)
        make_run(tmp_path, "other", seed, {R1: [value, value + 0.05]}, best_val=1)
    compared = of(tmp_path, "base")
    assert [group.name for group in compared.groups] == ["base", "other"]
    base, other = measured(compared, "base"), measured(compared, "other")
    assert base.values["best"] == {1: 0.5, 2: 0.7, 10: 0.6}
    assert list(base.values) == ["best", "at_best_val", "last"]
    assert base.spreads["best"] == pytest.approx((3, 0.6, 0.1))
    assert base.spreads["last"].mean == base.spreads["at_best_val"].mean == pytest.approx(0.5)
    assert base.difference is None and other.difference is not None
    assert other.difference.seeds == (1, 2, 10) and other.difference.mean == pytest.approx(0.05)
    assert not compared.left_out and not compared.warnings
    last = measured(of(tmp_path, "base", value="last"), "other").difference
    assert last is not None and last.mean == pytest.approx(0.15)
    chosen = measured(of(tmp_path, "base", value="at_best_val"), "other").difference
    assert chosen is not None and chosen.mean == pytest.approx(0.1)


def test_missing_seeds_are_in_no_difference_and_told(tmp_path):
    for seed in (0, 1, 2):
        make_run(tmp_path, "base", seed, {R1: [0.5]})
    for seed in (1, 2, 3):
        make_run(tmp_path, "other", seed, {R1: [0.5 + seed / 100]})
    compared = of(tmp_path, "base")
    difference = measured(compared, "other").difference
    assert difference is not None and difference.seeds == (1, 2)
    assert difference.mean == pytest.approx(0.015) and difference.interval is not None
    assert measured(compared, "other").spreads["best"].n == 3
    assert said(compared.left_out, "shapes/other", "seed 3 not in the difference")
    assert said(compared.left_out, "shapes/other", "no finished run of seed 0")
    without = of(tmp_path)
    assert measured(without, "other").difference is None
    assert said(without.left_out, "shapes/base has no finished run of seed 3")


def test_one_pair_has_no_interval(tmp_path):
    make_run(tmp_path, "base", 1, {R1: [0.5]})
    make_run(tmp_path, "other", 1, {R1: [0.75]})
    each = measured(of(tmp_path, "base"), "other")
    assert each.difference == ((1,), 0.25, None) and each.spreads["best"] == (1, 0.75, None)


def test_runs_that_have_not_ended_are_told_and_not_averaged(tmp_path):
    make_run(tmp_path, "a", 0, {R1: [0.5]})
    log = "2026-11-26 08:26:53  main.py: error: the GPU is out of memory.\n"
    unfinished(make_run(tmp_path, "a", 1, {R1: [0.1]}), log)
    damaged = make_run(tmp_path, "a", 2)
    (damaged / "results.json").write_text("{")
    make_run(tmp_path, "a", 3, {R1: [0.1]}, facts={"checkpoint": "a_s0"})
    no_table = unfinished(make_run(tmp_path, "a", 4))
    (no_table / "CSV_Logs" / "Data_Train_loss.csv").write_text("epoch,loss\nx,y\n")
    compared = of(tmp_path)
    assert measured(compared, "a").values["best"] == {0: 0.5}
    assert said(compared.left_out, "a_s1: not finished, 1 of 1", "GPU is out of memory")
    assert not any(sentence.endswith("..") for sentence in compared.left_out)
    assert said(compared.left_out, "a_s4: not finished. The table", "cannot be read")
    assert said(compared.left_out, "a_s2: results.json holds no results")
    assert said(compared.left_out, "1 made by --evaluate_only", "a_s3")
    with_evaluations = of(tmp_path, evaluations=True)
    assert [group.name for group in with_evaluations.groups] == ["a", "a_evaluation"]
    assert not said(with_evaluations.left_out, "--evaluate_only")


def test_the_newest_finished_run_of_a_seed_counts(tmp_path):
    times = {"10": 0.1, "12": 0.2, "11": 0.3}
    for hour, value in times.items():
        finished = {"finished": f"2026-11-26T{hour}:00:00+00:00"}
        make_run(tmp_path, "a", 1, {R1: [value]}, facts=finished)
    unfinished(make_run(tmp_path, "a", 1, {R1: [0.9]}))
    compared = of(tmp_path)
    assert measured(compared, "a").values["best"] == {1: 0.2}
    assert said(compared.left_out, "shapes/a, seed 1, has 3 finished runs", "a_s1_1, not ")
    assert said(compared.left_out, "a_s1_3: not finished")


def test_runs_of_a_seed_that_differ_are_told_with_their_settings(tmp_path):
    for hour, rate in {"10": 0.1, "11": 0.3, "12": 0.2}.items():
        finished = {"finished": f"2026-11-26T{hour}:00:00+00:00"}
        guided = {"language_distill_w": 3.0} if hour == "12" else {}
        make_run(tmp_path, "a", 1, facts=finished, lr=rate, kernels=int(hour), **guided)
    for hour, name in {"10": "checkpoint_Test_embeds_nmi.pth.tar", "11": ""}.items():
        facts = {"finished": f"2026-11-26T{hour}:00:00+00:00", "checkpoint": f"/b_s1/{name}"}
        make_run(tmp_path, "b", 1, facts=facts)
    (trained, evaluated) = of(tmp_path, evaluations=True).left_out
    assert "3 finished runs: the newest counts, " in trained and "a_s1_2, not " in trained
    assert trained.endswith(
        "; they differ in --lr 0.2 (there 0.1 or 0.3), --language_distill_w 3 (there 0)."
    )
    assert evaluated.endswith(
        "b_s1; they differ in the checkpoint checkpoint_last.pth.tar (there "
        "checkpoint_Test_embeds_nmi.pth.tar)."
    )


def test_runs_of_a_seed_that_are_alike_are_told_without_settings(tmp_path):
    for number in (1, 2):
        make_run(tmp_path, "a", 1, facts={"finished": f"2026-11-26T0{number}:00:00+00:00"})
    (sentence,) = of(tmp_path).left_out
    assert sentence.endswith("a_s1.")


def test_metrics_that_only_some_have_are_told(tmp_path):
    make_run(tmp_path, "a", 0, {R1: [0.5], MAP: [0.2]})
    make_run(tmp_path, "a", 1, {R1: [0.5], MAP: []})  # of which no epoch had a value
    make_run(tmp_path, "b", 0, {R1: [0.5]})
    make_run(tmp_path, "b", 1, {R1: [0.5]})
    compared = of(tmp_path, "b")
    assert measured(compared, "a", "mAP_1000").values["best"] == {0: 0.2}
    assert measured(compared, "a", "mAP_1000").difference is None
    assert "mAP_1000" not in compared.groups[0].measured
    assert said(compared.left_out, "shapes/a has no best mAP_1000 of seed 1")
    assert said(compared.left_out, "shapes/b has no mAP_1000")


def test_a_metric_without_any_value_is_unknown(tmp_path):
    make_run(tmp_path, "a", 0, {R1: [0.5], MAP: []})
    assert [metric.name for metric in of(tmp_path).metrics] == ["e_recall@1"]
    with pytest.raises(UserError, match="No run has the metric mAP_1000 of the split Test"):
        of(tmp_path, metrics=["mAP_1000"])


def test_each_dataset_is_on_its_own(tmp_path):
    for dataset in ("cars196", "cub200"):
        make_run(tmp_path, "a", 0, {R1: [0.5]}, dataset=dataset)
    make_run(tmp_path, "base", 0, {R1: [0.4]}, dataset="cub200", lr=0.5)
    compared = of(tmp_path, "base")
    assert compared.datasets == ["cars196", "cub200"]
    assert [(group.dataset, group.name) for group in compared.groups] == [
        ("cars196", "a"),
        ("cub200", "base"),
        ("cub200", "a"),
    ]
    assert said(compared.left_out, "cars196 has no run of base")
    assert compared.groups[0].settings == {} and compared.groups[1].settings == {"lr": "0.5"}


def test_groups_are_counted(tmp_path):
    for name in ("w10", "w2", "base", "w1"):
        make_run(tmp_path, name, 0)
    names = [group.name for group in of(tmp_path, "base").groups]
    assert names == ["base", "w1", "w2", "w10"]


@pytest.mark.parametrize(
    "asked, name, key",
    [
        ("e_recall@1", "e_recall@1", R1),
        ("embeds:e_recall@1", "e_recall@1", R1),
        (R1, "e_recall@1", R1),
        ("avg_features:nmi", "avg_features:nmi", "avg_features_nmi: nmi"),
        ("avg_features : nmi", "avg_features:nmi", "avg_features_nmi: nmi"),
        ("avg_features_nmi: nmi", "avg_features:nmi", "avg_features_nmi: nmi"),
        (
            "rho_spectrum@1@avg_features",
            "rho_spectrum@1@avg_features",
            "avg_features_rho_spectrum: rho_spectrum@1@avg_features",
        ),
    ],
)
def test_metrics_are_found_by_name_and_key(tmp_path, asked, name, key):
    keys = ["avg_features_nmi: nmi", "avg_features_rho_spectrum: rho_spectrum@1@avg_features"]
    make_run(tmp_path, "a", 0, {known: [0.5] for known in (R1, *keys)})
    assert of(tmp_path, None, [asked, asked]).metrics == [Metric(key, name)]


def test_unasked_are_the_usual_metrics_or_else_any(tmp_path):
    make_run(tmp_path, "a", 0, {f"embeds_x: x@{number}": [0.5] for number in range(6)})
    assert len(of(tmp_path).metrics) == 4
    make_run(tmp_path, "b", 0, {"embeds_nmi: nmi": [0.5], R1: [0.5]})
    assert [metric.name for metric in of(tmp_path).metrics] == ["e_recall@1", "nmi"]


def test_losses_are_metrics_of_the_training_split(tmp_path):
    make_run(tmp_path, "a", 0, {R1: [0.5, 0.5]})
    compared = of(tmp_path, metrics=["loss"], split="Train")
    assert measured(compared, "a", "loss").values["best"] == {0: 0.5}
    assert compared.metrics[0].lower_is_better and not compared.metrics[0].is_share


@pytest.mark.parametrize(
    "key, is_share, lower_is_better",
    [
        (R1, True, False),
        ("embeds_c_recall: c_recall@1", True, False),
        ("embeds_superclass_recall: superclass_recall@10", True, False),
        ("embeds_precision: precision@10", True, False),
        ("embeds_c_r_precision: c_r_precision", True, False),
        ("avg_features_c_mAP: c_mAP@R", True, False),
        ("embeds_mAP_lim: mAP_lim", True, False),
        ("embeds_c_nmi: c_nmi", True, False),
        ("embeds_ami: ami", True, False),
        ("embeds_f1: f1", True, False),
        ("embeds_semantic_consistency: semantic_consistency", False, False),
        ("embeds_mistake_severity: mistake_severity", False, True),
        ("embeds_superclass_mistake_severity: superclass_mistake_severity", False, True),
        ("embeds_dists: dists@inter", False, False),
        ("embeds_dists: dists@intra", False, True),
        ("embeds_rho_spectrum: rho_spectrum@0@embeds", False, True),
        ("loss", False, True),
        ("guidance", False, True),
    ],
)
def test_shares_and_directions(key, is_share, lower_is_better):
    metric = named_by(key)
    assert (metric.is_share, metric.lower_is_better) == (is_share, lower_is_better)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"baseline": "bsae"}, r"no group bsae with finished runs \(did you mean base\?\).* base"),
        ({"metrics": ["e_recal@1"]}, r"\(did you mean e_recall@1\?\); they have: e_recall@1\."),
        ({"split": "Val"}, "No run has any metric of the split Val"),
        ({"value": "at_best_val"}, "No run has the value at_best_val, .* validation split"),
    ],
)
def test_what_no_run_has_is_a_sentence(tmp_path, arguments, message):
    make_run(tmp_path, "base", 0)
    with pytest.raises(UserError, match=message):
        of(tmp_path, **arguments)


def test_nothing_finished_is_a_sentence(tmp_path):
    unfinished(make_run(tmp_path, "a", 0))
    with pytest.raises(UserError, match=r"no finished run to compare.*a_s0: not finished"):
        of(tmp_path)


def test_settings_that_differ_are_those_that_matter(tmp_path):
    make_run(tmp_path, "a", 0, kernels=1, source_path="/one", language_model="minilm")
    guided = {"language_distill_w": 7.5, "language_pseudoclass": True}
    make_run(tmp_path, "b", 0, kernels=2, source_path="/two", **guided)
    make_run(tmp_path, "c", 0, **guided, language_model="minilm", language_primer="a {} of {}")
    compared = of(tmp_path, "a")
    assert [settings.as_flags(group.settings) for group in compared.groups] == [
        "--language_distill_w 0",
        "--language_distill_w 7.5  --language_model clip  --language_primer 'a photo of a {}'  "
        "--language_pseudoclass",
        "--language_distill_w 7.5  --language_model minilm  --language_primer 'a {} of {}'  "
        "--language_pseudoclass",
    ]
    assert not compared.warnings


def test_runs_of_a_group_that_differ_in_more_than_the_seed_are_doubtful(tmp_path):
    for seed, rate in enumerate((0.1, 0.1, 0.2)):
        make_run(tmp_path, "a", seed, lr=rate, save_path=f"/{seed}", gpu=[seed])
    make_run(tmp_path, "b", 0, lr=0.1, evaluation_metrics=["nmi"])
    make_run(tmp_path, "b", 1, lr=0.1, kernels=3)
    compared = of(tmp_path)
    (warning,) = compared.warnings
    assert "shapes/a averages runs" in warning and "--lr 0.1 (seeds 0, 1), 0.2 (seed 2)" in warning
    assert compared.groups[0].settings == {"lr": "0.1 or 0.2"}


def test_other_data_is_doubtful(tmp_path):
    fewer = COUNTS | {"Test": {"classes": 64, "images": 10}}
    make_run(tmp_path, "base", 0)
    make_run(tmp_path, "base", 1)
    make_run(tmp_path, "same", 0)
    make_run(tmp_path, "same", 1, facts={"data": None})  # of before it was recorded
    make_run(tmp_path, "other", 0, facts={"data": fewer})
    make_run(tmp_path, "mixed", 5)
    make_run(tmp_path, "mixed", 6, facts={"data": fewer})
    warnings = of(tmp_path, "base").warnings
    assert len(warnings) == 2
    assert said(
        warnings,
        "shapes/other ran on other data than the baseline: seed 0",
        "Test 64 classes, 10 images, there 64 classes, 1,920 images",
    )
    assert said(warnings, "shapes/mixed averages runs of other data: seed 6")
    assert len(of(tmp_path).warnings) == 1


@pytest.mark.parametrize(
    "checkpoints, doubt",
    [
        (["a_s0/checkpoint_last.pth.tar", "a_s1", "/runs/a_s2/"], ""),
        (["of_s0.pth.tar", "of_s1.pth.tar", "of_s2.pth.tar"], ""),
        (
            ["a_s0", "a_s1/checkpoint_Test_embeds_e_recall@1.pth.tar", "a_s2"],
            "checkpoint_last.pth.tar (seeds 0, 2), checkpoint_Test_embeds_e_recall@1.pth.tar "
            "(seed 1).",
        ),
    ],
)
def test_evaluations_of_different_checkpoints_are_doubtful(tmp_path, checkpoints, doubt):
    for seed, checkpoint in enumerate(checkpoints):
        make_run(tmp_path, "a", seed, facts={"checkpoint": checkpoint})
    warnings = of(tmp_path, evaluations=True).warnings
    begin = "shapes/a_evaluation averages evaluations of different checkpoints: "
    assert warnings == ([begin + doubt] if doubt else [])


def test_a_last_value_of_an_earlier_epoch_is_doubtful(tmp_path):
    """As of a run that was resumed without the metric."""
    curves = {R1: [0.1, 0.2, 0.3], MAP: [0.4, 0.5]}
    make_run(tmp_path, "a", 0, curves)
    make_run(tmp_path, "a", 1, {R1: [0.1, 0.2], MAP: [0.4, 0.5]})
    (doubt,) = [each for each in of(tmp_path).warnings if "the last" in each]
    assert doubt == "shapes/a: the last mAP_1000 is of epoch 2 of 3 (seed 0)."


@pytest.mark.parametrize("flags", [{"language_model": "minilm"}, {"language_primer": ["{}"]}])
def test_metrics_that_read_other_texts_than_the_baseline_are_doubtful(tmp_path, flags):
    metric = "semantic_consistency"
    curves = {R1: [0.5], f"embeds_{metric}: {metric}": [0.5]}
    evaluated = {"evaluation_metrics": ["e_recall@1", metric]}
    make_run(tmp_path, "base", 0, curves, **evaluated)
    make_run(tmp_path, "guided", 0, curves, language_distill_w=1.0, **evaluated)
    make_run(tmp_path, "other", 0, curves, **evaluated, **flags)
    make_run(tmp_path, "other", 1, curves, **evaluated)
    make_run(tmp_path, "without", 0, **flags)
    (doubt,) = of(tmp_path, "base", [metric]).warnings[1:]
    (name,) = flags
    assert doubt.startswith(f"shapes/other measures {metric} by other texts than the baseline: ")
    assert f"--{name} " in doubt and "guided" not in doubt
    assert not said(of(tmp_path, "base", ["e_recall@1"]).warnings, "by other texts")


def test_settings_passed_over_are_flags():
    assert set(settings.PASSED_OVER) <= parameters.BY_NAME.keys()


def test_settings_of_before_have_defaults_and_lost_flags_are_passed_over():
    defaults = settings.effective({})
    assert settings.effective({"no_such_flag": 3, "seed": 7}) == defaults
    assert settings.effective({"lr": 1}) == {**defaults, "lr": [1.0]}
    assert "source_path" not in defaults and "seed" not in defaults
    assert "source_path" in settings.effective({"dataset": "folder"})
