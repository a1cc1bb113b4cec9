"""Frozen BatchNorm as part of the convolution before it."""

import copy

import pytest
import torch
from small_networks import untrained
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn

import architectures
from architectures import folded_norms

SIZE = 32
# All kinds of neighbours: residual, separable, concatenated, before the convolution, in branches.
TRUNKS = {
    "test_resnet": "all",
    "test_efficientnet": "all",
    "tf_efficientnet_lite0": "all",
    "legacy_seresnet18": "all",
    "regnetx_002": "all",
    "bninception": "all",
    "googlenet": "all",
    "mixnet_s": "some",
    "resnetv2_18": "some",
    "repvgg_a0": "some",
}


def frozen(trunk: str) -> architectures.EmbeddingNetwork:
    torch.manual_seed(0)
    network = untrained(f"{trunk}_frozen_normalize", image_size=SIZE)
    for norm in network.batch_norms():
        assert isinstance(norm, nn.BatchNorm2d)
        draw(norm)
    return network


def draw(norm: nn.BatchNorm2d) -> None:
    """Statistics and weights as a trained network has them."""
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.normal_(0, 0.1)
    norm.running_var.uniform_(0.5, 1.5)
    nn.init.uniform_(norm.weight, 0.5, 1.2)
    nn.init.normal_(norm.bias, 0, 0.1)


def is_folded(module: nn.Module) -> bool:
    return type(module) in folded_norms.FOLDED.values()


