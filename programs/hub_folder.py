"""A network as a folder that timm opens: weights, configuration, and a card that tells of it."""

import json
import math
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import timm
import torch
import yaml
from torch import nn
from torch.nn.functional import normalize

import architectures
from architectures import weights
from datasets import transforms
from programs import usage
from programs.constants import PREPROCESSING, TOLERANCE
from programs.results import runs
from programs.results.runs import Run
from programs.results.settings import guidance_in_words
from programs.results.tables import as_code, in_markdown
from utilities.errors import UserError, reason
from utilities.version import VERSION

if TYPE_CHECKING:
    from programs.trained import Trained

WEIGHTS = "model.safetensors"
CONFIGURATION = "config.json"
CARD = "README.md"
PUSHED = [WEIGHTS, CONFIGURATION, CARD, PREPROCESSING]
FOLDERS = re.compile(r"(?:^|(?<=[=:/]))(?:~[^/]*)?/(?:[^/]+/)*(?!$)")  # also behind flag= or clip:
TOKEN_HELP = "log in with `hf auth login`, or set HF_TOKEN"


def write(network: "Trained", example: torch.Tensor, file: Path) -> None:
    """The weights and the configuration beside them, as timm reads them.

    Args:
        example: images [B, 3, N, N], of the size that the network sees. file: of the weights.
    Raises:
        UserError: a network that no model of timm is equal to.
    """
    model = timm_model(network, example)
    timm.models.save_for_hf(
        model,
        str(file.parent),
        model_config={"unit_length": network.network.unit_norm},
        model_args=_options(network),
        data_config=_preprocessing(network),
        safe_serialization=True,
    )
    # Weights by safetensors are for their owner alone, whatever the umask grants to others.
    shutil.copymode(file.with_name(CONFIGURATION), file)


def open_folder(file: Path) -> Any:
    """images [B, 3, N, N] -> embeddings [B, D], both numpy, of the folder that has the weights."""
    configuration = json.loads((file.parent / CONFIGURATION).read_text())
    model = timm.create_model(f"local-dir:{file.parent}", pretrained=True).eval()

    @torch.inference_mode()
    def embed(images: np.ndarray) -> np.ndarray:
        rows = model(torch.from_numpy(images))
        return (normalize(rows, dim=1) if configuration["unit_length"] else rows).numpy()

    return embed


def timm_model(network: "Trained", example: torch.Tensor) -> nn.Module:
    """The timm model whose classifier is the embedding head; raises UserError where it differs."""
    embedder, settings = network.network, network.settings
    spec = architectures.parse_arch(settings["arch"])
    tagged = weights.tagged(spec.trunk)
    try:
        model = timm.create_model(
            tagged, num_classes=embedder.head.out_features, **_options(network)
        )
        config = cast(dict[str, Any], model.pretrained_cfg)
        classifier = str(config.get("classifier", ""))
        state = _state(embedder, classifier, 2.0 if spec.double else 1.0)
        model.load_state_dict(state)
    except Exception as error:  # timm's models raise many types for options that they lack
        raise _unequal(settings["arch"], reason(error)) from error
    difference = _difference(embedder, model.eval(), torch.randn_like(example))
    if not difference <= TOLERANCE:
        raise _unequal(settings["arch"], f"its embeddings differ by {difference:.1e}")
    return model


def push(folder: Path, repository: str) -> str:
    """Upload what an export wrote to a repository of the hub; returns its address.

    Whatever else lies in the folder stays here. Raises UserError where that is refused.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        hub.create_repo(repository, exist_ok=True)
        uploaded = hub.upload_folder(
            repo_id=repository, folder_path=str(folder), allow_patterns=PUSHED
        )
    except Exception as error:  # the hub client raises types of its own
        raise UserError(
            f"--push {repository} failed ({reason(error)}); the folder {folder} is whole. Check "
            f"the name and that you may write there; {TOKEN_HELP}."
        ) from error
    return str(uploaded)


def require_token(repository: str) -> None:
    """Raises UserError where nobody is logged in."""
    from huggingface_hub import get_token

    if not get_token():
        raise UserError(f"--push {repository} needs a token of the hub: {TOKEN_HELP}.")


def card(checkpoint: Path, network: "Trained", licence: str) -> str:
    """The model card: what it is, how it is used, on what it was trained, what it reaches.

    It is for others: of places on this machine it has the last names alone.

    Args:
        checkpoint: beside which a finished run has its results, told as far as they can be read.
        licence: an identifier of the hub, such as apache-2.0.
    """
    shown = {
        name: FOLDERS.sub(".../", value) if isinstance(value, str) else value
        for name, value in network.settings.items()
    }
    run = _finished_run(checkpoint.parent)
    header = {
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "license": licence,
        "tags": ["image-feature-extraction", "deep-metric-learning", "image-retrieval", "timm"],
    }
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {_title(shown)}",
        f"Embeds images in {shown['embed_dim']} dimensions, in which images of a class lie near "
        f"each other.{_training(shown)}",
        _usage(network),
        _numbers(run) if run else "",
        _provenance(run, network.stage, licence),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _state(
    embedder: architectures.EmbeddingNetwork, classifier: str, scale: float
) -> dict[str, torch.Tensor]:
    """All weights of the network by timm's names; `classifier` is that of its last layer."""
    state = {
        name.removeprefix("trunk."): value
        for name, value in embedder.state_dict().items()
        if name.startswith("trunk.")
    }
    head = embedder.head
    return state | {
        f"{classifier}.weight": (head.weight * scale).detach(),
        f"{classifier}.bias": head.bias.detach(),
    }


