"""From a training split to its language guide: all is encoded once, before training."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from language_guidance import (
    class_matrix,
    controls,
    language_models,
    pseudolabels,
    word_vectors,
    zero_shot,
)
from language_guidance.cache import digest, remember
from language_guidance.guide import ContrastiveGuide, Guide, LanguageGuide, SquaredGuide
from language_guidance.similarities import BankSimilarities, Blend, MatrixSimilarities, Source
from language_guidance.text_bank import TextBank
from utilities import processes, text_file
from utilities.errors import UserError, named
from utilities.fingerprint import contents, stamps
from utilities.report import duration
from utilities.types import Batch, PixelBatch

LOG = logging.getLogger(__name__)
UNIT_TOLERANCE = 1e-2  # of the length of a normalised vector, which is 0 where there is none
ALIKE = 1e-4  # between unit vectors that a model gives to what it does not tell apart


class GuidanceSettings(NamedTuple):
    """The `--language_*` flags by name."""

    model: str = "clip"
    weights: str | None = None
    primer: Sequence[str] = ("a photo of a {}",)
    loss: str = "kl"
    distill_dir: str = "backward"
    shift: float = 1.0
    temp: float = 1.0
    map_temp: float = 0.07
    delay: int = 0
    rise: int = 0
    half_life: int = 0
    pseudoclass: bool = False
    pseudoclass_topk: int = 5
    pseudoclass_level: str = "class"
    pseudoclass_share: float = 1.0
    pseudoclass_ranks: str = "equal"
    pseudoclass_mean: str = "logits"
    control: str = "none"
    control_seed: int = 0

    @property
    def reads_names(self) -> bool:
        return not self.pseudoclass or self.pseudoclass_share < 1

    @property
    def reads_pseudolabels(self) -> bool:
        return self.pseudoclass and self.pseudoclass_share > 0

    @property
    def classifies(self) -> bool:
        """Whether a classifier looks at the images."""
        reads_texts = self.control not in controls.WITHOUT_TEXTS
        return reads_texts and self.reads_pseudolabels and not class_matrix.file_of(self.model)


class Classifier(NamedTuple):
    """The pretrained classifier of PLG and the training images, loaded only for new outputs."""

    identity: tuple[object, ...]  # plain values that its outputs depend on, a weights file as Path
    files: list[str]  # N training images
    boxes: np.ndarray | None  # [N, 4], the part of each image that it sees, or None for all of it
    load: Callable[[], nn.Module]
    batches: Callable[[nn.Module], Iterable[Batch | PixelBatch]]  # under its own transform
    names: list[str] | None = None  # of its V classes; None: the 1000 of ImageNet
    # Of classifiers by texts: what encodes the names, in the space of the vectors [N, E] that the
    # network gives of images. None: it gives logits.
    texts: language_models.LanguageModel | None = None


class Guidance(NamedTuple):
    """What guides a run."""

    guide: Guide
    # Of each class: its captions, the pseudolabels for PLG in the order of their ranks, or both;
    # where each image has its own pseudolabels, those that any image of the class reads.
    texts: list[list[str]]
    times: list[list[int]] | None = None  # how many images of the class read each text, likewise
    # Of pseudolabels by class, for each text: the classifier's probability (None for names), and
    # its share in the similarities of the class where texts count differently.
    probabilities: list[list[float | None]] | None = None
    shares: list[list[float]] | None = None


class _Read(NamedTuple):
    """What a batch's similarities come from, and what a person reads of it, as of `Guidance`."""

    source: Source
    texts: list[list[str]]
    times: list[list[int]] | None = None
    probabilities: list[list[float | None]] | None = None
    shares: list[list[float]] | None = None


class _Texts(NamedTuple):
    """Texts as a bank, and as what a person reads of each class; all else as of `Guidance`.

    Attributes:
        names: T, what the rows of the bank say, if each is of one text.
    """

    bank: TextBank
    names: list[str] | None
    texts: list[list[str]]
    times: list[list[int]] | None = None
    probabilities: list[list[float | None]] | None = None
    shares: list[list[float]] | None = None

    def shuffled(self, donors: torch.Tensor, labels: torch.Tensor) -> "_Texts":
        """Those of class `donors[c]` [C] at class c."""
        bank, giving = controls.shuffle(self.bank, donors, labels), donors.tolist()
        if bank.by_image and self.names:
            return _texts_of_images(bank, self.names, labels)
        return _Texts(
            bank,
            self.names,
            [self.texts[donor] for donor in giving],
            None,
            self.probabilities and [self.probabilities[donor] for donor in giving],
            self.shares and [self.shares[donor] for donor in giving],
        )


