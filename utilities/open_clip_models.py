"""Models of open_clip by name, from published weights or from files: for their texts and images."""

import difflib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from utilities import torchscript
from utilities.errors import UserError, reason
from utilities.fingerprint import files_below, stamps
from utilities.hub import offline_unless_reachable
from utilities.paths import absent, expanded, require_readable
from utilities.tokenizers import require_words

HUB = "hf-hub:"
FOLDER = "local-dir:"  # ahead of a folder, as open_clip and timm write it
CONFIGURATION = "open_clip_config.json"
QUICK = "-quickgelu"  # behind the name of a model: with the activation that OpenAI trained with
# What a message calls the model, and what else can be taken, by the flag that takes its weights.
ALTERNATIVES = {
    "--language_weights": ("language model", "--language_model minilm"),
    "--language_pseudoclass_weights": (
        "classifier",
        "--language_pseudoclass_arch tf_efficientnet_lite0",
    ),
    "--arch_weights": ("trunk", "--arch tf_efficientnet_lite0"),
}
# In the place of a tower of texts that nobody asks.
NO_TEXTS = {"context_length": 4, "vocab_size": 4, "width": 8, "heads": 1, "layers": 1}


class OpenClip(NamedTuple):
    """A model of open_clip, with published weights (`tag`) or local ones."""

    arch: str
    tag: str | None
    weights: str | None  # a file, or a folder with an open_clip_config.json
    flag: str = "--language_model"  # named in messages
    file_flag: str = "--language_weights"
    given_as: str | None = None  # the flag and value that name the weights, if not of `file_flag`

    @property
    def identity(self) -> str:
        """What its vectors depend on: of a file the model too, whose activation is not in it."""
        if self.weights:
            return identity(f"clip {self.arch}", self.weights)
        return identity("clip", f"{self.arch} {self.tag}")

    @property
    def is_folder(self) -> bool:
        return self.weights is not None and Path(self.weights).is_dir()

    @property
    def name(self) -> str:
        """As open_clip's functions take it."""
        return f"{FOLDER}{self.weights}" if self.is_folder else self.arch

    @property
    def knows_itself(self) -> bool:
        """Whether its configuration comes with its weights, in a folder or from the hub."""
        return self.is_folder or self.arch.startswith(HUB)


def source(name: str, weights: str | None, **flags: str) -> OpenClip:
    """`<model>/<tag or file>` of open_clip, or `hf-hub:<repository>`, or a model and `weights`.

    Raises UserError for what open_clip does not know. `flags` as in `OpenClip`.
    """
    found = named(name, weights, **flags)
    if not found.arch.startswith(HUB):
        require_model(found)
        _require_tag(found)
    return found


def named(name: str, weights: str | None, **flags: str) -> OpenClip:
    """The same, whatever open_clip knows."""
    if name.startswith(HUB):
        return OpenClip(name, None, weights, **flags)
    arch, _, given = name.partition("/")
    path = expanded(given)
    is_file = bool(given) and Path(path).exists()
    tag, file = (None, path) if is_file else (given, None)
    found = OpenClip(arch, tag, weights or file, **flags)
    is_of_name = is_file and not weights
    return found._replace(given_as=f"{found.flag} clip:{name}") if is_of_name else found


def of_one_place(name: str, weights: str | None, **flags: str) -> OpenClip:
    """As `source`, with the activation of its weights.

    Raises UserError where both say where they lie, too.
    """
    by_name = named(name, None, **flags)
    if weights and by_name.given_as:
        raise two_places(by_name.given_as, by_name.file_flag)
    return with_activation(source(name, weights, **flags))


def two_places(model: str, file_flag: str) -> UserError:
    """For a model that lies at the place of its name while a flag gives another."""
    return UserError(f"{model} says where its weights lie; give {file_flag} or that, not both.")


def with_activation(wanted: OpenClip) -> OpenClip:
    """The same with the activation that its weights were trained with, as far as they tell it.

    Tags do, and OpenAI's archives of TorchScript. open_clip has another model for it, and computes
    other vectors where it is given the plain one.
    """
    import open_clip

    file = wanted.weights if wanted.weights and Path(wanted.weights).is_file() else None
    is_quick = _published(wanted).get("quick_gelu") or (file and torchscript.is_torchscript(file))
    quick = f"{wanted.arch}{QUICK}"
    return wanted._replace(arch=quick) if is_quick and quick in open_clip.list_models() else wanted


