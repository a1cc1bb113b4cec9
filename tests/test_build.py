"""From settings to parts: what a person is told while they are built."""

from typing import cast

import numpy as np
import pytest
import small_learner
import torch
from torch import nn

import build
import criteria
import parameters
from datasampler import BatchSampler
from datasets import ImageSplit, Splits
from language_guidance import Guidance
from utilities.errors import UserError
from utilities.runtime import Runtime


def settings(*flags: str) -> parameters.Settings:
    return parameters.parse([*flags, "--not_pretrained", "--image_size", "32", "--embed_dim", "8"])


@pytest.mark.parametrize(
    "arch, is_told",
    [("test_vit_frozen", True), ("test_vit", False), ("test_resnet_frozen_normalize", False)],
)
def test_frozen_without_batchnorm_is_told(caplog, arch, is_told):
    opt = settings("--arch", arch)
    with caplog.at_level("INFO"):
        build.build_network(opt, Runtime(), load_weights=True)
    assert (f"--arch {arch}: _frozen has no effect" in caplog.text) == is_told


@pytest.mark.parametrize(
    "flags, is_folded",
    [
        ("test_resnet_frozen", True),
        ("test_resnet_frozen --compile", False),
        ("test_resnet", False),
    ],
)
def test_frozen_norms_are_folded_unless_compiled(flags, is_folded):
    network, _ = build.build_network(
        settings("--arch", *flags.split()), Runtime(), load_weights=False
    )
    kinds = {type(norm).__name__.startswith("Folded") for norm in network.batch_norms()}
    assert kinds == {is_folded}


def test_gradients_of_norms_are_seen_to_on_a_cpu():
    """`architectures.norm_gradients` says what is wrong with them otherwise."""
    network, _ = build.build_network(
        settings("--arch", "test_resnet"), Runtime(), load_weights=False
    )
    norm = network.batch_norms()[0]
    maps = torch.randn(1, norm.num_features, 5, 4, requires_grad=True)
    towards = torch.randn(5, 4, 1, norm.num_features).permute(2, 3, 0, 1)
    by_layout = [
        torch.autograd.grad(norm(maps), maps, gradient)[0]
        for gradient in (towards, towards.contiguous())
    ]
    torch.testing.assert_close(*by_layout)


@pytest.mark.parametrize(
    "flags, told",
    [
        ("test_resnet --freeze_until conv1", "has no effect: nothing is before it"),
        ("test_vit --freeze_until norm --lora_rank 2", "no adapter is behind it; only the head"),
        ("test_vit --freeze_until norm", ""),
        ("test_vit --freeze_until blocks.3 --lora_rank 2", ""),
    ],
)
def test_a_stage_that_leaves_nothing_to_freeze_or_to_learn_is_told(caplog, flags, told):
    opt = settings("--arch", *flags.split())
    with caplog.at_level("INFO"):
        build.build_network(opt, Runtime(), load_weights=True)
    assert (told in caplog.text) if told else ("--freeze_until" not in caplog.text)


@pytest.mark.parametrize(
    "each, sampler, is_told",
    [("8", "class_random", False), ("9", "class_random", True), ("9", "random", False)],
)
def test_classes_too_small_for_a_batch_are_told(photos, caplog, each, sampler, is_told):
    """Three classes of eight images train."""
    place = ["--dataset", "birds", "--source_path", str(photos), "--data_sampler", sampler]
    with caplog.at_level("INFO"):
        build.build_data(settings(*place, "--samples_per_class", each, "--bs", each))
    assert ("than a batch draws of each (9): 3 of 3; their images" in caplog.text) == is_told


TWO = Runtime(world_size=2)