class _Encoder(NamedTuple):
    """A language model behind primers, whose vectors are kept on disk."""

    model: language_models.LanguageModel
    primers: list[str]
    cache: Path
    device: torch.device

    def vectors(self, texts: list[str], *, may_lack: bool = False) -> torch.Tensor:
        """[T, E] float32, on the CPU; of several primers the mean of the unit vectors.

        Args:
            may_lack: zeros stay of texts of which word vectors have no word.
        Raises:
            UserError: a text whose vector has no direction.
        """
        loaded = self._replace(model=self.model._replace(load=lru_cache(1)(self.model.load)))
        of_primers, seconds = zip(*(loaded._vectors(texts, primer) for primer in self.primers))
        for vectors in of_primers:
            _require_directions(
                vectors, texts, may_be_zero=may_lack and not self.model.knows_sentences
            )
        within = f" in {len(self.primers)} primers" if len(self.primers) > 1 else ""
        _tell(f"{len(texts):,} texts encoded{within}", sum(seconds))
        vectors = of_primers[0]
        if len(of_primers) > 1:
            vectors = torch.stack([normalize(each, dim=1) for each in of_primers]).mean(0)
        _tell_of_alike(texts, vectors)
        return vectors

    def _vectors(self, texts: list[str], primer: str) -> tuple[torch.Tensor, float]:
        """[T, E], and the seconds in which they were encoded, 0 of those that were kept."""
        seconds = 0.0

        def compute() -> torch.Tensor:
            nonlocal seconds
            started = time.monotonic()
            vectors = processes.from_main(
                language_models.encode, self.model, texts, primer, self.device
            )
            seconds = time.monotonic() - started
            return vectors

        key = digest(language_models.ENCODING_VERSION, self.model.identity, texts, primer)
        vectors = remember(self.cache, "text", key, compute, shape=(len(texts), None))
        return vectors, seconds


def _tell_of_alike(texts: list[str], vectors: torch.Tensor) -> None:
    """Warns of texts with the vector of another one, as those of words that a model does not know.

    Those that differ in capitals alone may be alike. Alike vectors lie side by side in the order
    along any direction.
    """
    places = torch.tensor(
        list({text.casefold(): place for place, text in enumerate(texts)}.values())
    )
    units = normalize(vectors[places], dim=1)
    direction = torch.randn(units.shape[1], generator=torch.Generator().manual_seed(0))
    order = (units @ direction).argsort()
    units, places = units[order], places[order]
    is_as_before = (units.diff(dim=0).norm(dim=1) < ALIKE) & units[1:].any(dim=1)
    nothing = is_as_before.new_zeros(1)
    is_alike = torch.cat([nothing, is_as_before]) | torch.cat([is_as_before, nothing])
    if is_alike.any():
        LOG.warning(
            "%d of the %d texts have the vector of another one, as if the language model did not "
            "know their words: it cannot tell them apart, %s.",
            is_alike.sum(),
            len(texts),
            named([texts[place] for place in places[is_alike].sort().values.tolist()], 8),
        )


def _require_directions(
    vectors: torch.Tensor, texts: list[str], *, may_be_zero: bool = False
) -> None:
    """Raises UserError for a vector without direction: similarities by it would mean nothing."""
    is_unit = (normalize(vectors, dim=1).norm(dim=1) - 1).abs() < UNIT_TOLERANCE
    is_fine = is_unit | ~vectors.bool().any(dim=1) if may_be_zero else is_unit
    if not is_fine.all():
        row = int(is_fine.int().argmin())
        raise UserError(
            f"--language_model: the vector of the text {texts[row]!r} is zero, as where none of "
            "its words is known, or beyond what can be computed with; give another text with "
            "--class_text, or take another model."
        )


def build(
    settings: GuidanceSettings,
    captions: list[tuple[str, ...]],
    labels: torch.Tensor,
    *,
    cache: Path,
    device: torch.device,
    classifier: Classifier | None = None,
    embed_dim: int | None = None,
    class_names: Sequence[tuple[str, ...]] | None = None,
) -> Guidance:
    """The guide of a training split, and the texts that it reads of each class.

    Args:
        captions: what guidance reads of each of C classes, usually one text; the vectors of several
            are normalised and averaged.
        labels: [N] long. cache: folder of encoded texts and of logits.
        classifier: needed with `settings.pseudoclass`. embed_dim: of the images' embeddings, needed
            for the loss `contrastive`. class_names: of each class what it may be called in a file
            of similarities, needed with the model `matrix:FILE`.
    Raises:
        UserError: a model that can be neither found nor downloaded, a file that does not fit.
    """
    if settings.control in controls.WITHOUT_TEXTS:
        read = _without_texts(settings, len(captions))
    elif file := class_matrix.file_of(settings.model):
        read = _given(settings, file, class_names)
    else:
        encoder = _encoder(settings, cache, device)
        read = _by_texts(settings, encoder, captions, labels, classifier)
    guide = _guide(settings, read.source, embed_dim)
    return Guidance(guide.to(device), *read[1:])


