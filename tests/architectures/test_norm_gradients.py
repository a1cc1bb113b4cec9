import copy
import itertools

import pytest
import torch
from torch import nn

from architectures import norm_gradients
from tests.small_networks import untrained

LAYOUTS = list(itertools.permutations(range(4)))


def laid_out(maps: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """The same values, with the dimensions in memory in an order."""
    return maps.permute(order).contiguous().permute([order.index(axis) for axis in range(4)])


def gradients(norm: nn.Module, maps: torch.Tensor, towards: torch.Tensor) -> list[torch.Tensor]:
    maps = maps.detach().requires_grad_()
    return list(torch.autograd.grad(norm(maps), [maps, *norm.parameters()], towards))


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("shape", [(1, 6, 5, 4), (3, 6, 1, 4), (3, 6, 5, 1), (3, 6, 5, 4)])
def test_a_gradient_of_any_layout_is_that_of_the_same_values(
    shape: tuple[int, ...], learns: bool
) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(shape[1]).double().train(learns)
    plain = copy.deepcopy(norm)
    norm_gradients.see_to([norm])
    maps = torch.randn(shape, dtype=torch.float64)
    towards = torch.randn(shape, dtype=torch.float64)
    expected = gradients(plain, maps, towards)
    for of_maps, of_gradient in itertools.product(LAYOUTS, LAYOUTS):
        found = gradients(norm, laid_out(maps, of_maps), laid_out(towards, of_gradient))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12, check_stride=False)


@pytest.mark.parametrize("arch", ["levit_128s", "efficientformer_l1"])
def test_one_image_has_the_gradients_that_it_has_beside_another(arch: str) -> None:
    """Frozen norms: what another image adds to the weights' gradients is then its own."""
    network = untrained(f"{arch}_frozen", image_size=224).double()
    norm_gradients.see_to(network.batch_norms())
    images = torch.randn(2, 3, 224, 224, dtype=torch.float64)

    def of_weights(images: torch.Tensor) -> torch.Tensor:
        network.zero_grad()
        network(images).embeddings.sum().backward()
        found = [weights.grad for weights in network.parameters() if weights.grad is not None]
        return torch.cat([gradient.flatten() for gradient in found])

    together = of_weights(images)
    alone = of_weights(images[:1]) + of_weights(images[1:])
    torch.testing.assert_close(alone, together, rtol=1e-7, atol=1e-9)