@pytest.mark.parametrize(
    "flags, runtime, size",
    [
        ([], Runtime(), 7),
        (["--micro_batch", "3"], Runtime(), 3),
        ([], TWO, 4),
        (["--micro_batch", "3"], TWO, 3),
        (["--micro_batch", "5"], TWO, 4),
    ],
)
def test_evaluation_passes_no_more_images_at_a_time_than_training(photos, flags, runtime, size):
    place = ["--dataset", "birds", "--source_path", str(photos), "--kernels", "0"]
    opt = settings(*place, "--bs", "7", "--samples_per_class", "1", *flags)
    splits, _ = build.build_splits(opt)
    _, transform = build.build_network(opt, runtime, load_weights=True)
    images = splits.testing.with_transform(transform.evaluation)
    assert len(next(iter(build.in_order(opt, images, runtime))).labels) == size


@pytest.mark.parametrize(
    "micro_batch, runtime, is_told",
    [(3, TWO, False), (4, TWO, True), (6, TWO, True), (7, TWO, False), (6, Runtime(), False)],
)
def test_a_micro_batch_that_no_process_divides_by_is_told(caplog, micro_batch, runtime, is_told):
    with caplog.at_level("INFO"):
        opt = settings("--bs", "7", "--samples_per_class", "1", "--micro_batch", str(micro_batch))
        build._tell_of_idle_micro_batch(opt, runtime)
    assert ("of a batch each process has 4 images at most" in caplog.text) == is_told


@pytest.mark.parametrize(
    "arch, is_told",
    [
        ("test_resnet_normalize", True),
        ("test_resnet_frozen_normalize", False),
        ("test_resnet_normalize --freeze_until layer4", True),
        ("test_maxvit --lora_rank 2", False),
        ("test_vit", False),
    ],
)
def test_norms_of_several_processes_are_told(caplog, arch, is_told):
    with caplog.at_level("INFO"):
        build.build_network(settings("--arch", *arch.split()), TWO, load_weights=True)
    arch = arch.split()[0]
    assert (f"The BatchNorms of --arch {arch} normalise by the images" in caplog.text) == is_told


@pytest.mark.parametrize(
    "arch, micro_batch, runtime, is_told",
    [
        ("test_resnet_normalize", 3, Runtime(), True),
        ("test_resnet_normalize", 3, TWO, True),
        ("test_resnet_normalize", 4, TWO, False),
        ("test_resnet_normalize", 0, Runtime(), False),
        ("test_resnet_frozen_normalize", 3, Runtime(), False),
        ("test_vit", 3, Runtime(), False),
    ],
)
def test_norms_of_a_batch_in_chunks_are_told(caplog, arch, micro_batch, runtime, is_told):
    chunks = ["--bs", "8", "--micro_batch", str(micro_batch)]
    with caplog.at_level("INFO"):
        build.build_network(settings("--arch", arch, *chunks), runtime, load_weights=True)
    assert ("normalise by --micro_batch 3 images" in caplog.text) == is_told


def test_norms_are_not_synchronised_on_the_cpu(caplog):
    opt = settings("--arch", "test_resnet_normalize", "--sync_bn")
    with pytest.raises(UserError, match="--sync_bn: torch has no BatchNorm"):
        build.build_network(opt, TWO, load_weights=True)
    with caplog.at_level("INFO"):
        build.build_network(opt, Runtime(), load_weights=True)
    assert "--sync_bn has no effect, because a process by itself" in caplog.text


def learning(*flags: str):
    """Parameter groups of the optimiser, by name, and the network and objective that they are of.

    Of four classes.
    """
    opt = settings("--arch", "test_resnet_normalize", *flags)
    names = ["a", "b", "c", "d"]
    training = ImageSplit(names, np.arange(4), names)
    data = build.Data(Splits(training, None, training), cast(BatchSampler, None), {})
    network, _ = build.build_network(opt, Runtime(), load_weights=True)
    criterion = build.build_criterion(opt, data, network, Runtime())
    groups = build.build_parameter_groups(opt, network, criterion)
    assert len({group["name"] for group in groups}) == len(groups)
    return {group["name"]: group for group in groups}, network, criterion