def digests_of_texts(
    settings: GuidanceSettings,
    captions: list[tuple[str, ...]],
    vocabulary: str | None = None,
    classifier: Path | None = None,
) -> dict[str, str]:
    """By what it is noticed that files say something else than before: a digest of each source.

    Args:
        captions: as for `build`. vocabulary: file of the words of a zero-shot classifier.
        classifier: file or folder of the weights of the classifier, if it is here.
    Raises:
        UserError: a file that cannot be read.
    """
    if settings.control in controls.WITHOUT_TEXTS:
        return {}
    kind, _, file = settings.model.partition(":")
    if kind == class_matrix.KIND:
        return {"similarities": _digest_of(file, settings.model)}
    digests = {}
    if kind == word_vectors.KIND:
        digests["word vectors"] = _digest_of(file, settings.model)
    elif weights := language_models.weights_of(settings.model, settings.weights):
        digests["weights of the language model"] = digest(contents(weights))
    if settings.reads_names:
        digests["class texts"] = digest(captions)
    if settings.reads_pseudolabels and vocabulary:
        digests["vocabulary"] = digest(zero_shot.read_vocabulary(vocabulary))
    if settings.reads_pseudolabels and classifier:
        digests["weights of the classifier"] = digest(contents(classifier))
    return digests


def _digest_of(file: str, model: str) -> str:
    try:
        return digest(*text_file.with_rows(file))
    except OSError as error:
        raise UserError(f"--language_model {model} cannot be read ({error.strerror}).") from error


def _without_texts(settings: GuidanceSettings, classes: int) -> _Read:
    """A control for which nothing is read."""
    unrelated = controls.unrelated(settings.control, classes, settings.control_seed)
    return _Read(unrelated, [[] for _ in range(classes)])


def _given(
    settings: GuidanceSettings, file: str, class_names: Sequence[tuple[str, ...]] | None
) -> _Read:
    """Similarities of a file; a class reads its name there."""
    if class_names is None:
        raise ValueError("A matrix of similarities needs the names of the classes.")
    similarities, rows, names = class_matrix.read(file, class_names)
    if settings.control == "shuffle":
        rows = rows[controls.shuffled_classes(len(rows), settings.control_seed)]
    source = MatrixSimilarities(similarities, rows)
    return _Read(source, [[names[row]] for row in rows.tolist()])


def _by_texts(
    settings: GuidanceSettings,
    encoder: _Encoder,
    captions: list[tuple[str, ...]],
    labels: torch.Tensor,
    classifier: Classifier | None,
) -> _Read:
    """Vectors of captions, of pseudolabels or of both, under a control if one is asked for."""
    read = []
    if settings.reads_names:
        if len(set(captions)) < 2 <= len(captions):
            LOG.warning("All classes have the text %r: it cannot tell them apart.", captions[0][0])
        bank = _caption_bank(encoder, captions)
        read.append(_Texts(bank, None, [list(group) for group in captions]))
    if settings.reads_pseudolabels:
        if classifier is None:
            raise ValueError("Pseudolabels need a classifier.")
        read.append(_pseudolabel_texts(settings, encoder, classifier, labels))
    if settings.control == "shuffle":
        donors = controls.shuffled_classes(len(captions), settings.control_seed)
        read = [texts.shuffled(donors, labels) for texts in read]
    sources = [BankSimilarities(texts.bank) for texts in read]
    if len(read) == 1:
        return _Read(sources[0], *read[0][2:])
    share = settings.pseudoclass_share
    texts, times = _both(read[0], read[1], labels)
    probabilities, shares = _ranks_of_both(read[0], read[1], share)
    return _Read(Blend(sources, [1 - share, share]), texts, times, probabilities, shares)