def identity(name: str, origin: str) -> str:
    """Names of hub models stand for themselves, local files for their names and stamps."""
    files = files_below(Path(expanded(origin)))
    facts = [(file.name, *stamp) for file, stamp in zip(files, stamps(files))]
    return f"{name} {origin} {facts}"


def require_model(wanted: OpenClip) -> None:
    """Raises UserError, with the nearest names, for a model that open_clip does not know."""
    import open_clip

    arch, known = wanted.arch, open_clip.list_models()
    if arch in known or wanted.knows_itself:
        return
    place = f"{arch}/{wanted.tag}".removeprefix(FOLDER)
    if not arch or Path(expanded(place)).exists():
        raise UserError(
            f"{wanted.flag} clip:{place} has no model before the path to its weights; write "
            f"clip:<model>/{place}, such as clip:ViT-B-32/{place}."
        )
    nearest = difflib.get_close_matches(arch, known, n=4)
    hint = f"did you mean {', '.join(nearest)}" if nearest else "open_clip.list_models() has all"
    raise UserError(f"{wanted.flag} clip:{arch}: open_clip has no such model; {hint}.")


def _require_tag(wanted: OpenClip) -> None:
    """Raises UserError for weights that are neither given nor known to open_clip."""
    import open_clip

    arch, tag = wanted.arch, wanted.tag
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not wanted.weights and tag not in tags:
        raise UserError(
            f"{wanted.flag} clip:{arch}/{tag}: {tag or 'nothing'} is neither a file nor weights "
            f"of {arch} that open_clip knows; it knows {', '.join(tags) or 'none'}."
        )


def load(wanted: OpenClip, device: torch.device, **options: Any) -> Any:
    """The model of images and texts, for evaluation.

    `options` are of open_clip's constructor. Raises UserError where its weights cannot be had.
    """
    import open_clip
    from open_clip.model import resize_pos_embed

    weights = wanted.weights
    if not weights:
        offline_unless_reachable()
    try:
        if weights:
            require_readable(weights)
        is_script = weights is not None and torchscript.is_torchscript(weights)
        pretrained = None if wanted.is_folder or is_script else weights or wanted.tag
        model = open_clip.create_model(
            wanted.name,
            pretrained=pretrained,
            require_pretrained=not is_script,
            device=device,
            **options,
        ).eval()
        if weights and is_script:  # as OpenAI publishes its models
            state = torchscript.weights(weights)
            resize_pos_embed(state, model)
            model.load_state_dict({name: state[name] for name in model.state_dict()})
        return model
    except Exception as error:  # open_clip, torch and the hub client raise types of their own
        raise _unavailable(wanted, error) from error


def tokenizer(wanted: OpenClip) -> Any:
    """Sentences -> tokens [T, L]; raises UserError where it cannot be had."""
    import open_clip

    try:
        found = open_clip.get_tokenizer(wanted.name)
        if hasattr(found, "tokenizer"):  # of transformers
            require_words(found.tokenizer)
        return found
    except Exception as error:  # open_clip and the hub client raise types of their own
        raise _unavailable(wanted, error) from error


def are_longer(tokenizer: Any, sentences: list[str]) -> list[bool]:
    """Whether each has more tokens than the tokenizer's model reads.

    Then its tokens are others where there is room for more, or go on behind the limit, where all
    else is padding.
    """
    limit = tokenizer.context_length
    read, whole = tokenizer(sentences), tokenizer(sentences, context_length=2 * limit)
    is_other = (whole[:, :limit] != read).any(1)
    return (is_other | (whole[:, limit:] != whole[:, -1:]).any(1)).tolist()