@pytest.mark.parametrize("name", criteria.REGISTRY)
def test_decay_is_of_the_network_alone_as_in_the_papers_code(name):
    """The paper's optimiser gives its decay to the network; groups of the objective have none."""
    miner = (criteria.REGISTRY[name].MINERS or ("distance",))[0]
    groups, network, criterion = learning("--loss", name, "--batch_mining", miner)
    decays = {
        parameter: group["weight_decay"]
        for group in groups.values()
        for parameter in group["params"]
    }
    assert decays == dict.fromkeys(network.parameters(), 4e-4) | dict.fromkeys(
        criterion.parameters(), 0
    )
    assert bool(list(criterion.parameters())) == (name in parameters.LEARNING)
    of_network = [group["lr"] for group in groups.values()][:2]
    assert of_network == [1e-5, 1e-5]
    rates = [group["lr"] for group in criterion.parameter_groups(1e-5)]
    assert [group["lr"] for group in groups.values()][2:] == rates


def test_groups_are_named_and_follow_their_flags():
    flags = ["--lr", "0.1", "--fc_lr", "0.2", "--decay", "0.3", "--criterion_decay", "0.4"]
    composite = ["--loss", "s2sd", "--loss_s2sd_target", "margin", "--loss_s2sd_target_dims", "4"]
    groups, *_ = learning(*flags, *composite)
    assert {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()} == {
        "trunk": (0.1, 0.3),
        "head": (0.2, 0.3),
        "s2sd target_nets": (0.1, 0.4),
        "s2sd targets.0.beta": (0.0005, 0.4),
    }


def test_weights_are_those_of_network_objective_and_guide():
    made = small_learner.learner()
    guide = cast(nn.Module, made.guide)
    guide.map = nn.Linear(3, 2, bias=False)
    made.optimizer.add_param_group({"params": list(guide.parameters()), "name": "guidance map"})
    of_network, centre = 12 * 6 + 6 + 6 * 3 + 3, 3
    number = of_network + centre + 3 * 2
    assert build.count_weights(made) == {"all": number, "trainable": number}


@pytest.mark.parametrize("decay, moves", [("0", False), ("0.0004", True)])
def test_the_margins_of_classes_that_nothing_moves_stay(decay, moves):
    groups, _, criterion = learning("--loss", "margin", "--criterion_decay", decay)
    optimizer = torch.optim.Adam(list(groups.values()))
    for _ in range(5):
        criterion.beta.grad = torch.zeros_like(criterion.beta)
        optimizer.step()
    assert bool((criterion.beta < 1.2 - 1e-4).all()) == moves
    assert moves or torch.equal(criterion.beta.detach(), torch.full((4,), 1.2))


@pytest.mark.parametrize(
    "name, is_told", [("ContrastiveLoss", True), ("SoftTripleLoss", False), ("margin", False)]
)
def test_rates_of_an_objective_that_learns_nothing_are_told(caplog, name, is_told):
    loss = name if name == "margin" else f"pml:{name}"
    with caplog.at_level("INFO"):
        learning("--loss", loss, "--loss_pml_lr", "0.1", "--criterion_decay", "0.2")
    for said in ("--loss_pml_lr 0.1", "--criterion_decay 0.2"):
        assert (f"{said} has no effect, because --loss {loss} has no" in caplog.text) == is_told


@pytest.mark.parametrize(
    "flags, said",
    [
        ("", ""),
        ("--language_delay 1", ""),
        ("--language_delay 30", " (from iteration 30)"),
        ("--language_rise 20", " (rising over 20)"),
        ("--language_half_life 9", " (halved every 9)"),
        (
            "--language_delay 30 --language_rise 20 --language_half_life 9",
            " (from iteration 30, rising over 20, halved every 9)",
        ),
    ],
    ids=["constant", "at-once", "delay", "rise", "half-life", "all"],
)
def test_the_schedule_of_guidance_is_told(flags, said):
    opt = settings("--language_distill_w", "7.5", "--language_control", "onehot", *flags.split())
    told = build._guidance_summary(opt, cast(ImageSplit, None), cast(Guidance, None))
    assert told == {"guidance": f"7.5 x backward{said} from no texts, control onehot"}
