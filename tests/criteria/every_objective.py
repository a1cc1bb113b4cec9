"""Every objective in every form and mode, for tests that sweep them."""

import itertools
from functools import cache

import pytest
import torch

import batchminer
import criteria
import parameters
from criteria import Criterion
from utilities.types import ModelOutput


def output_of(embeddings: torch.Tensor) -> ModelOutput:
    return ModelOutput(embeddings, embeddings * 2, embeddings[:, :, None, None])


def unit(count: int, seed: int = 0, dim: int = 5) -> torch.Tensor:
    rows = torch.randn(
        count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return torch.nn.functional.normalize(rows, dim=1)


def every_form():
    """Each objective in each of its forms and modes, and the settings that switch parts on."""
    for name in criteria.REGISTRY:
        choices = [
            [{flag.removeprefix(f"loss_{name}_"): value} for value in values]
            for flag, values in parameters.CHOICES.items()
            if flag in (f"loss_{name}_form", f"loss_{name}_mode")
        ]
        for options in itertools.product(*choices):
            settings = {key: value for option in options for key, value in option.items()}
            yield pytest.param(name, settings, id="-".join([name, *settings.values()]))
    yield pytest.param(
        "s2sd",
        {"w": 1.0, "feat_distill": True, "feat_distill_delay": 0, "pool_aggr": True},
        id="s2sd-all",
    )
    yield pytest.param("margin", {"nu": 0.1, "beta_constant": True}, id="margin-constant")


@cache
def _defaults() -> parameters.Settings:
    return parameters.parse([])


def hyperparameters(settings: dict, name: str) -> dict:
    defaults = parameters.hyperparameters(_defaults(), "loss", name)
    return {
        key: [6, 7] if key == "target_dims" else value
        for key, value in (defaults | settings).items()
    }


def build(name: str, settings: dict, miner=None) -> Criterion:
    torch.manual_seed(0)
    miner = miner or batchminer.select((criteria.REGISTRY[name].MINERS or ("distance",))[0])
    return criteria.build(
        name,
        lambda asked: hyperparameters(settings if asked == name else {}, asked),
        n_classes=4,
        embed_dim=5,
        feature_dim=5,
        miner=miner,
    )
