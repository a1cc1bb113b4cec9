"""From the states of a text model's tokens to one vector for each sentence.

Each kind of model is read as it was trained: towers of image and text by their projection, sentence
models as their pooling file says, decoders by the last token, everything else by the mean.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import normalize

# (states [T, L, E], mask [T, L] of tokens that are none of padding) -> [T, E]
Pooling = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
MODULES = "modules.json"  # of a sentence model: its parts, one after the other
PARTS = ("1_Pooling", "config_sentence_transformers.json")  # which only such a model has
# Any of these says how a sentence model takes its texts, whatever trunk it has.
READING = [
    f"sentence_{trunk}_config.json"
    for trunk in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
# As older files switch them on, in the order in which their results then stand side by side.
POOLING_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
}
# What a dense layer reads and writes, where its file does not say it.
VECTOR = "sentence_embedding"


def mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Over the tokens.

    Poolers are untrained (RoBERTa) or meant for another task (BERT).
    """
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def first(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The first token, which sentence models train to stand for all."""
    return states[torch.arange(len(states), device=states.device), mask.int().argmax(1)]


def last(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The last token: of a decoder the only one that has seen the whole sentence."""
    places = torch.arange(mask.shape[1], device=mask.device)
    return states[torch.arange(len(states), device=states.device), (places * mask).argmax(1)]


def largest(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The largest value of each dimension over the tokens."""
    return states.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(1)


# By the names that the files of sentence models have for them.
POOLINGS: dict[str, Pooling] = {"mean": mean, "cls": first, "max": largest, "lasttoken": last}


def kind_of(config: Any) -> str:
    """The pooling of a model without a pooling file: `lasttoken` of decoders, else `mean`.

    Args:
        config: of transformers, as its config.json says it.
    """
    from transformers.models.auto import modeling_auto

    if config.is_encoder_decoder:  # of which the encoder reads
        return "mean"
    decoders = set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    decoders -= set(modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    is_decoder = any(name.endswith("ForCausalLM") for name in config.architectures or ())
    return "lasttoken" if config.model_type in decoders or is_decoder else "mean"


class Reading(NamedTuple):
    """How a sentence model takes its texts.

    Attributes:
        limit: of the tokens of a text; None where it does not say. in_lower_case: whether it sees
            no capital letters, whatever its tokenizer knows.
    """

    limit: int | None = None
    in_lower_case: bool = False


class UnitLength(nn.Module):
    """Vectors [T, E] -> their directions."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return normalize(vectors, dim=1)


class SentenceHead(nn.Module):
    """What the files of a sentence model put on top of the token states: pooling, dense layers."""

    def __init__(self, kinds: list[str], layers: list[nn.Module]):
        super().__init__()
        self.kinds, self.layers = kinds, nn.Sequential(*layers)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        pooled = [POOLINGS[kind](states, mask) for kind in self.kinds]
        return self.layers(torch.cat(pooled, dim=1))


def sentence_head(find: Callable[[str], Path | None]) -> SentenceHead | None:
    """The head that a model's own files describe; None of a model without such files.

    Args:
        find: a name within the model's repository -> its file, if there is one.
    Raises:
        ValueError: a part that is not known here.
    """
    listed = find(MODULES)
    if listed is None:
        return None
    kinds: list[str] = []
    layers: list[nn.Module] = []
    for part in json.loads(listed.read_text()):
        name, folder = part["type"].rpartition(".")[2], part["path"]
        if name == "Pooling":
            kinds = _kinds(_json(find, f"{folder}/config.json"))
        elif name == "Dense":
            layers.append(_dense(find, folder))
        elif name == "Normalize":
            layers.append(UnitLength())
        elif name != "Transformer":
            raise ValueError(f"{MODULES} asks for a part {name}, which is not known here")
    if layers and isinstance(layers[-1], UnitLength):
        layers.pop()  # guidance normalises
    return SentenceHead(kinds or ["mean"], layers)


def require_whole(folder: Path) -> None:
    """Raises ValueError for a folder with parts of a sentence model and without their list."""
    found = [part for part in PARTS if (folder / part).exists()]
    if found and not (folder / MODULES).exists():
        raise ValueError(f"{MODULES} is missing, which lists the parts, such as {found[0]}")


def reading(find: Callable[[str], Path | None]) -> Reading:
    """How the model's own files say that it takes its texts."""
    name = next(filter(find, READING), None)
    config = _json(find, name) if name else {}
    return Reading(config.get("max_seq_length"), bool(config.get("do_lower_case")))


def _kinds(config: Mapping[str, Any]) -> list[str]:
    """The poolings that are on, in the order in which their results stand side by side."""
    modes = config.get("pooling_mode") or _switched_on(config)
    kinds = [modes] if isinstance(modes, str) else modes
    if unknown := [kind for kind in kinds if kind not in POOLINGS]:
        raise ValueError(f"a pooling {unknown[0]} is not known here")
    return kinds


def _switched_on(config: Mapping[str, Any]) -> list[str]:
    """The modes of an older file; of one that is not known its switch."""
    known = [mode for name, mode in POOLING_SWITCHES.items() if config.get(name)]
    return known + [
        name
        for name, is_on in config.items()
        if name.startswith("pooling_mode_") and is_on and name not in POOLING_SWITCHES
    ]


def _dense(find: Callable[[str], Path | None], folder: str) -> nn.Module:
    from safetensors.torch import load_file

    config = _json(find, f"{folder}/config.json")
    if config.get("use_residual"):
        raise ValueError("a dense layer with use_residual is not known here")
    for end in ("module_input_name", "module_output_name"):
        if (config.get(end) or VECTOR) != VECTOR:
            raise ValueError(f"a dense layer with {end} {config[end]} is not known here")
    layer = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh").rpartition(".")[2]
    if name not in ("Tanh", "Identity", "GELU", "ReLU"):
        raise ValueError(f"a dense layer with {name} is not known here")
    file = find(f"{folder}/model.safetensors")
    if file is None:
        raise ValueError(f"{folder}/model.safetensors is missing")
    weights = load_file(file)
    layer.load_state_dict({key.removeprefix("linear."): value for key, value in weights.items()})
    return nn.Sequential(layer, getattr(nn, name)())


def _json(find: Callable[[str], Path | None], name: str) -> dict[str, Any]:
    file = find(name)
    if file is None:
        raise ValueError(f"{name} is missing")
    return json.loads(file.read_text())