def _difference(
    embedder: architectures.EmbeddingNetwork, model: nn.Module, images: torch.Tensor
) -> float:
    """Largest difference of the embeddings, as a share of the largest number in them."""
    with torch.inference_mode():
        expected, found = embedder(images).embeddings, model(images)
    if embedder.unit_norm:
        found = normalize(found, dim=1)
    return ((found - expected).abs().max() / expected.abs().max()).item()


def _preprocessing(network: "Trained") -> dict[str, Any]:
    """How timm's transforms prepare an image for the network."""
    crop = transforms.crop_size(network.settings["augmentation"], network.settings["image_size"])
    return {
        "input_size": (3, crop, crop),
        "crop_pct": _crop_share(crop, transforms.short_side(network.settings["image_size"])),
        "crop_mode": "center",
        "interpolation": network.transform.interpolation,
        "mean": network.network.mean,
        "std": network.network.std,
    }


def _crop_share(crop: int, short_side: int) -> float:
    """The share of the short side that is kept, from which timm gets floor(crop / share) again."""
    share = crop / short_side
    # Rounded up, it would give a pixel less: 443 / (443 / 506) is below 506.
    return share if math.floor(crop / share) == short_side else math.nextafter(share, 0)


def _options(network: "Trained") -> dict[str, Any]:
    """Of timm's constructor: what the trunk's own name does not say."""
    settings = network.settings
    spec = architectures.parse_arch(settings["arch"])
    crop = transforms.crop_size(settings["augmentation"], settings["image_size"])
    options = weights.source_options(spec.trunk) | weights.size_option(spec.trunk, crop)
    if spec.double:
        options["global_pool"] = "avgmax"  # half of what max added to average pooling gives
    return options


def _unequal(arch: str, why: str) -> UserError:
    return UserError(
        f"--format hub: timm has no model that is equal to {arch} with its embedding head ({why}); "
        "--format onnx and torch write any network."
    )


def _finished_run(folder: Path) -> Run | None:
    """The run of a folder, None where no results of it can be read."""
    try:
        run = runs.read(folder)
    except UserError:
        return None
    return run if run.is_finished else None


def _title(settings: dict[str, Any]) -> str:
    dataset = settings.get("dataset")
    return in_markdown(settings["arch"] + (f", trained on {dataset}" if dataset else ""))


def _training(settings: dict[str, Any]) -> str:
    """A further sentence, of settings that say how."""
    if not settings.get("loss"):
        return ""
    sentence = f" It was trained with the objective {in_markdown(str(settings['loss']))}"
    if not settings.get("language_distill_w"):
        return f"{sentence}."
    return (
        f"{sentence}, guided by {in_markdown(guidance_in_words(settings))} (language guidance, "
        "Roth et al., CVPR 2022)."
    )


def _usage(network: "Trained") -> str:
    lines = [
        "import numpy as np",
        "import timm",
        "import torch",
        "from PIL import Image, ImageOps",
        "",
        "model = timm.create_model('hf-hub:USER/NAME', pretrained=True).eval()  "
        "# or local-dir:FOLDER",
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
        "",
        *usage.reading(oriented=network.oriented()),
        "with torch.inference_mode():",
        "    embedding = model(transform(image)[None])",
    ]
    if network.network.unit_norm:
        lines.append("    embedding = torch.nn.functional.normalize(embedding, dim=1)")
    return "\n".join(["## Use", "", "```python", *lines, "```"])


def _numbers(run: Run) -> str:
    """A table of the test split's values; "" where there are none."""
    rows = [
        f"| {in_markdown(name)} | {values.best:.4f} ({values.best_epoch}) | {values.last:.4f} |"
        for name, values in run.values().items()
    ]
    if not rows:
        return ""
    header = ["| metric | best test epoch (its number) | last epoch |", "|---|---|---|"]
    title = f"## Results on the test split of {in_markdown(run.dataset)}"
    return "\n".join([title, "", *header, *rows])


def _provenance(run: Run | None, stage: str, licence: str) -> str:
    """Results are of the run, of which the checkpoint may be of any epoch: it says which."""
    lines = [
        f"- Made by language-guided deep metric learning, version {VERSION}.",
        f"- Weights: those {stage}.",
    ]
    if run:
        counts = run.counts.get("Train", {}).items()
        data = ", ".join([run.dataset, *(f"{number} {what}" for what, number in counts)])
        lines.append(f"- Training data: {in_markdown(data)}.")
        if command := run.facts.get("command"):
            lines.append(f"- Command: {as_code(without_folders(str(command)))}")
    lines.append(
        f"- Licence: {in_markdown(licence)}. Weights of the trunk and images of the training data "
        "may have terms of their own."
    )
    return "\n".join(["## Where it comes from", "", *lines])


def without_folders(command: str) -> str:
    """A command to show to others: of places on this machine the last names alone."""
    try:
        words = shlex.split(command)
    except ValueError:  # no run has written it so
        words = command.split()
    return shlex.join(FOLDERS.sub(".../", word) for word in words)
