"""timm models with weights from a download, from a file, or none; failures say what to do."""

import difflib
import os
import sys
from collections.abc import Mapping, Set
from typing import Any

import timm
import torch
from timm.models._hub import load_model_config_from_hf, load_model_config_from_path
from torch import nn

from architectures import merging, packaged
from utilities import tensor_file, torchscript
from utilities.errors import UserError, reason
from utilities.hub import offline_unless_reachable
from utilities.paths import expanded

# Under which people keep the weights in a file, one inside another.
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "teacher",
    "student",
    "weights",
)
# What they put before the names; ours is `trunk.`.
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "network.",
    "trunk.",
    "backbone.",
    "encoder.",
    "encoder_q.",
    "base_encoder.",
    "teacher.",
    "student.",
    "visual.",
)
HUB = "hf-hub:"  # --arch_weights hf-hub:USER/NAME[@REVISION]
FOLDER = "local-dir:"
SOURCES = (HUB, FOLDER)  # of models that bring their configuration, as timm names them
# The paper's resnet50 has torchvision's first weights; timm's default tag is a stronger recipe.
PAPER_TAGS = {"resnet50": "resnet50.tv_in1k"}


def tagged(name: str) -> str:
    """timm's name with the tag of the paper's weights, where timm's default are others.

    The path of a folder is whole.
    """
    if name.startswith(FOLDER):
        return f"{FOLDER}{expanded(name.removeprefix(FOLDER))}"
    return PAPER_TAGS.get(name, name)


def size_option(name: str, image_size: int) -> dict[str, Any]:
    """What the constructor of timm's `name` is told of the images' size.

    Nothing, unless it has positions for one size only, as ViTs do.
    """
    if name.startswith(SOURCES):
        name, _ = _sourced(name)
    config = timm.get_pretrained_cfg(tagged(name))
    return {"img_size": image_size} if config is not None and config.fixed_input_size else {}


def source_options(name: str) -> dict[str, Any]:
    """What a model of the hub or of a folder tells the constructor of itself; else nothing.

    Its number of classes is left out, because a trunk has none.
    """
    options = _sourced(name)[1] if name.startswith(SOURCES) else {}
    return {key: value for key, value in options.items() if key != "num_classes"}


def require_known(name: str, flag: str, beside: tuple[str, ...] = ()) -> None:
    """Raises UserError, with the nearest names, if timm has no model `name`.

    `beside` are names that are known otherwise.
    """
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        nearest = difflib.get_close_matches(base, [*beside, *timm.list_models()], n=4)
        hint = f" (did you mean {', '.join(nearest)}?)" if nearest else ""
        raise UserError(
            f"{flag}: timm has no model {name!r}{hint}; "
            f"timm.list_models() shows all {len(timm.list_models())}."
        )
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise UserError(
            f"{flag}: timm has no weights {tag!r} of {base}; it has: {', '.join(tags) or 'none'}."
        )


def create(
    name: str,
    *,
    pretrained: bool,
    file: str | None,
    flag: str,
    file_flag: str,
    alternative: str = "",
    **options: Any,
) -> nn.Module:
    """timm model `name`.

    Args:
        pretrained: take timm's weights, from an installed package that has them or by a download,
            unless `file` is given.
        flag, file_flag: named in messages: the flag that chose the model, and the one that takes a
            local file.
        alternative: what else the person can do where nothing can be downloaded. options: of
            timm's constructor.
    Raises:
        UserError: unknown name, foreign file, no network.
    """
    if name.startswith(SOURCES):
        _sourced(name)  # raises where it is not there
    else:
        require_known(name, flag)
    full_name = tagged(name)
    installed = packaged.path(full_name) if pretrained and not file else None
    if file or not pretrained or installed:
        model = timm.create_model(full_name, pretrained=False, **options)
        if file:
            load_file(model, file, full_name, file_flag)
        elif installed:
            packaged.load(model, full_name, installed)
        return model
    offline_unless_reachable()
    try:
        return timm.create_model(full_name, pretrained=True, **options)
    except Exception as error:  # timm and the hub client each raise types of their own
        if name.startswith(SOURCES):
            raise _no_source(name, error) from error
        raise UserError(
            f"The ImageNet weights of {full_name} could not be downloaded "
            f"({type(error).__name__}): fetch timm/{full_name} (model.safetensors) on a machine "
            f"with network and pass it with {file_flag} FILE, take one of "
            f"{', '.join(packaged.PACKAGED)}, which comes with the requirements{alternative}."
        ) from error


def outputs_in(file: str, name: str, file_flag: str) -> int | None:
    """How many classes the classifier of timm's `name` has in a file; None where it is not found.

    Raises UserError for a file that holds no weights.
    """
    config = timm.get_pretrained_cfg(tagged(name))
    layers = getattr(config, "classifier", None) or ()
    layers = (layers,) if isinstance(layers, str) else layers
    try:
        weights = (
            {} if expanded(file).lower().endswith(".npz") else _unwrapped(_read(expanded(file)))
        )
    except Exception as error:  # safetensors and torch each raise types of their own
        raise UserError(
            f"{file_flag} {file} does not hold weights of {name} ({reason(error)})."
        ) from error
    ends = [f".{layer}.weight" for layer in layers]
    found = [key for key in weights if any(f".{key}".endswith(end) for end in ends)]
    return len(weights[min(found, key=lambda key: key.count("."))]) if found else None


