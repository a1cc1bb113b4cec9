"""torch.compile behind --compile, with a backend that generates no code and so is quick."""

import pytest
import torch
from small_learner import batch, learner, weights

from utilities import compilation
from utilities.errors import UserError


def test_where_nothing_can_be_compiled_is_a_sentence(monkeypatch):
    monkeypatch.setattr(compilation, "BACKEND", "no_such_compiler")
    with pytest.raises(
        UserError, match="--compile: torch cannot compile here .*leave the flag out"
    ):
        compilation.require_possible(torch.device("cpu"))


def test_a_compiled_learner_makes_the_steps_of_any_other(monkeypatch):
    """Through a warm-up, with its average, in training and evaluation, in chunks."""
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    compilation.require_possible(torch.device("cpu"))
    plain, compiled = (learner(warmup=1, ema=0.5, micro_batch=3) for _ in range(2))
    compilation.compile_forward(compiled.network)
    compilation.compile_forward(compiled.average.network)
    for epoch in range(2):
        for each in (plain, compiled):
            each.start_epoch(epoch)
            each.step(batch(epoch))
        images = batch(2).images
        outputs = [each.evaluated.eval()(images) for each in (plain, compiled)]
        assert all(map(torch.equal, *outputs))
    assert all(map(torch.equal, weights(plain), weights(compiled)))
    assert compiled.state_dict()["ema"].keys() == plain.network.state_dict().keys()
    assert compiled.network.state_dict().keys() == plain.network.state_dict().keys()
