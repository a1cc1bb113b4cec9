"""Low-rank adapters: what learns, what it is equal to when merged, and what cannot have them."""

import sys

import pytest
import timm
import torch
from small_networks import untrained
from torch import nn

import architectures
from architectures import LowRank, clip_tower, low_rank
from utilities.errors import UserError

ADAPTERS = LowRank(rank=3, alpha=6)


def network(arch: str, adapters: LowRank | None = ADAPTERS, size: int = 32):
    torch.manual_seed(0)
    return untrained(arch, image_size=size, adapters=adapters)


def images(size: int = 32, count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def learn(model: architectures.EmbeddingNetwork, steps: int = 3) -> None:
    """Steps of all that its groups hold."""
    optimizer = torch.optim.AdamW(model.parameter_groups(0.01, 0.01), weight_decay=0.1)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(images()).embeddings.square().mean().backward()
        optimizer.step()


# Attention in one layer, convolutions between linear layers with BatchNorm, channels last.
TRUNKS = ["test_vit", "mobilevit_xxs", "test_convnext"]


@pytest.mark.parametrize("arch", TRUNKS)
def test_nothing_of_the_trunk_but_adapters_changes(arch):
    model = network(arch)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learn(model)
    changed = {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    trained = {f"trunk.{name}" for name, _ in model.trunk.named_parameters() if "lora_" in name}
    assert changed == trained | {"head.weight", "head.bias"} and trained


def test_a_new_network_is_the_one_without_adapters():
    plain = network("test_vit", None).eval()
    adapted = network("test_vit").eval()
    adapted.head.load_state_dict(plain.head.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(
            adapted(images()).features, plain(images()).features, rtol=0, atol=0
        )


@pytest.mark.parametrize("arch", ["test_vit_double_normalize", "test_convnext"])
def test_merged_it_is_the_same_function_with_the_names_of_the_plain_trunk(arch):
    model = network(arch)
    learn(model)
    model.eval()
    with torch.inference_mode():
        expected = model(images())
        model.merge_adapters()
        found = model(images())
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    plain = network(arch, None)
    assert model.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(model.state_dict())
    with torch.inference_mode():
        assert torch.equal(plain.eval()(images()).embeddings, found.embeddings)
    assert all(weights.requires_grad for weights in model.parameters())


def test_the_rank_and_the_scale():
    model = network("test_vit")
    name, layer = next(
        (name, part) for name, part in model.trunk.named_modules() if hasattr(part, "lora_A")
    )
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    nn.init.normal_(up)
    assert down.shape[0] == up.shape[1] == 3
    expected = layer.base_layer.weight + 6 / 3 * up @ down
    model.merge_adapters()
    torch.testing.assert_close(model.trunk.get_submodule(name).weight, expected)


def test_groups_and_warm_up_hold_adapters_alone():
    model = network("test_vit")
    adapters, head = (group["params"] for group in model.parameter_groups(0.1, 0.2))
    every = {id(weights) for weights in low_rank.learned(model.trunk)}
    assert {id(weights) for weights in adapters} == every
    assert sum(weights.numel() for weights in adapters) < 0.2 * sum(
        weights.numel() for weights in model.trunk.parameters()
    )
    for enabled in (False, True):
        model.train_trunk(enabled)
        learning = {id(weights) for weights in model.parameters() if weights.requires_grad}
        assert learning == {id(weights) for weights in head} | (every if enabled else set())


def test_attention_of_torch_is_adapted_too():
    """open_clip's blocks read its projections as tensors."""
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    tokens = torch.randn(2, 5, 32)
    expected = plain(tokens, tokens, tokens, need_weights=False)[0]
    found = low_rank.Attention(plain)(tokens, tokens, tokens)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("pool", "width"), [(True, 8), (True, 16), ("parallel", 16), ("cascade", 16)]
)
def test_pooling_by_attention_stays_as_it_is(pool, width):
    """Its queries are not the tokens of the image, whose width they may share."""
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "heads": 2}
    pooling = {"attentional_pool": pool, "attn_pooler_queries": 4, "attn_pooler_heads": 2}
    tower = VisionTransformer(mlp_ratio=2, output_dim=width, **sizes, **pooling)
    trunk = clip_tower.TransformerTower(tower, projected=True).eval()
    with torch.inference_mode():
        expected = trunk.forward_head(trunk.forward_features(images()))
        low_rank.insert(trunk, ADAPTERS, "clip:tiny", 32)
        found = trunk.forward_head(trunk.forward_features(images()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    adapted = {name for name, part in trunk.named_modules() if hasattr(part, "lora_A")}
    assert any("attn.qkv" in name for name in adapted)


def test_layers_of_which_a_trunk_reads_the_weights_have_none():
    """Beside them an adapter would have no effect before it is merged."""
    sizes = {"depth": 1, "embed_dim": 32, "num_heads": 2, "img_size": 32}
    trunk = timm.create_model("beit_base_patch16_224", num_classes=0, **sizes)
    low_rank.insert(trunk, ADAPTERS, "beit", 32)
    adapted = {name for name, part in trunk.named_modules() if hasattr(part, "lora_A")}
    assert adapted == {"blocks.0.attn.proj", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2"}


@pytest.mark.parametrize("arch", ["test_resnet", "bninception"])
def test_a_trunk_without_linear_layers_is_a_sentence(arch):
    with pytest.raises(UserError, match=f"--lora_rank 3: the trunk of --arch {arch} has no linear"):
        network(arch)


def test_without_the_package_a_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match="--lora_rank needs the package peft .*pip install peft"):
        network("test_vit")


def test_of_an_adapted_trunk_the_last_layer_with_adapters_has_the_whole_rate():
    model = network("test_vit")
    *layers, _ = model.parameter_groups(0.1, 0.3, layer_decay=0.5)
    found = [part for group in layers for part in group["params"]]
    assert {*map(id, found)} == {*map(id, model.learned_of_trunk())}
    assert [group["lr"] for group in layers] == [0.1 * 0.5**depth for depth in (5, 4, 3, 2, 1, 0)]
    assert layers[-1]["name"] == "trunk's adapters layer 6 of 6"