def _guide(settings: GuidanceSettings, source: Source, embed_dim: int | None) -> Guide:
    schedule = {name: getattr(settings, name) for name in ("delay", "rise", "half_life")}
    if settings.loss == "squares":
        return SquaredGuide(source, **schedule)
    if settings.loss == "contrastive":
        if embed_dim is None:
            raise ValueError("The loss contrastive needs the dimension of the embeddings.")
        return ContrastiveGuide(
            source,
            embed_dim=embed_dim,
            temperature=settings.map_temp,
            seed=torch.initial_seed(),  # of the run, however much was drawn since
            **schedule,
        )
    return LanguageGuide(
        source,
        direction=settings.distill_dir,
        shift=settings.shift,
        temperature=settings.temp,
        **schedule,
    )


def _both(
    names: _Texts, pseudolabels: _Texts, labels: torch.Tensor
) -> tuple[list[list[str]], list[list[int]] | None]:
    """The names of each class before its pseudolabels; all images of a class read its names."""
    texts = [own + seen for own, seen in zip(names.texts, pseudolabels.texts)]
    if pseudolabels.times is None:
        return texts, None
    sizes = labels.bincount(minlength=len(texts)).tolist()
    of_names = [[size] * len(own) for size, own in zip(sizes, names.texts)]
    return texts, [all_read + seen for all_read, seen in zip(of_names, pseudolabels.times)]


def _ranks_of_both(
    names: _Texts, pseudolabels: _Texts, share: float
) -> tuple[list[list[float | None]] | None, list[list[float]] | None]:
    """Probabilities and shares of the names of each class and its pseudolabels, by class."""
    if pseudolabels.probabilities is None:
        return None, None
    probabilities: list[list[float | None]] = []
    shares = []
    for label, seen in enumerate(pseudolabels.probabilities):
        count = len(names.texts[label])
        own = pseudolabels.shares[label] if pseudolabels.shares else [1 / len(seen)] * len(seen)
        probabilities.append([*[None] * count, *seen])
        shares.append([(1 - share) / count] * count + [share * part for part in own])
    return probabilities, shares


def class_vectors(
    settings: GuidanceSettings,
    captions: list[tuple[str, ...]],
    *,
    cache: Path,
    device: torch.device,
) -> torch.Tensor:
    """[C, E] unit vectors of classes by their captions, for metrics and figures.

    Raises UserError as `build`.
    """
    bank = _caption_bank(_encoder(settings, cache, device), captions)
    return normalize(bank.vectors, dim=1)[bank.assignment[:, 0]]


def _encoder(settings: GuidanceSettings, cache: Path, device: torch.device) -> _Encoder:
    model = language_models.select(settings.model, settings.weights)
    primers = language_models.primers(settings.primer) if model.knows_sentences else ["{}"]
    return _Encoder(model, primers, cache, device)


def _caption_bank(encoder: _Encoder, captions: list[tuple[str, ...]]) -> TextBank:
    """One rank: the mean of the unit vectors of a class's captions.

    Classes that read alike share a row: the 11,318 training classes of Stanford Online Products
    have 12 texts.
    """
    groups = list(dict.fromkeys(captions))
    vectors = _group_means(encoder, groups)
    row_of = {group: row for row, group in enumerate(groups)}
    return TextBank(vectors, torch.tensor([row_of[group] for group in captions])[:, None])


def _group_means(encoder: _Encoder, groups: list[tuple[str, ...]]) -> torch.Tensor:
    """[G, E]: the mean of the unit vectors of each group of texts."""
    texts = list(dict.fromkeys(text for group in groups for text in group))
    row_of = {text: row for row, text in enumerate(texts)}
    units = normalize(encoder.vectors(texts), dim=1)
    rows = torch.tensor([row_of[text] for group in groups for text in group])
    sizes = torch.tensor([len(group) for group in groups])
    owners = torch.arange(len(groups)).repeat_interleave(sizes)
    sums = units.new_zeros(len(groups), units.shape[1]).index_add_(0, owners, units[rows])
    return sums / sizes[:, None]