def is_of_run(file: str) -> bool:
    """Whether a file holds a network of this program, as checkpoints do."""
    try:
        return any(name.startswith("trunk.") for name in _unwrapped(_read(expanded(file))))
    except Exception:  # whoever loads it says what is wrong with it
        return False


def load_file(model: nn.Module, file: str, name: str, file_flag: str) -> None:
    """All weights of the model from a file, which may hold more: the classifier of a trunk.

    Raises UserError if any is missing, or is no finite number.
    """
    # The filter of the model's own module fits old key names, and positions of a ViT to its image
    # size.
    fit = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    path = _of_hub(file, file_flag) if file.startswith(HUB) else expanded(file)
    try:
        if path.lower().endswith((".npz", ".npy")):  # of models that were published so
            timm.models.load_checkpoint(model, path)
            _require_sound(model.state_dict(), model)
            return
        content = _read(path)
        unwrapped = merging.merged(_unwrapped(content), merging.alpha_of(content))
        weights = _without_prefixes(unwrapped, model.state_dict().keys())
        fitted = fit(weights, model) if fit else weights
        _require_sound(fitted, model)
        missing = model.load_state_dict(fitted, strict=False).missing_keys
    except Exception as error:  # timm, safetensors and torch each raise types of their own
        raise UserError(
            f"{file_flag} {file} does not hold weights of {name} ({reason(error)})."
        ) from error
    if missing:
        raise UserError(
            f"{file_flag} {file} does not hold weights of {name} "
            f"({len(missing)} are missing, the first {missing[0]})."
        )


def _require_sound(weights: Mapping[str, torch.Tensor], model: nn.Module) -> None:
    """Raises ValueError for weights that torch would cast, or take as they are, without a word.

    Whole numbers of quantised weights mean nothing without their scales.
    """
    for name, own in model.state_dict().items():
        given = weights.get(name)
        if given is None or not own.is_floating_point():
            continue
        if not given.is_floating_point():
            kind = str(given.dtype).removeprefix("torch.")
            raise ValueError(f"{name} is {kind}; expected are the floats that were trained")
        if not given.float().isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")


def _of_hub(name: str, file_flag: str) -> str:
    """The weights of a repository of the hub, as a local file; raises UserError for none."""
    from huggingface_hub import hf_hub_download

    offline_unless_reachable()
    repository, _, revision = name.removeprefix(HUB).partition("@")
    try:
        return hf_hub_download(repository, "model.safetensors", revision=revision or None)
    except Exception as error:  # the hub client raises types of its own
        raise UserError(
            f"{file_flag} {name}: model.safetensors of that repository could not be had "
            f"({reason(error)}); fetch it on a machine with network and give the file."
        ) from error


def _sourced(name: str) -> tuple[str, dict[str, Any]]:
    """timm's name of a model of the hub or of a folder, and its options; raises UserError."""
    kind, _, place = name.partition(":")
    try:
        if f"{kind}:" == FOLDER:
            _, architecture, options = load_model_config_from_path(expanded(place))
        else:
            offline_unless_reachable()
            _, architecture, options = load_model_config_from_hf(place)
    except Exception as error:  # timm and the hub client each raise types of their own
        raise _no_source(name, error) from error
    return architecture, options or {}


def _no_source(name: str, error: Exception) -> UserError:
    return UserError(
        f"--arch {name}: timm cannot open it ({reason(error)}); expected is a repository or a "
        "folder with config.json and model.safetensors, as --format hub of programs.export writes "
        "one."
    )


def _read(path: str) -> object:
    """What a file of torch, TorchScript or safetensors holds; code in it is refused, not run."""
    if os.path.isdir(path):
        raise ValueError("it is a folder, not a file")
    if path.lower().endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    if torchscript.is_torchscript(path):
        return torchscript.weights(path)
    return tensor_file.read(path)


def _unwrapped(content: object) -> dict[str, torch.Tensor]:
    """The tensors of a file by their names, from whatever they are wrapped in.

    Raises ValueError where there are none.
    """
    while isinstance(content, Mapping):
        found = [content.get(name) for name in WRAPPERS]
        inner = [part for part in found if isinstance(part, Mapping) and _holds_tensors(part)]
        if not inner:
            tensors = {name: leaf for name, leaf in content.items() if torch.is_tensor(leaf)}
            if tensors:
                return tensors
            break
        content = inner[0]
    raise ValueError("there are no tensors by name in it")


def _holds_tensors(content: Mapping) -> bool:
    """Whether there are any in it, or in what it holds: an average's settings are plain numbers."""
    return any(
        _holds_tensors(part) if isinstance(part, Mapping) else torch.is_tensor(part)
        for part in content.values()
    )


def _without_prefixes(
    weights: dict[str, torch.Tensor], wanted: Set[str]
) -> dict[str, torch.Tensor]:
    """The weights under the names without what stands before those that a model knows.

    Of all ways to take prefixes away the one that leaves most names of the model: a file may hold
    more than one network.
    """
    candidates = [weights]
    for shorter in candidates:
        for prefix in PREFIXES:
            inside = {
                name.removeprefix(prefix): tensor
                for name, tensor in shorter.items()
                if name.startswith(prefix)
            }
            if inside:
                candidates.append(inside)
    return max(candidates, key=lambda candidate: len(wanted & candidate.keys()))
