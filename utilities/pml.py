"""The only place that knows pytorch-metric-learning, which is optional.

criteria and batchminer build that library's objects here.
"""

import difflib
import importlib
import inspect
import json
from types import ModuleType

import torch
from torch import nn

from utilities.errors import UserError, reason

PREFIX = "pml:"  # --loss pml:<ClassName>, --batch_mining pml:<ClassName>
_NESTED = "pml"  # {"pml": "distances.LpDistance", "power": 2} in the arguments makes that object


def build(kind: str, name: str, given: dict[str, int], args: str, flag: str) -> nn.Module:
    """An object of the class `name` in pytorch_metric_learning.<kind>.

    Args:
        kind: losses or miners. given: values by constructor argument, used where the constructor
            asks for them.
        args: JSON object of further arguments. flag: the flag that `args` came from.
    Raises:
        UserError: the library is missing, knows no such class, or refuses the arguments.
    """
    cls = _find(f"{kind}.{name}")
    accepted = inspect.signature(cls).parameters
    of_the_run = {argument: value for argument, value in given.items() if argument in accepted}
    try:
        further = {argument: _value(value) for argument, value in json.loads(args).items()}
        return cls(**of_the_run | further)
    except (TypeError, ValueError, AssertionError, AttributeError) as error:
        raise UserError(
            f"{PREFIX}{name} cannot be built with {flag} {args!r} ({reason(error)}); "
            f"its arguments are: {', '.join(accepted)}."
        ) from error


def triplets(mined: tuple[torch.Tensor, ...], labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What a miner of that library returns, as vectors of anchors, positives and negatives."""
    conversion = importlib.import_module("pytorch_metric_learning.utils.loss_and_miner_utils")
    return conversion.convert_to_triplets(mined, labels, labels)


def _value(value: object) -> object:
    """A value of the JSON arguments, where {"pml": path, ...} stands for an object."""
    if not (isinstance(value, dict) and _NESTED in value):
        return value
    cls = _find(value[_NESTED])
    return cls(**{key: _value(inner) for key, inner in value.items() if key != _NESTED})


def _find(path: str) -> type:
    """The class at `<module>.<Class>` of the library."""
    module_name, _, name = path.rpartition(".")
    _require_library(name)
    try:
        module = importlib.import_module(f"pytorch_metric_learning.{module_name}")
    except (ImportError, TypeError) as error:
        raise UserError(
            f'"{path}" must be "<module>.<ClassName>" of pytorch-metric-learning, '
            'for example "distances.LpDistance".'
        ) from error
    cls = getattr(module, name, None)
    if not inspect.isclass(cls):
        raise UserError(_unknown_class(name, module, module_name))
    return cls


def _require_library(name: str) -> None:
    try:
        importlib.import_module("pytorch_metric_learning.losses")
    except ImportError as error:
        raise UserError(
            f"{PREFIX}{name} needs the package pytorch-metric-learning ({reason(error)}); "
            "install it with: bash requirements.sh pip install pytorch-metric-learning"
        ) from error


def _unknown_class(name: str, module: ModuleType, module_name: str) -> str:
    """The message that names the nearest class and all that there are."""
    known = sorted(
        known
        for known, member in vars(module).items()
        if inspect.isclass(member) and not known.startswith("Base")
    )
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    return (
        f"{PREFIX}{name} is not known to pytorch_metric_learning.{module_name}{hint}; "
        f"it has: {', '.join(known)}."
    )
