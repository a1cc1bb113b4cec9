"""The network's forward pass, compiled by torch.compile."""

import torch
from torch import nn

from utilities.errors import UserError

BACKEND = "inductor"
# Training and evaluation, warm-up or not, batches of two sizes, with or without a graph: each is
# compiled once.
RECOMPILATIONS = 32


def require_possible(device: torch.device) -> None:
    """Raises UserError where nothing can be compiled: without a C++ compiler, Python.h or Triton.

    A function of a line is compiled to find out.
    """
    try:
        torch.compile(_line, backend=BACKEND)(torch.ones(8, device=device))
    except Exception as error:  # torch raises many types, by what is missing
        cause = getattr(error, "inner_exception", error)
        why = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise UserError(
            f"--compile: torch cannot compile here ({why[:200]}); install a C++ compiler with "
            "Python's headers, or leave the flag out."
        ) from error


def compile_forward(network: nn.Module) -> None:
    """Compile the network where it is first called; names of its state stay as they are.

    Dropout draws what it would draw uncompiled.
    """
    torch._dynamo.config.recompile_limit = RECOMPILATIONS
    options = {"fallback_random": True} if BACKEND == "inductor" else None
    network.compile(backend=BACKEND, options=options)


def _line(values: torch.Tensor) -> torch.Tensor:
    return values.sin() + 1
