"""The only place that knows pytorch-metric-learning, which is optional.

criteria and batchminer build that library's objects here.
"""

import difflib
import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import normalize

from utilities.documents import from_json
from utilities.errors import UserError, reason
from utilities.flags import abridged
from utilities.seeding import randomness_kept

PREFIX = "pml:"  # --loss pml:<ClassName>, --batch_mining pml:<ClassName>
_NESTED = "pml"  # {"pml": "distances.LpDistance", "power": 2} in the arguments makes that object
TRIED_IMAGES = 16  # of the small batch on which what was built is tried


class Asked(NamedTuple):
    """What a person asked for, and by which flags.

    Attributes:
        kind: losses or miners. name: of the class, given by `flag`.
        args: JSON object of its arguments, given by `args_flag`.
    """

    kind: str
    name: str
    flag: str
    args: str
    args_flag: str

    def __str__(self) -> str:
        return f"{self.flag} {PREFIX}{self.name}"


def build(asked: Asked, given: dict[str, int]) -> nn.Module:
    """An object of the class `asked.name` in pytorch_metric_learning.<kind>.

    Args:
        given: values by constructor argument, used where the constructor asks for them.
    Raises:
        UserError: the library is missing, knows no such class, or refuses the arguments.
    """
    cls = _find(f"{asked.kind}.{asked.name}", str(asked))
    accepted = inspect.signature(cls).parameters
    of_the_run = {argument: value for argument, value in given.items() if argument in accepted}
    with _refusing(f"{asked} cannot be built with", asked, ", ".join(accepted)):
        arguments = from_json(asked.args)
        if not isinstance(arguments, dict):
            raise TypeError("it is no JSON object")
        further = {name: _value(value, asked.args_flag) for name, value in arguments.items()}
        built = cls(**of_the_run | further)
    _store_places(built)
    return built


def require_working(asked: Asked, part: nn.Module, n_classes: int, embed_dim: int) -> None:
    """Raises UserError where a small made batch ends in an exception.

    That library looks at few arguments before it computes with them. A copy is tried, on random
    numbers that are not the run's.
    """
    images = min([TRIED_IMAGES, *(memory.memory_size for memory in _memories(part))])
    labels = n_classes - 1 - torch.arange(images) // 2 % n_classes
    with _refusing(f"{asked} cannot work with", asked), randomness_kept():
        rows = normalize(torch.randn(images, embed_dim), dim=1)
        deepcopy(part)(rows.requires_grad_(), labels)


def require_room(part: nn.Module, batch_size: int) -> None:
    """Raises UserError for a memory, as of CrossBatchMemory, that a batch does not fit into."""
    for memory in _memories(part):
        if memory.memory_size < batch_size:
            raise UserError(
                f"--loss_pml_args: the memory_size {memory.memory_size} of "
                f"{type(memory).__name__} is less than a batch, which is stored in it whole; give "
                f"at least --bs {batch_size}."
            )


def _memories(part: nn.Module) -> list[Any]:
    """Of earlier batches, as CrossBatchMemory keeps one."""
    return [module for module in part.modules() if hasattr(module, "queue_idx")]


@contextmanager
def _refusing(sentence: str, asked: Asked, accepted: str = "") -> Iterator[None]:
    """A UserError in the place of whatever a class of that library does with its arguments."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        further = f"; its arguments are: {accepted}" if accepted else ""
        raise UserError(
            f"{sentence} {asked.args_flag} {abridged(asked.args)} "
            f"({reason(error) or type(error).__name__}){further}."
        ) from error


def _store_places(part: nn.Module) -> None:
    """Also the place in the ring of a CrossBatchMemory is of its state; the library forgets it."""
    for memory in _memories(part):
        memory.register_state_dict_post_hook(_store_place)
        memory.register_load_state_dict_pre_hook(_restore_place)


def _store_place(memory: Any, state: dict[str, Any], prefix: str, *ignored: object) -> None:
    place = memory.queue_idx, int(memory.has_been_filled)
    state[f"{prefix}place"] = torch.tensor(place)


def _restore_place(memory: Any, state: dict[str, Any], prefix: str, *ignored: object) -> None:
    """Of a checkpoint from before it was stored, the memory begins anew."""
    place = state.pop(f"{prefix}place", torch.tensor((0, 0))).tolist()
    memory.queue_idx, memory.has_been_filled = place[0], bool(place[1])


def triplets(mined: tuple[torch.Tensor, ...], labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What a miner of that library returns, as vectors of anchors, positives and negatives."""
    conversion = importlib.import_module("pytorch_metric_learning.utils.loss_and_miner_utils")
    return conversion.convert_to_triplets(mined, labels, labels)


def _value(value: object, flag: str) -> object:
    """A value of the JSON arguments, where {"pml": path, ...} stands for an object."""
    if isinstance(value, list):
        return [_value(entry, flag) for entry in value]
    if not isinstance(value, dict):
        return value
    inside = {key: _value(entry, flag) for key, entry in value.items() if key != _NESTED}
    if _NESTED not in value:
        return inside
    path = value[_NESTED]
    return _find(path, f'{flag} "{path}"')(**inside)


def _find(path: object, shown: str) -> type:
    """The class at `<module>.<Class>` of the library; `shown` is how a message calls it."""
    module_name, _, name = str(path).rpartition(".")
    _require_library(shown)
    try:
        module = importlib.import_module(f"pytorch_metric_learning.{module_name}")
    except (ImportError, TypeError, ValueError) as error:
        raise UserError(
            f'{shown} must be "<module>.<ClassName>" of pytorch-metric-learning, '
            'for example "distances.LpDistance".'
        ) from error
    cls = getattr(module, name, None)
    if not inspect.isclass(cls):
        raise UserError(f"{shown} {_unknown_class(name, module, module_name)}")
    return cls


def _require_library(shown: str) -> None:
    try:
        importlib.import_module("pytorch_metric_learning.losses")
    except ImportError as error:
        raise UserError(
            f"{shown} needs the package pytorch-metric-learning ({reason(error)}); "
            "install it with: bash requirements.sh pip install pytorch-metric-learning"
        ) from error


def _unknown_class(name: str, module: ModuleType, module_name: str) -> str:
    """The end of the message, with the nearest class and all that there are."""
    known = sorted(
        known
        for known, member in vars(module).items()
        if inspect.isclass(member) and not known.startswith("Base")
    )
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    return (
        f"is not known to pytorch_metric_learning.{module_name}{hint}; it has: {', '.join(known)}."
    )