def preprocessing(model: Any) -> Callable[[Image.Image], torch.Tensor]:
    """An image as an open_clip model was trained to see it, [3, H, W]."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)


def image_tower(wanted: OpenClip, image_size: int | None, *, with_weights: bool) -> Any:
    """The side of images, for images of a size; None: of its own size.

    Its `preprocess_cfg` is that of the published weights. Without weights it is as random as a new
    one, and nothing is downloaded but the configuration of a model of the hub. Raises UserError
    where the weights cannot be had.
    """
    published = _published(wanted)
    preprocess = {name: published[name] for name in ("mean", "std") if published.get(name)}
    options: dict[str, Any] = {
        "force_image_size": image_size,
        "force_patch_dropout": 0.0,
        "force_quick_gelu": bool(published.get("quick_gelu")),
        "force_preprocess_cfg": preprocess,
    }
    if with_weights:
        return load(wanted, torch.device("cpu"), **options).visual
    return _blank(wanted, **options)


def vision_configuration(wanted: OpenClip) -> dict[str, Any]:
    """What open_clip knows of the tower of images; raises UserError where that cannot be had."""
    return _configuration(wanted)["vision_cfg"]


def is_quick(wanted: OpenClip) -> bool:
    """Whether its configuration has OpenAI's activation; raises UserError likewise."""
    published = _published(wanted).get("quick_gelu")
    return bool(published or _configuration(wanted).get("quick_gelu"))


def _configuration(wanted: OpenClip) -> dict[str, Any]:
    """Of both towers; raises UserError where it cannot be had."""
    import open_clip

    try:
        if wanted.is_folder:
            content = json.loads((Path(str(wanted.weights)) / CONFIGURATION).read_text())
            return content["model_cfg"]
        if wanted.arch.startswith(HUB):
            from huggingface_hub import hf_hub_download

            offline_unless_reachable()
            file = hf_hub_download(wanted.arch.removeprefix(HUB), CONFIGURATION)
            return json.loads(Path(file).read_text())["model_cfg"]
    except Exception as error:  # of the hub client, of json
        raise _unavailable(wanted, error) from error
    return open_clip.get_model_config(wanted.arch)


def _blank(wanted: OpenClip, **options: Any) -> Any:
    import open_clip

    logging.disable(logging.WARNING)  # that it is random, which is what was asked for
    try:
        return open_clip.create_model(
            wanted.name,
            load_weights=False,
            pretrained_text=False,
            text_cfg=NO_TEXTS,
            **options,
        ).visual
    except Exception as error:  # of a folder or a model of the hub
        raise _unavailable(wanted, error) from error
    finally:
        logging.disable(logging.NOTSET)


def _published(wanted: OpenClip) -> dict[str, Any]:
    """Of the weights of a tag, or of all tags of a model where they agree, how they see images."""
    import open_clip

    if wanted.knows_itself:
        return {}
    tags = open_clip.list_pretrained_tags_by_model(wanted.arch)
    if wanted.tag in tags:
        return open_clip.get_pretrained_cfg(wanted.arch, wanted.tag)
    seen = [open_clip.get_pretrained_cfg(wanted.arch, tag) for tag in tags]
    ways = [{name: tuple(each.get(name) or ()) for name in ("mean", "std")} for each in seen]
    return ways[0] if ways and all(way == ways[0] for way in ways) else {}


def _unavailable(wanted: OpenClip, error: Exception) -> UserError:
    published = f" ({wanted.tag})" if wanted.tag else ""
    expected = f"the open_clip checkpoint file of {wanted.arch}{published}"
    origin = wanted.weights or f"clip:{wanted.arch}"
    return unavailable(origin, error, expected, wanted.file_flag, wanted.given_as)


def unavailable(
    origin: str,
    error: Exception,
    expected: str,
    file_flag: str = "--language_weights",
    given_as: str | None = None,
) -> UserError:
    """A sentence for weights that cannot be had from a file or by a download.

    `given_as` as in `OpenClip`.
    """
    why = f"{type(error).__name__}: {reason(error)}"
    if Path(origin).exists():
        place = given_as or f"{file_flag} {origin}"
        return UserError(f"{place} cannot be loaded ({why}); expected is {expected}.")
    model, other = ALTERNATIVES[file_flag]
    if is_place(origin):
        return UserError(
            f"The {model} {origin} is not there: {absent(origin, 'file or folder')} Expected is "
            f"{expected} ({file_flag} PATH); {other}, which is installed with the requirements, "
            "needs none."
        )
    return UserError(
        f"The {model} {origin} could not be downloaded ({why}): fetch it on a machine with "
        f"network and pass it with {file_flag} PATH ({expected}), or use {other}, which is "
        "installed with the requirements."
    )


def is_place(origin: str) -> bool:
    """Whether it can only be a path: no repository of a hub is called so."""
    return Path(origin).is_absolute() or origin.startswith((".", "~")) or origin.count("/") > 1
