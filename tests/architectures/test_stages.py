"""Layers and stages of a trunk: rates by layer, and what stays as it is before a stage."""

import pytest
import timm
import torch
from small_networks import untrained
from timm.optim import param_groups_layer_decay
from torch import nn

import architectures
from architectures import stages
from utilities.errors import UserError

TRUNKS = ["test_resnet", "test_vit", "test_efficientnet"]


def network(arch: str) -> architectures.EmbeddingNetwork:
    return untrained(arch, embed_dim=4)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_rates_by_layer_are_timms(trunk):
    model = network(trunk)
    *layers, head = model.parameter_groups(0.1, 0.3, layer_decay=0.5)
    assert head["lr"] == 0.3 and [group["name"] for group in layers] == [
        f"trunk layer {number} of {len(layers)}" for number in range(1, len(layers) + 1)
    ]
    found = {part: group["lr"] for group in layers for part in group["params"]}
    expected = {
        part: 0.1 * group["lr_scale"]
        for group in param_groups_layer_decay(model.trunk, layer_decay=0.5)
        for part in group["params"]
    }
    assert found == pytest.approx(expected)
    rates = [group["lr"] for group in layers]
    assert rates == sorted(rates) and rates[-1] == 0.1


def test_a_trunk_whose_layers_are_not_known_is_a_sentence():
    with pytest.raises(UserError, match="--layer_decay: timm does not know the layers of Linear"):
        stages.layer_groups(nn.Linear(2, 2), [], 0.1, 0.5)


@pytest.mark.parametrize(
    "trunk, stage, last_frozen, first_learning",
    [
        ("test_resnet", "layer3", "layer2.0.", "layer3.0.conv1.weight"),
        ("test_efficientnet", "blocks.2", "blocks.1.", "blocks.2.0."),
        ("test_vit", "blocks.3", "blocks.2.mlp", "blocks.3.norm1.weight"),
    ],
)
def test_what_is_before_a_stage_does_not_learn(trunk, stage, last_frozen, first_learning):
    model = network(trunk)
    model.freeze_until(stage)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    for enabled in (False, True):  # a warm-up, and what follows
        model.train()
        model.train_trunk(enabled)
        model(torch.randn(4, 3, 32, 32)).embeddings.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    same = [
        name
        for name, value in model.trunk.state_dict().items()
        if torch.equal(value, before[f"trunk.{name}"])
    ]
    names = [name for name, _ in model.trunk.named_parameters()]
    frozen = next(place for place, name in enumerate(names) if name.startswith(first_learning))
    assert set(names[:frozen]) <= set(same) and names[frozen] not in same
    assert names[frozen - 1].startswith(last_frozen)
    known = list(model.trunk.state_dict())
    first = next(place for place, name in enumerate(known) if name.startswith(f"{stage}."))
    assert set(known[:first]) <= set(same)  # statistics of BatchNorm too


def test_a_wrong_stage_lists_all():
    with pytest.raises(
        UserError, match="layer9 is no stage.*did you mean.*it has conv1, .*bn1, layer1"
    ):
        network("test_resnet").freeze_until("layer9")
    trunk = timm.create_model("test_vit", num_classes=0)
    assert stages.names(trunk)[:3] == ["patch_embed", "blocks", "blocks.0"]


@pytest.mark.parametrize("trunk", ["resnet50d", "densenet121", "vgg11", "nfnet_l0"])
def test_each_listed_stage_can_be_frozen_to_in_order(trunk):
    """Members of lists have names or numbers, and some have no weights."""
    with torch.device("meta"):
        model = timm.create_model(trunk, num_classes=0)
    counts = [len(stages.before(model, stage)) for stage in stages.names(model)]
    assert counts == sorted(counts) and counts[0] == 0 < counts[-1]


def test_stages_of_flat_trunks_are_their_blocks():
    model = network("bninception").trunk
    names = stages.names(model)
    assert names[:3] == ["conv1", "conv2", "inception_3a"] and names[-1] == "inception_5b"
    fixed = stages.before(model, "inception_3a")
    assert {"conv2_3x3.weight", "conv2_3x3_bn"} <= fixed
    assert all(name.startswith(("conv1_", "conv2_")) for name in fixed)


@pytest.mark.parametrize(
    "trunk", ["twins_pcpvt_small", "coat_lite_tiny", "hrnet_w18_small", "resnet50d", "test_vit"]
)
def test_before_a_stage_is_what_an_image_passes_before_it(trunk):
    """Also in a trunk that names all patch embeddings before all blocks."""
    with torch.device("meta"):
        model = timm.create_model(trunk, num_classes=0).eval()
        image = torch.zeros(1, *model.pretrained_cfg["input_size"])
    order = stages.passed(model, lambda: model.forward_head(model.forward_features(image)))
    owners = {name.rpartition(".")[0] for name, _ in model.named_parameters()} & {*order}
    assert len(owners) > 10
    for stage in stages.names(model):
        fixed = {name.rpartition(".")[0] for name in stages.before(model, stage, order)}
        first = next(
            place for place, name in enumerate(order) if f"{name}.".startswith(f"{stage}.")
        )
        assert fixed & owners == {name for name in order[:first] if name in owners}


def test_a_network_knows_the_order_of_its_trunk():
    model = network("twins_pcpvt_small")
    model.freeze_until("patch_embeds.1")
    learned = [name for name, part in model.trunk.named_parameters() if part.requires_grad]
    assert not any(name.startswith(("patch_embeds.0.", "blocks.0.")) for name in learned)
    assert {name for name in learned if name.startswith(("patch_embeds.1.", "blocks.1."))}
    model.freeze_until("blocks.1")
    assert model.trunk.patch_embeds[2].proj.weight.requires_grad
    assert not model.trunk.patch_embeds[1].proj.weight.requires_grad