def _pseudolabel_texts(
    settings: GuidanceSettings, encoder: _Encoder, classifier: Classifier, labels: torch.Tensor
) -> _Texts:
    """The classes of the classifier that the images show, by class or by image."""
    names = pseudolabels.class_names() if classifier.names is None else classifier.names
    vocabulary = sorted(set(names))
    # Before the classification, which may take an hour: a language model that cannot be had
    # should fail first.
    vectors = encoder.vectors(vocabulary, may_lack=True)
    row_of = {name: row for row, name in enumerate(vocabulary)}
    text_rows = torch.tensor([row_of[name] for name in names])  # [V] of the classifier's classes
    is_known = vectors.bool().any(dim=1)[text_rows]
    _require_enough(is_known, names, settings.pseudoclass_topk)
    if classifier.texts is None:
        logits = _outputs(classifier, encoder, (len(labels), len(names)))
    else:
        primers = language_models.primers(settings.primer)
        of_names = encoder._replace(model=classifier.texts, primers=primers).vectors(names)
        images = _outputs(classifier, encoder, (len(labels), of_names.shape[1]))
        logits = images @ normalize(of_names, dim=1).T
    by_image = settings.pseudoclass_level == "sample"
    if not by_image:
        logits = pseudolabels.class_means(logits, labels, settings.pseudoclass_mean)
    of_known = logits if is_known.all() else logits.masked_fill(~is_known, -torch.inf)
    ranked = pseudolabels.top_samples(of_known, settings.pseudoclass_topk)
    is_equal = settings.pseudoclass_ranks == "equal"
    shares = None if is_equal else pseudolabels.rank_shares(logits, ranked)
    assignment = text_rows[ranked]
    bank = TextBank(vectors, assignment, by_image=by_image, shares=shares)
    if by_image:
        return _texts_of_images(bank, vocabulary, labels)
    texts = [[vocabulary[row] for row in rows] for rows in assignment.tolist()]
    probabilities = logits.softmax(1).gather(1, ranked).tolist()
    shown = None if shares is None else shares.tolist()
    return _Texts(bank, vocabulary, texts, None, probabilities, shown)


def _texts_of_images(bank: TextBank, names: list[str], labels: torch.Tensor) -> _Texts:
    """A bank by image, and of each class what its images read, the commonest first."""
    rows, times = _commonest(bank.assignment, labels, len(names))
    return _Texts(bank, names, [[names[row] for row in of_class] for of_class in rows], times)


def _require_enough(is_known: torch.Tensor, names: list[str], topk: int) -> None:
    """Raises UserError for more ranks than classes; tells those that are no pseudolabels.

    Args:
        is_known: [V], whether the language model has words of a class.
    """
    unknown = [name for name, known in zip(names, is_known.tolist()) if not known]
    count = len(names) - len(unknown)
    if topk > count:
        which = " that --language_model has words of" if unknown else ""
        raise UserError(
            f"--language_pseudoclass_topk {topk} is more than the {count} classes of the "
            f"classifier{which}."
        )
    if unknown:
        LOG.warning(
            "%d of the %d classes of the classifier are never pseudolabels, because "
            "the language model has no word of them: %s.",
            len(unknown),
            len(names),
            named(unknown),
        )


def _commonest(
    by_image: torch.Tensor, labels: torch.Tensor, texts: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Of each class the texts of its images, the commonest first, and how many images have each.

    Args:
        by_image: [N, k] rows of texts. labels: [N]. texts: number of all.
    """
    own = by_image.sort(dim=1).values
    is_other = torch.ones_like(own, dtype=torch.bool)  # two ImageNet classes may have one name
    is_other[:, 1:] = own[:, 1:] != own[:, :-1]
    # By what there is, not by pairs of classes and texts, which may be hundreds of millions.
    cells, counts = (labels[:, None] * texts + own)[is_other].unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    order = order[(cells[order] // texts).argsort(stable=True)]
    sizes = (cells // texts).bincount(minlength=int(labels.max()) + 1).tolist()
    rows, times = (cells[order] % texts).split(sizes), counts[order].split(sizes)
    return [part.tolist() for part in rows], [part.tolist() for part in times]


def _outputs(classifier: Classifier, encoder: _Encoder, shape: tuple[int, int]) -> torch.Tensor:
    """What the classifier gives of the training images: logits [N, V], or vectors [N, E]."""

    def compute() -> torch.Tensor:
        started = time.monotonic()
        network = classifier.load()
        batches = classifier.batches(network)
        outputs = pseudolabels.classify(network, batches, count=shape[0], device=encoder.device)
        _tell(f"{shape[0]:,} images classified", time.monotonic() - started)
        return outputs

    key = digest(
        pseudolabels.LOGITS_VERSION,
        list(zip(classifier.files, stamps(classifier.files))),
        None if classifier.boxes is None else classifier.boxes.tolist(),
        *classifier.identity,
    )
    kind = "logits" if classifier.texts is None else "images"
    return remember(encoder.cache, kind, key, compute, shape=shape)


def _tell(what: str, seconds: float) -> None:
    """How long it took, if it was not kept from an earlier run."""
    if seconds:
        took = duration(seconds) if seconds >= 1 else "less than a second"
        LOG.info("%s, which took %s, loading the model included; kept in --cache_path.", what, took)
