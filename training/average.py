"""An exponential moving average of the weights, which is evaluated in their place."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from utilities import processes
from utilities.types import Network


class Average:
    """weights <- decay * weights + (1 - decay) * those of the network, after each step.

    Running statistics of BatchNorm are averaged likewise; whole numbers are taken over. No step
    waits for the device, as one of torch's AveragedModel does. It begins from the weights that the
    network has when training begins.

    Source: Polyak and Juditsky, SIAM J. Control Optim. 30 (1992).

    Attributes:
        network: that of the averaged weights.
    """

    def __init__(self, network: Network, decay: float):
        assert isinstance(network, nn.Module)
        group = processes.group_of_gpus()  # of `--sync_bn`: shared, as torch cannot copy it
        copied = copy.deepcopy(network, {id(group): group})
        self.network: nn.Module = copied.eval().requires_grad_(False)
        # Some trunks have a layer at several places, under as many names: one is enough.
        state = self.network.state_dict(keep_vars=True)
        self.names = list({id(value): name for name, value in state.items()}.values())
        self.merge = get_ema_multi_avg_fn(decay)
        self.has_begun = False

    def begin(self, network: Network) -> None:
        """From the network's weights, unless a checkpoint has brought an average."""
        if not self.has_begun:
            self.load_state_dict(network.state_dict())

    @torch.no_grad()
    def update(self, network: Network) -> None:
        ours, theirs = self.network.state_dict(), network.state_dict()
        pairs = [(ours[name], theirs[name]) for name in self.names]
        averages, values = zip(*(pair for pair in pairs if pair[0].is_floating_point()))
        self.merge(averages, values, None)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """As that of the network; nothing where it has not begun."""
        return self.network.state_dict() if self.has_begun else {}

    def load_state_dict(self, state_dict: dict[str, torch.Tensor]) -> None:
        self.network.load_state_dict(state_dict)
        self.has_begun = True
