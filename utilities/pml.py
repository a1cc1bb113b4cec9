"""The only place that knows pytorch-metric-learning, which is optional; criteria and batchminer build its objects here."""

import difflib
import importlib
import inspect
import json

from utilities.errors import UserError, reason

PREFIX = "pml:"  # --loss pml:<ClassName>, --batch_mining pml:<ClassName>
_NESTED = "pml"  # {"pml": "distances.LpDistance", "power": 2} in the arguments makes that object


def build(kind: str, name: str, given: dict, args: str, flag: str):
    """An object of the class `name` in pytorch_metric_learning.<kind>.

    Args:
        kind: losses or miners. given: values by constructor argument, used where the constructor
            asks for them.
        args: JSON object of further arguments. flag: the flag that `args` came from.
    Raises:
        UserError: the library is missing, knows no such class, or refuses the arguments.
    """
    cls = _find(f"{kind}.{name}")
    asked = inspect.signature(cls).parameters
    try:
        further = {key: _value(value) for key, value in json.loads(args).items()}
        return cls(**{key: value for key, value in given.items() if key in asked} | further)
    except (TypeError, ValueError, AssertionError, AttributeError) as error:
        raise UserError(
            f"{PREFIX}{name} cannot be built with {flag} {args!r} ({reason(error)}); its arguments are: {', '.join(asked)}."
        ) from error


def triplets(tuples, labels):
    """What a miner of that library returns, as index vectors of anchors, positives and negatives."""
    return importlib.import_module(
        "pytorch_metric_learning.utils.loss_and_miner_utils"
    ).convert_to_triplets(tuples, labels, labels)


def _value(value):
    if isinstance(value, dict) and _NESTED in value:
        return _find(value[_NESTED])(
            **{key: _value(inner) for key, inner in value.items() if key != _NESTED}
        )
    return value


def _find(path: str):
    """The class at `<module>.<Class>` of the library."""
    module_name, _, name = path.rpartition(".")
    try:
        importlib.import_module("pytorch_metric_learning.losses")
    except ImportError as error:
        raise UserError(
            f"{PREFIX}{name} needs the package pytorch-metric-learning ({reason(error)}); install it with: "
            "bash requirements.sh pip install pytorch-metric-learning"
        ) from error
    try:
        module = importlib.import_module(f"pytorch_metric_learning.{module_name}")
    except (ImportError, TypeError) as error:
        raise UserError(
            f'"{path}" must be "<module>.<ClassName>" of pytorch-metric-learning, for example "distances.LpDistance".'
        ) from error
    if not inspect.isclass(getattr(module, name, None)):
        known = sorted(
            known
            for known, cls in vars(module).items()
            if inspect.isclass(cls) and not known.startswith("Base")
        )
        nearest = "".join(
            f" (did you mean {match}?)" for match in difflib.get_close_matches(name, known, n=1)
        )
        raise UserError(
            f"{PREFIX}{name} is not known to pytorch_metric_learning.{module_name}{nearest}; it has: {', '.join(known)}."
        )
    return getattr(module, name)