def results(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """What the network gives, and the gradients of all its weights."""
    torch.manual_seed(1)
    output = network(images)
    loss = sum((part**2 * torch.arange(part.numel()).view_as(part).cos()).sum() for part in output)
    network.zero_grad()
    loss.backward()
    learned = [weights.grad for weights in network.parameters() if weights.grad is not None]
    return [*(part.detach() for part in output), *map(torch.clone, learned)]


def assert_same(network: nn.Module, other: nn.Module, images: torch.Tensor) -> None:
    for one, two in zip(results(network, images), results(other, images), strict=True):
        assert one.shape == two.shape
        assert (one - two).norm().item() <= 1e-9 * max(1.0, one.norm().item())


@pytest.mark.parametrize("trunk", TRUNKS)
def test_the_function_and_all_gradients_stay(trunk):
    network = frozen(trunk)
    folded = copy.deepcopy(network)
    folded.fold_norms(SIZE)
    count = sum(map(is_folded, folded.batch_norms()))
    if TRUNKS[trunk] == "all":
        assert count == len(network.batch_norms())
    else:
        assert 0 < count < len(network.batch_norms())
    assert list(folded.state_dict()) == list(network.state_dict())
    images = torch.rand(2, 3, SIZE, SIZE, dtype=torch.float64)
    assert_same(network.double(), folded.double(), images)
    assert_same(network.eval(), folded.eval(), images)


def test_nothing_is_drawn():
    """A trunk with dropout draws in training mode; what is drawn next would depend on folding."""
    network = frozen("legacy_seresnet18")
    before = torch.get_rng_state()
    network.fold_norms(SIZE)
    assert network.folded and torch.equal(torch.get_rng_state(), before)


def test_a_copy_applies_its_own_norms():
    network = frozen("test_resnet")
    network.fold_norms(SIZE)
    other = copy.deepcopy(network)
    images = torch.rand(2, 3, SIZE, SIZE)
    before = network(images).embeddings
    for norm in other.batch_norms():
        nn.init.zeros_(norm.weight)
    assert torch.equal(network(images).embeddings, before)
    assert not torch.allclose(other(images).embeddings, before)


def test_less_is_kept_for_the_backward_pass():
    network = frozen("test_resnet")
    images = torch.rand(4, 3, SIZE, SIZE)
    plain = kept_bytes(network, images)
    network.fold_norms(SIZE)
    assert kept_bytes(network, images) < 0.62 * plain


def kept_bytes(network: nn.Module, images: torch.Tensor) -> int:
    """Of the maps that autograd keeps, each once."""
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim == 4 and len(tensor) == len(images):
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(images)
    return sum(tensor.nbytes for tensor in kept.values())


class Small(nn.Module):
    """A convolution and a norm that are put together in some way."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module, way: str = "plain"):
        super().__init__()
        self.conv, self.norm, self.way = conv, norm, way
        self.folded: list[folded_norms.Pair] = []

    def forward(self, images):
        with folded_norms.applied(self.folded):
            return self.output(images)

    def output(self, images):
        maps = self.conv(images)
        if self.way == "both called twice":
            return [self.norm(maps) + self.norm(self.conv(maps))]
        if self.way == "norm called twice":
            return [self.norm(self.norm(maps))]
        if self.way == "map read beside it":
            return [self.norm(maps) + maps]
        if self.way == "map given as well":
            return [self.norm(maps), maps]
        if self.way == "between them":
            return [self.norm(maps.relu())]
        return [self.norm(maps)]


def small(way: str = "plain", **options) -> Small:
    norm = nn.BatchNorm2d(3, **options)
    return Small(nn.Conv2d(3, 3, 3, padding=1), norm, way).eval()


@pytest.mark.parametrize(
    "way",
    [
        "both called twice",
        "norm called twice",
        "map read beside it",
        "map given as well",
        "between them",
    ],
)
def test_what_others_read_stays(way):
    network = small(way)
    folded_norms.fold(network, torch.zeros(1, 3, 8, 8))
    assert not any(map(is_folded, network.modules()))


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_norms_without_weights_or_statistics_stay(options):
    network = small(**options)
    folded_norms.fold(network, torch.zeros(1, 3, 8, 8))
    assert not any(map(is_folded, network.modules()))


def test_norms_that_learn_their_statistics_stay():
    network = small().train()
    folded_norms.fold(network, torch.zeros(2, 3, 8, 8))
    assert not any(map(is_folded, network.modules()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, BatchNormAct2d])
def test_every_kind_of_layers(kind, norm, bias):
    torch.manual_seed(0)
    network = Small(kind(3, 4, 3, stride=2, bias=bias), norm(4)).double().eval()
    draw(network.norm)
    folded = copy.deepcopy(network)
    folded.folded = folded_norms.fold(folded, torch.zeros(1, 3, 9, 9, dtype=torch.float64))
    assert is_folded(folded.conv) and is_folded(folded.norm)
    assert_same(network, folded, torch.randn(2, 3, 9, 9, dtype=torch.float64))


def test_weights_that_do_not_learn_are_folded_too():
    network = small().requires_grad_(False)
    network.folded = folded_norms.fold(network, torch.zeros(1, 3, 8, 8))
    assert is_folded(network.conv)
    [maps] = network(torch.zeros(1, 3, 8, 8))
    assert not maps.requires_grad


def test_what_does_not_learn_is_not_differentiated():
    """Before a stage that begins to learn, no backward pass is made."""
    network = frozen("test_resnet")
    network.freeze_until("layer2")
    network.fold_norms(SIZE)
    with folded_norms.applied(network.folded):
        learns = {
            name: module.applied.weight.requires_grad
            for name, module in network.trunk.named_modules()
            if isinstance(module, folded_norms.FoldedConv2d)
        }
    assert any(learns.values())
    for name, is_learned in learns.items():
        assert is_learned == name.startswith(("layer2", "layer3", "layer4"))


def test_weights_of_before_are_not_kept():
    network = small()
    network.folded = folded_norms.fold(network, torch.zeros(1, 3, 8, 8))
    with pytest.raises(AttributeError, match="applied"):
        network.conv(torch.zeros(1, 3, 8, 8))


def test_a_network_without_norms_is_not_followed():
    network = frozen("test_vit")
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    network.fold_norms(SIZE)
    assert not calls and not network.folded


def test_a_failure_keeps_no_weights(monkeypatch):
    """Neither one within the network nor one in between: of the weights of fixed layers."""
    network, apply = frozen("test_resnet"), folded_norms._applied
    network.freeze_until("layer2")
    network.fold_norms(SIZE)
    images = torch.zeros(1, 3, SIZE, SIZE)

    def fail(*ignored: object) -> None:
        raise torch.OutOfMemoryError

    def fail_for_fixed(pairs: list[folded_norms.Pair]) -> list[folded_norms.Applied]:
        if not pairs[0].learns():
            fail()
        return apply(pairs)

    before = network(images).embeddings
    hook = network.trunk.layer3.register_forward_pre_hook(fail)
    require_failure(network, images)
    hook.remove()
    monkeypatch.setattr(folded_norms, "_applied", fail_for_fixed)
    require_failure(network, images)
    monkeypatch.undo()
    assert torch.equal(network(images).embeddings, before)


def require_failure(network: nn.Module, images: torch.Tensor) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        network(images)
    assert not [module for module in network.modules() if "applied" in vars(module)]


def test_only_frozen_networks_are_folded():
    network = untrained("test_resnet", image_size=SIZE)
    network.fold_norms(SIZE)
    assert not any(map(is_folded, network.modules()))
