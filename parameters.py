"""Every flag of the command line, declared once with its bounds and what it depends on.

Validation, `--help`, `--list`, docs/flags.md and the notices for settings without effect follow
from the declarations; what is wrong only of several flags together stands in COMBINATIONS. This
module imports nothing heavy, so that a wrong setting is told before anything is loaded. Names of
components are repeated here for that reason; `tests/test_parameters.py` holds them against the
registries. Flags, defaults and argparse groups of the paper's repository are as there.

`python parameters.py > docs/flags.md` writes the tables of the documentation.
"""

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

from utilities import processes
from utilities.documents import from_json
from utilities.errors import on_one_line
from utilities.flags import (
    LARGEST,
    Bounds,
    Choice,
    Flag,
    Need,
    Place,
    Real,
    Settings,
    Switch,
    Text,
    Whole,
    above,
    abridged,
    at_least,
    entries_of,
    in_block,
    in_words,
    nearest_of,
    needs_above_zero,
    needs_off,
    needs_on,
    needs_one_of,
    needs_other_than,
    read_command_line,
    read_settings_file,
    read_stored,
    repetitions,
    spellings,
    table,
    within,
)
from utilities.flags import notices as idle_settings
from utilities.paths import absent, expanded, unreachable, without_home
from utilities.run_names import NAMED_BY_GROUP, run_name
from utilities.streams import reader_may_leave
from utilities.version import NAME, VERSION

PROGRAM = "main.py"
HELP_WIDTH = 78
HIDDEN = "***"
USUAL_COLUMNS = 80  # where there is no terminal
LONGEST_NAME = 230  # bytes of a run folder's name; file systems take 255
WANDB_KEY_PLACEHOLDER = "<your_wandb_key>"
# The argparse groups of the paper's script, in which scripts and tools look for its flags.
BASIC = "basic_training_parameters"
BATCHES = "batch_creation_parameters"
MINING = "batchmining_specific_parameters"
OBJECTIVES = "loss_specific_parameters"
WANDB = "wandb_parameters"
GUIDANCE = "language_guidance_parameters"
GROUPS = (BASIC, BATCHES, MINING, OBJECTIVES, WANDB, GUIDANCE)
# What `--help TOPIC` takes beside names of objectives, miners and samplers.
TOPICS = {
    "run": "where a run is written, how it is named, goes on, and on which device it computes",
    "data": "datasets, validation splits, augmentation",
    "images": "how images are read and kept",
    "batches": "batch size and batch samplers",
    "network": "trunk, embedding head, weights",
    "losses": "objectives and their hyper-parameters",
    "miners": "batch miners and their hyper-parameters",
    "guidance": "language guidance: texts, pseudolabels, distillation",
    "optimisation": "epochs, learning rates, schedule, number format",
    "evaluation": "metrics, their cost, checkpoints that they choose",
    "wandb": "logging to Weights & Biases and TensorBoard",
}
# These say where things are or how fast they are made, not what is made; or are said otherwise.
FREE = (
    "use_float16",
    "channels_last",
    "source_path",
    "save_path",
    "cache_path",
    "savename",
    "gpu",
    "device",
    "kernels",
    "check_images",
    "cache_limit",
    "evaluation_backend",
    "evaluation_memory",
    "evaluate_on_cpu",
    "log_online",
    "project",
    "group",
    "group_by",
    "entity",
    "tags",
    "notes",
    "tensorboard",
    "log_steps",
    "arch_weights",
    "checkpoint_every",
)
# Settings with one meaning: which of two is stated later counts.
SAME_MEANING = {
    "precision": "use_float16",
    "use_float16": "precision",
    "memory_format": "channels_last",
    "channels_last": "memory_format",
}
# auto is what the device is best at. A run stores what that was, and another machine keeps to it.
BY_DEVICE = ("precision", "memory_format")
# Of an evaluated checkpoint's settings: what the evaluation itself must ask for, or against, and
# which GPU of its machine it was trained on.
NOT_INHERITED = ("log_online", "tensorboard", "no_figures", "no_test_metrics", "gpu")

# Components by name, with a line each

PML = "pml:"  # before the name of a class of the optional pytorch-metric-learning
PML_CLASS = f"{PML}<ClassName>"
PML_PATTERN = {"<ClassName>": r"\w+"}
OBJECTIVE_LINES = {
    "contrastive": "Positives nearer than one margin, negatives farther than another, each pair on "
    "its own.",
    "triplet": "The positive nearer than the negative by a margin.",
    "margin": "Positives nearer than beta - margin, negatives farther than beta + margin, with a "
    "beta per class of the anchor.",
    "multisimilarity": "Soft-weighted positive and negative pairs that the margin finds "
    "informative.",
    "npair": "One positive of each anchor against all its negatives at once, on inner products.",
    "arcface": "Normalised softmax whose target must win by an angular margin.",
    "softmax": "Classification by cosine similarity to one learned direction per class.",
    "oproxy": "Proxies pull their samples and push all others; `anchor` sums over samples, `nca` "
    "over proxies.",
    "s2sd": "An objective whose embedding also learns the similarities of wider embeddings that "
    "are trained beside it.",
    "proxynca": "Each sample near the proxy of its class and far from all others, by squared "
    "distance of unit vectors.",
    "softtriplet": "Normalised softmax with several centres per class, softly assigned and drawn "
    "together.",
    "angular": "Bounds the angle at the negative of the triangle of anchor, positive and negative; "
    "N-pair loss beside it.",
    "lifted": "All positives and all negatives of an anchor at once, softly the farthest positive "
    "and the nearest negative.",
    "histogram": "The probability that a random negative pair is more similar than a random "
    "positive pair.",
    "quadruplet": "A triplet loss that also keeps positives nearer to each other than two samples "
    "of two other classes.",
    "snr": "A triplet loss whose distance is the variance of the difference over the variance of "
    "the anchor.",
    "adversarial_separation": "An objective beside auxiliary embeddings that may not know what the "
    "main one knows.",
    "proxyanchor": "Each proxy is an anchor that pulls all samples of its class and pushes all "
    "others of the batch.",
    "supcon": "Each positive of an anchor against all other samples of the batch.",
    "circle": "Pulls and pushes each similarity the harder the farther it is from its optimum.",
    "smooth_ap": "One minus average precision, with a sigmoid in the place of each step of the "
    "ranking.",
    "recall_at_k": "One minus the share of positives among the k nearest, averaged over several k, "
    "with sigmoids for steps.",
    PML_CLASS: "Any objective of pytorch-metric-learning, by the name of its class.",
}
# Objectives on mined triplets or tuples: those that take any miner, and the only miners of others.
ANY_MINER = (
    "contrastive",
    "triplet",
    "margin",
    "quadruplet",
    "snr",
)
MINERS = {"npair": ("npair",), "angular": ("npair",), "lifted": ("lifted",)}
# Objectives around others, with the flags that name those.
COMPOSITES = {
    name: (f"loss_{name}_source", f"loss_{name}_target")
    for name in ("s2sd", "adversarial_separation")
}
# Objectives of anchors against other rows, to which --xbm_size may add some.
ANCHORED = (
    "contrastive",
    "triplet",
    "margin",
    "quadruplet",
    "snr",
    "multisimilarity",
    "supcon",
    "circle",
)
# Objectives with parameters of their own; of pml: the classes with weights.
LEARNING = (
    "margin",
    "arcface",
    "softmax",
    "oproxy",
    "s2sd",
    "proxynca",
    "softtriplet",
    "adversarial_separation",
    "proxyanchor",
    "pml",
)
MINER_LINES = {
    "random": "As many triplets as the batch has samples, from all admissible ones without "
    "replacement; all if there are fewer.",
    "semihard": "A triplet per anchor: a uniform positive and a negative in the margin behind it, "
    "any negative if none is there.",
    "softhard": "A triplet per anchor: a negative nearer than the farthest positive, a positive "
    "farther than the nearest negative.",
    "distance": "A triplet per anchor: a uniform positive, and a negative drawn inversely to how "
    "common its distance is.",
    "rho_distance": "Distance-weighted triplets, some of which push a positive away so that "
    "classes do not collapse.",
    "npair": "One uniform positive per anchor with all its negatives, as (anchor, positive, "
    "negative) for each of them.",
    "intra_random": "As many triplets as the batch has samples, each of three different samples of "
    'one class, the "negative" too.',
    "lifted": "The fewest triplets in which every positive and every negative pair of each anchor "
    "comes at least once.",
    "parametric": "A triplet per anchor: a uniform positive, and a negative by a step function of "
    "its distance.",
    "random_distance": "As many triplets as the batch has samples: random anchors with repetition, "
    "then as the distance miner.",
    "multisimilarity": "Every triplet of an informative positive and an informative negative of "
    "the same anchor.",
    PML_CLASS: "Any miner of pytorch-metric-learning, by the name of its class.",
}
SAMPLER_LINES = {
    "class_random": "Draws random classes and samples_per_class random images of each.",
    "random": "Shuffles all images and cuts them in batches, whatever their class.",
    "semi_class_random": "Draws random images, each followed by another random image of its class.",
    "class_balanced": "Shows every image at least once per epoch, in batches of distinct classes "
    "with samples_per_class images each.",
    "greedy_coreset": "Chooses images that cover a random pool best by greedy k-center, and adds "
    "others of their classes.",
    "d2_coreset": "Draws images of a random pool by their squared distance to those drawn before, "
    "and adds others of their classes.",
    "disthist_batchmatch": "Keeps the one of several random batches whose mean, spread and "
    "pairwise distances are nearest those of a pool.",
    "fid_batchmatch": "Keeps the one of several random batches with the smallest Frechet distance "
    "to a pool.",
}
BATCH_MATCHING = ("disthist_batchmatch", "fid_batchmatch")
POOLED = ("greedy_coreset", "d2_coreset", *BATCH_MATCHING)
WITHOUT_CLASSES = ("random", "semi_class_random")  # they draw images, not samples_per_class of one
_RECALL = "Share of queries with a relevant image among their k nearest."
_PRECISION = "Share of relevant images among the k nearest: (1/k) sum_{r <= k} relevant(r)."
_R_PRECISION = (
    "Share of relevant images among the R nearest, R = n_c - 1 the query's relevant images "
    "(Musgrave et al. 2020)."
)
_MAP_AT_R = (
    "mAP@R: (1 / R) sum_{r <= R} precision(r) relevant(r), R = n_c - 1 (Musgrave et al. 2020)."
)
_MAP_1000 = "The paper's mAP@1000: (1 / n_c) sum_{r <= 1000} precision(r) relevant(r)."
_MAP_LIM = (
    "mAP@1000 with the divisor that a perfect space reaches: (1 / min(1000, n_c - 1)) "
    "sum_{r <= 1000} precision(r) relevant(r)."
)
_MAP = (
    "mAP over the whole gallery: (1 / (n_c - 1)) sum_r precision(r) relevant(r), as in information "
    "retrieval."
)
_NMI = (
    "Normalised mutual information of k-means clusters and classes, "
    "2 I / (H(classes) + H(clusters))."
)
_AMI = (
    "Mutual information adjusted for chance, (I - E[I]) / ((H(classes) + H(clusters)) / 2 - E[I]): "
    "about 0 for random clusters."
)
_F1 = (
    "F1 over pairs of images: 2 TP / (pairs of one class + pairs of one cluster), 0 where there is "
    "no such pair."
)
_SPECTRUM = (
    "KL(uniform || s) of the singular values s of the embedding matrix, normalised to sum 1: 0 "
    "where all directions count alike."
)
_SEVERITY = (
    "How far in language the classes of wrong first neighbours lie from the queries', over that of "
    "random wrong images: 1 is chance, 0 is best."
)
TEXT_METRICS = {"semantic_consistency", "mistake_severity", "c_mistake_severity"}
METRIC_LINES = {
    "e_recall@K": _RECALL,
    "c_recall@K": f"{_RECALL} By cosine.",
    "superclass_recall@K": f"{_RECALL} Of super-classes.",
    "precision@K": _PRECISION,
    "c_precision@K": f"{_PRECISION} By cosine.",
    "r_precision": _R_PRECISION,
    "c_r_precision": f"{_R_PRECISION} By cosine.",
    "mAP@R": _MAP_AT_R,
    "c_mAP@R": f"{_MAP_AT_R} By cosine.",
    "mAP_1000": _MAP_1000,
    "c_mAP_1000": f"{_MAP_1000} By cosine.",
    "mAP_lim": _MAP_LIM,
    "c_mAP_lim": f"{_MAP_LIM} By cosine.",
    "mAP": _MAP,
    "c_mAP": f"{_MAP} By cosine.",
    "nmi": _NMI,
    "c_nmi": f"{_NMI} By cosine.",
    "ami": _AMI,
    "c_ami": f"{_AMI} By cosine.",
    "f1": _F1,
    "c_f1": f"{_F1} By cosine.",
    "dists@intra": "Mean over classes of the mean cosine distance between two different images of "
    "the class.",
    "dists@inter": "Mean cosine distance between the means of two different classes, the means "
    "taken of the embeddings as they are.",
    "dists@intra_over_inter": "Ratio of the two: small where classes are compact beside their "
    "distances, 0 for a single class.",
    "rho_spectrum@M@embeds": _SPECTRUM,
    "rho_spectrum@M@avg_features": _SPECTRUM,
    "semantic_consistency": "Spearman's rank correlation of class similarities in the images and "
    "in language, over all pairs of classes.",
    "mistake_severity": _SEVERITY,
    "c_mistake_severity": f"{_SEVERITY} By cosine.",
    "superclass_mistake_severity": "Share of the wrong first neighbours that lie outside the "
    "super-class, over that of random wrong images: 1 is chance, 0 is best.",
    **{
        f"{prefix}_{name}": f"{line} {after}"
        for prefix, after in {
            "aqe": "By cosine, after average query expansion.",
            "alphaqe": "By cosine, after alpha query expansion.",
            "rerank": "By cosine, after k-reciprocal re-ranking.",
        }.items()
        for name, line in {
            "recall@K": _RECALL,
            "mAP@R": _MAP_AT_R,
            "mAP_1000": _MAP_1000,
            "mAP": _MAP,
        }.items()
    },
}
METRIC_PATTERNS = tuple(METRIC_LINES)
METRIC_PARTS = {"@K": r"@[1-9]\d{0,8}", "@M": r"@-?[1-9]\d{0,8}"}
BENCHMARK_LINES = {
    "cub200": "Caltech-UCSD Birds 200-2011 (Wah et al. 2011): bird species; classes 1-100 train, "
    "101-200 test.",
    "cars196": "Stanford Cars (Krause et al. 2013): makes, models and years of cars; classes 1-98 "
    "train, 99-196 test.",
    "online_products": "Stanford Online Products (Oh Song et al. 2016): products sold online, "
    "split by its lists; guidance reads the 12 super-classes.",
    "inshop": "DeepFashion In-Shop (Liu et al. 2016): clothes as shop and customers show them; "
    "test images are queries or the gallery that they search in.",
}
OWN_DATA_LINES = {
    "folder": "Your own: --source_path is a tree in which a folder with images is a class; train/, "
    "val/ and test/ on top are the split.",
    "table": "Your own: --source_path is a CSV or parquet file with a row per image: path, label, "
    "split, queries and gallery, captions, boxes.",
}
DATASET_LINES = {
    **BENCHMARK_LINES,
    "shapes": "The built-in demo dataset: small pictures of coloured and patterned shapes, drawn "
    "on first use.",
    **OWN_DATA_LINES,
    "<any name>": "Your own: <source_path>/<name>/images/<class folder>/*, the first half of the "
    "classes trains.",
}
LANGUAGE_MODEL_LINES = {
    "clip": "CLIP ViT-B/32, text tower, OpenAI's weights through open_clip: the paper's default.",
    "bert": "bert-base-uncased, mean of the token vectors.",
    "roberta_l": "roberta-large, mean of the token vectors.",
    "minilm": "all-MiniLM-L6-v2, a small sentence model that comes with the requirements and needs "
    "no download.",
    "clip:<model/weights>": "Text tower of any open_clip model: clip:ViT-B-16/laion2b_s34b_b88k, "
    "clip:ViT-B-16/FILE, clip:hf-hub:<repository>.",
    "hf:<name or folder>": "Any text model of the Hugging Face hub or a local folder: towers of "
    "CLIP and SigLIP by their projection, sentence models by their pooling file, decoders by the "
    "last token, others by the mean.",
    "vectors:<file>": "Word vectors (GloVe, fastText, word2vec text; .npy with the words in .txt "
    "beside it), the mean over the words of a text.",
    "matrix:<file>": "Given similarities between classes (.csv or .tsv with names in the first row "
    "and column; .npy with the names in .txt beside it), as they are.",
}
OPEN_MODELS = tuple(name for name in LANGUAGE_MODEL_LINES if ":" in name)
IMAGENET_PRIMERS = "imagenet"
LANGUAGE_LOSS_LINES = {
    "kl": "The paper's: row-wise KL between image and text similarities.",
    "squares": "Squared differences of image and text similarities, between classes.",
    "contrastive": "A learned linear map of the embedding finds the class's text, as in CLIP.",
}
LANGUAGE_CONTROL_LINES = {
    "none": "The texts as they are.",
    "shuffle": "Each class gets the texts of another one.",
    "random": "Each class gets a random unit vector.",
    "onehot": "Classes have nothing in common.",
}
WITHOUT_TEXTS = ("random", "onehot")
OPTIMIZER_LINES = {
    "adam": "Adam with L2 weight decay, the paper's",
    "adamw": "Adam with decoupled weight decay",
    "sgd": "gradient descent with Nesterov's --momentum",
    "lion": "the signs of momentum (timm)",
    "lamb": "Adam with layer-wise rates, for large batches (timm)",
    "nadamw": "AdamW with Nesterov's momentum (timm)",
    "adan": "adaptive Nesterov momentum (timm)",
    "timm:<name>": "any other of timm's factory, by its name there",
}

# What flags depend on


def _objectives(settings: argparse.Namespace) -> set[str]:
    """The objective and those inside it; pml:<ClassName> as pml."""
    inside = [getattr(settings, flag) for flag in COMPOSITES.get(settings.loss, ())]
    return {name.split(":")[0] for name in (settings.loss, *inside)}


def _mines(settings: argparse.Namespace) -> bool:
    """Whether an objective of the run uses the batch miner."""
    objectives = _objectives(settings)
    if "pml" in objectives and settings.batch_mining.startswith(PML):
        return True
    return not objectives.isdisjoint((*ANY_MINER, *MINERS))


def _objective_learns(settings: argparse.Namespace) -> bool:
    """Whether the objective has parameters of its own, as far as its name tells."""
    names = _objectives(settings)
    if names == {"margin"}:
        return not settings.loss_margin_beta_constant
    return not names.isdisjoint(LEARNING)


def _evaluates(settings: argparse.Namespace) -> bool:
    """Whether any split may be evaluated; own data may bring a validation part."""
    return not (settings.no_train_metrics and settings.no_test_metrics) or (
        settings.use_tv_split or settings.dataset in OWN_DATA_LINES
    )


def _draws(settings: argparse.Namespace) -> bool:
    return not (settings.no_figures or settings.no_test_metrics)


def measures_semantics(settings: argparse.Namespace) -> bool:
    """Whether a metric of what is evaluated reads texts."""
    return not TEXT_METRICS.isdisjoint(settings.evaluation_metrics) and _evaluates(settings)


def _is_guided(settings: argparse.Namespace) -> bool:
    """Whether language guides the training."""
    return settings.language_distill_w > 0 and not settings.evaluate_only


def has_given_similarities(settings: argparse.Namespace) -> bool:
    """Whether similarities of classes are read from a file, without any texts."""
    return settings.language_model.startswith("matrix:")


def is_zero_shot(settings: argparse.Namespace) -> bool:
    """Whether the classifier of pseudolabels is a CLIP model, over any words."""
    return settings.language_pseudoclass_arch.startswith("clip:")


def draws_texts(settings: argparse.Namespace) -> bool:
    """Whether figures compare classes with language, which those of a guided network do."""
    return _should_draw_texts(settings) and not _texts_left_behind(settings)


def _should_draw_texts(settings: argparse.Namespace) -> bool:
    is_guided = settings.language_distill_w > 0
    return is_guided and _draws(settings) and not has_given_similarities(settings)


def _texts_left_behind(settings: argparse.Namespace) -> list[str]:
    """What is wrong with the files of texts that an evaluated network was guided by.

    Figures do without them, unless they are asked for again.
    """
    if not settings.evaluate_only:
        return []
    names = (
        {"class_text", "language_weights"} if _model_reads_sentences(settings) else {"class_text"}
    )
    wrong = [
        problem
        for name in sorted(names - settings.typed)
        for problem in BY_NAME[name].problems(getattr(settings, name))
    ]
    return wrong + ([] if "language_model" in settings.typed else _absent_model(settings))


def _is_guided_by_texts(settings: argparse.Namespace) -> bool:
    return _is_guided(settings) and settings.language_control not in WITHOUT_TEXTS


def _reads_texts(settings: argparse.Namespace) -> bool:
    by_texts = _is_guided_by_texts(settings)
    return by_texts or draws_texts(settings) or measures_semantics(settings)


def maps_to_texts(settings: argparse.Namespace) -> bool:
    """Whether guidance learns a map from embeddings to texts."""
    return _is_guided(settings) and settings.language_loss == "contrastive"


def _reads_names(settings: argparse.Namespace) -> bool:
    """Whether guidance by texts reads names of classes, alone or beside pseudolabels."""
    return not settings.language_pseudoclass or settings.language_pseudoclass_share < 1


def reads_class_texts(settings: argparse.Namespace) -> bool:
    """Whether texts of classes are read, as pseudolabels are not."""
    by_texts = _is_guided_by_texts(settings) and not has_given_similarities(settings)
    by_class_texts = by_texts and _reads_names(settings)
    return by_class_texts or draws_texts(settings) or measures_semantics(settings)


def _reads_pseudolabels(settings: argparse.Namespace) -> bool:
    by_texts = _is_guided_by_texts(settings) and settings.language_pseudoclass
    return by_texts and settings.language_pseudoclass_share > 0


def _model_reads_sentences(settings: argparse.Namespace) -> bool:
    """Whether the language model takes sentences; else it knows words or classes."""
    return not settings.language_model.startswith(("vectors:", "matrix:"))


def _named_by_group(settings: argparse.Namespace) -> bool:
    return settings.savename in (NAMED_BY_GROUP, f"{settings.group}_s{settings.seed}")


def _distils(settings: argparse.Namespace) -> bool:
    """Whether s2sd distils from its branches or from the features."""
    by_features = settings.loss_s2sd_feat_distill and settings.loss_s2sd_feat_w > 0
    return settings.loss_s2sd_w > 0 or by_features


TRAINS = Need(lambda settings, _: not settings.evaluate_only, "", "--evaluate_only trains nothing")
TRAINS_OR_DRAWS = Need(
    lambda settings, _: not settings.evaluate_only or _draws(settings),
    "",
    "--evaluate_only trains nothing and draws no figures",
)
EVALUATES = Need(
    lambda settings, _: _evaluates(settings),
    "an evaluated split",
    "no split is evaluated (--no_train_metrics, --no_test_metrics)",
)
TESTS = Need(
    lambda settings, _: not settings.no_test_metrics,
    "an evaluated test split",
    "figures show the test split (--no_test_metrics)",
)
MINES = Need(
    lambda settings, _: _mines(settings),
    "an objective that mines",
    "the objective mines nothing (--loss {loss})",
)
GUIDED = (TRAINS, needs_above_zero("language_distill_w"))
PSEUDOLABELS = needs_on("language_pseudoclass")
OF_PSEUDOLABELS = (PSEUDOLABELS, needs_above_zero("language_pseudoclass_share"))
BY_TEXTS = needs_other_than("language_control", *WITHOUT_TEXTS)
OF_CLASSES = needs_one_of("language_pseudoclass_level", "class")
OF_SENTENCES = Need(
    lambda settings, _: _model_reads_sentences(settings),
    "a model of sentences",
    "--language_model {language_model} reads no sentences",
)
READS_SENTENCES = OF_SENTENCES._replace(
    holds=lambda settings, _: (
        _model_reads_sentences(settings)
        or (is_zero_shot(settings) and _reads_pseudolabels(settings))
    )
)
ZERO_SHOT = Need(
    lambda settings, _: is_zero_shot(settings),
    "--language_pseudoclass_arch clip:<model/weights>",
    "--language_pseudoclass_arch {language_pseudoclass_arch} has classes of its own",
)
BY_KL = needs_one_of("language_loss", "kl")
BY_MAP = needs_one_of("language_loss", "contrastive")
READS_TEXTS = Need(
    lambda settings, _: _reads_texts(settings),
    "--language_distill_w above 0 with --language_control none or shuffle, figures of a guided "
    "run, or the metric semantic_consistency or mistake_severity",
    "neither guidance (--language_distill_w {language_distill_w}, --language_control "
    "{language_control}), figures nor a metric reads texts",
)
READS_CLASS_TEXTS = Need(
    lambda settings, _: reads_class_texts(settings),
    "--language_distill_w above 0 without --language_pseudoclass, figures of a guided run, or the "
    "metric semantic_consistency or mistake_severity",
    "neither guidance (--language_distill_w {language_distill_w}, --language_control "
    "{language_control}), figures nor a metric reads class texts",
)
LEARNS_BESIDE_NETWORK = Need(
    lambda settings, _: _objective_learns(settings) or maps_to_texts(settings),
    "an objective with parameters of its own, or guidance with --language_loss contrastive",
    "neither the objective (--loss {loss}) nor guidance has parameters of its own",
)
LOGGED = Need(
    lambda settings, _: settings.log_online or settings.tensorboard,
    "--log_online or --tensorboard",
    "neither --log_online nor --tensorboard is given",
)
THE_FIRST_GPU = Need(
    lambda settings, index: index == settings.gpu[0] or processes.are_meant(),
    "",
    "only the first is used (--gpu {gpu})",
)
CACHES = needs_other_than("cache", "none")
STEPS = needs_one_of("scheduler", "step")
FALLS = needs_one_of("scheduler", "step", "plateau")
ENDS_AT_FLOOR = needs_one_of("scheduler", "cosine", "plateau")
RESIZED_AT_RANDOM = needs_other_than("augmentation", "red")
HAS_MOMENTUM = Need(
    lambda settings, _: settings.optim == "sgd" or settings.optim.startswith("timm:"),
    "--optim sgd or timm:<name>",
    "--optim {optim} has a momentum of its own",
)
SMALLER_THAN_BATCH = Need(
    lambda settings, images: images < settings.bs,
    "less than --bs",
    "a batch has no more images (--bs {bs})",
)
DECAYS = Need(
    lambda settings, _: settings.decay > 0 or settings.criterion_decay > 0,
    "--decay or --criterion_decay above 0",
    "there is no weight decay (--decay {decay}, --criterion_decay {criterion_decay})",
)
FRESH_WEIGHTS = Need(
    lambda settings, _: settings.resume in (None, "auto"),
    "",
    "the checkpoint of --resume brings its own weights",
)
BY_CLASS_RANDOM = needs_one_of("data_sampler", "class_random")
S2SD_FEATURES = (needs_on("loss_s2sd_feat_distill"), needs_above_zero("loss_s2sd_feat_w"))
OPROXY_SCALED = Need(
    lambda settings, _: (
        (settings.loss_oproxy_mode, settings.loss_oproxy_form) != ("nca", "textbook")
    ),
    "another form than textbook nca",
    "ProxyNCA has no scales (--loss_oproxy_mode nca, --loss_oproxy_form textbook)",
)
RHO_DRAWS = Need(
    lambda settings, _: settings.miner_rho_distance_cp < 1,
    "--miner_rho_distance_cp below 1",
    "every triplet pushes a positive away (--miner_rho_distance_cp {miner_rho_distance_cp})",
)
SEVERAL_CENTRES = Need(
    lambda settings, _: settings.loss_softtriplet_n_centroids > 1,
    "--loss_softtriplet_n_centroids above 1",
    "--loss_softtriplet_n_centroids is {loss_softtriplet_n_centroids}",
)


def _objective(name: str, *flags: Flag) -> tuple[Flag, ...]:
    """The hyper-parameters `--loss_<name>_<parameter>` of an objective."""
    need = Need(
        lambda settings, _: name in _objectives(settings),
        f"--loss {name}",
        f"this run has no objective {name} (--loss {{loss}})",
    )
    return _hyperparameters("loss", name, flags, "losses", OBJECTIVES, (TRAINS, need))


def _miner(name: str, *flags: Flag) -> tuple[Flag, ...]:
    """The hyper-parameters `--miner_<name>_<parameter>` of a batch miner."""
    need = Need(
        lambda settings, _: settings.batch_mining.split(":")[0] == name,
        f"--batch_mining {name}",
        "--batch_mining is {batch_mining}",
    )
    return _hyperparameters("miner", name, flags, "miners", MINING, (TRAINS, MINES, need))


def _hyperparameters(
    kind: str, name: str, flags: Iterable[Flag], topic: str, group: str, needs: tuple[Need, ...]
) -> tuple[Flag, ...]:
    if misnamed := [flag.name for flag in flags if not flag.name.startswith(f"{kind}_{name}_")]:
        raise ValueError(f"hyper-parameters of {name} begin with {kind}_{name}_: {misnamed}")
    return in_block(topic, group, *flags, needs=needs, owner=f"{kind} {name}")


# Forms of texts


def _is_size(text: str) -> object:
    return text == "auto" or re.fullmatch(r"[1-9]\d{0,8}[MG]B", text)


def _is_stored_setting(text: str) -> bool:
    return text in BY_NAME and text not in NOT_STORED


def _is_tag(text: str) -> bool:
    return 1 <= len(text) <= 64  # which is what W&B takes


def _is_folder_name(text: str) -> bool:
    is_text = text.isprintable()  # what is no UTF-8 could not be written into a settings file
    return is_text and "/" not in text and text not in ("", ".", "..")


def _is_primer(text: str) -> bool:
    return "{}" in text or text == IMAGENET_PRIMERS


def _is_json_object(text: str) -> bool:
    if text == "{}":
        return True  # the default, without loading json
    try:
        return isinstance(from_json(text), dict)
    except ValueError:
        return False


# The flags

CUTOFFS = above(0)  # of distances, whose logarithm is taken
SIMILARITIES = within(-100, 100)  # thresholds of inner products, which unit rows have in -1..1
COSINES = within(-1, 1)
DIMENSIONS = within(1, 100_000)
SEEDS = within(0, 2**32 - 1)
RATE_OR_THAT_OF_LR = Bounds(-LARGEST)
DISTANCE_FORMS = {
    "paper": "no upper cut-off, as in the paper's code",
    "textbook": "the upper cut-off is applied",
}
JSON_FORM = "a JSON object such as '{\"margin\": 0.1}'"
SIMPLE_OBJECTIVES = {name: line for name, line in OBJECTIVE_LINES.items() if name not in COMPOSITES}

FLAGS: tuple[Flag, ...] = (
    *in_block(
        "run",
        BASIC,
        Switch("version", "Show the version, and end.", stored=False),
        Switch(
            "list",
            "Show all objectives, miners, samplers, metrics, datasets, language models and "
            "optimisers, and end.",
            stored=False,
        ),
        Place(
            "config",
            None,
            "YAML file of settings that the flags override; the args.yaml of a finished run is "
            "one.",
            metavar="FILE",
            stored=False,
        ),
        Place("save_path", "Training_Results", "Folder under which the run folders are made."),
        Text(
            "savename",
            NAMED_BY_GROUP,
            "Name of the run folder; 'group_plus_seed' makes <group>_s<seed>.",
            metavar="NAME",
            check=_is_folder_name,
            form="the plain name of a folder",
        ),
        Whole("seed", 0, "Seed of initialisation, batches and augmentation.", SEEDS),
        Switch(
            "completed",
            "Skip the run if a finished one of the same dataset, savename and settings exists (for "
            "sweeps that are started again); one of other settings is named.",
            stored=False,
            needs=(TRAINS,),
        ),
        Place(
            "resume",
            None,
            "Go on from a checkpoint: its path, its run folder, or 'auto' for the latest run of "
            "this dataset and savename, which starts anew where there is none.",
            stored=False,
        ),
        Real(
            "checkpoint_every",
            0.0,
            "Minutes between two checkpoints within an epoch, from which resuming is as exact as "
            "from its end; 0: only at the end of an epoch, and when the run is told to stop.",
            at_least(0),
            needs=(TRAINS,),
        ),
        Switch(
            "quiet",
            "Say only warnings, errors and the results; log.txt in the run folder has everything.",
            stored=False,
        ),
        Choice(
            "device",
            "auto",
            "Where the run computes.",
            {
                "auto": "the GPU if there is one",
                "cpu": "the CPU",
                "cuda": "the GPU, or an error where there is none",
            },
        ),
        Whole(
            "gpu",
            (0,),
            "Index of the GPU; the first is used. Of several processes (torchrun) on a machine "
            "each takes one: the first and those behind it, or as many as are given.",
            at_least(0),
            needs=(needs_other_than("device", "cpu"), THE_FIRST_GPU),
        ),
    ),
    *in_block(
        "data",
        BASIC,
        Choice(
            "dataset",
            "cub200",
            "A benchmark, the built-in demo, your own data, or any other folder "
            "<source_path>/<dataset>/images/<class folder>/.",
            DATASET_LINES,
            patterns={"<any name>": r"(?!\.{1,2}$)[^/\x00]+"},
            listed=True,
        ),
        Place(
            "source_path",
            "../../Datasets",
            "Folder that holds the dataset folders; with --dataset folder or table, your folder or "
            "file itself.",
            aliases=("datapath",),
        ),
        Switch(
            "allow_partial",
            "Take a benchmark whose classes and images are not those published; results do not "
            "compare.",
            needs=(needs_one_of("dataset", *BENCHMARK_LINES),),
        ),
        Switch(
            "use_tv_split",
            "Split a validation set off the training set and evaluate on it as well.",
        ),
        Switch(
            "tv_split_by_samples",
            "Split train/validation within each class instead of between classes.",
            needs=(needs_on("use_tv_split"),),
        ),
        Real(
            "tv_split_perc",
            0,
            "Share of the training classes (or samples) that stay in training; 0 stands for the "
            "usual 0.8.",
            at_least(0, below=1),
            needs=(needs_on("use_tv_split"), needs_off("tv_split_classes")),
        ),
        Place(
            "tv_split_classes",
            None,
            "Text file that names the validation classes, one a line, instead of the last ones.",
            metavar="FILE",
            existing="file",
            needs=(needs_on("use_tv_split"), needs_off("tv_split_by_samples")),
        ),
        Choice(
            "augmentation",
            "base",
            "Training augmentation; all mirror half of the images.",
            {
                "base": "random crops of random scale",
                "adv": "the same with changed colours",
                "big": "the same as base, trained and tested on the uncropped size",
                "red": "random crops of the scaled image",
            },
        ),
        Choice(
            "interpolation",
            "bilinear",
            "How images are resized, in training and evaluation.",
            {
                "bilinear": "as the paper does",
                "bicubic": "as most transformers and towers of CLIP were trained",
            },
        ),
        Real(
            "crop_scale_min",
            0.08,
            "Smallest share of the image's area that a random crop shows.",
            above(0, at_most=1),
            needs=(TRAINS, RESIZED_AT_RANDOM),
        ),
        Real(
            "crop_ratio_min",
            0.75,
            "Smallest aspect ratio of a random crop; the largest is its inverse.",
            above(0, at_most=1),
            needs=(TRAINS, RESIZED_AT_RANDOM),
        ),
        Real(
            "color_jitter",
            0.0,
            "Change brightness, contrast and saturation by up to this factor, as torchvision's "
            "ColorJitter; 0: not at all.",
            within(0, 1),
            needs=(TRAINS, needs_other_than("augmentation", "adv")),
        ),
        Whole(
            "rand_augment",
            0,
            "Magnitude of torchvision's RandAugment with two changes an image, after the crop; 9 "
            "is usual, 0: none.",
            within(0, 30),
            needs=(TRAINS,),
        ),
        Whole(
            "image_size",
            224,
            "Side N of the square crops in pixels; evaluation resizes the short side to N*256/224 "
            "and crops the centre.",
            within(16, 4096),
        ),
    ),
    *in_block(
        "images",
        BASIC,
        Whole(
            "kernels",
            6,
            "Number of data loading processes, but no more than there are cores; 0 loads in the "
            "main process.",
            at_least(0),
        ),
        Choice(
            "cache",
            "none",
            "Where decoded images are kept for later epochs, shared by all loading processes.",
            {
                "none": "they are decoded each time",
                "ram": "in memory",
                "disk": "in --cache_path, for other runs too",
            },
        ),
        Real(
            "cache_limit",
            8,
            "GB that --cache may take, which also stays within half of the memory (that of the "
            "machine, or of the container) or free disk; images beyond it are decoded each time.",
            above(0),
            needs=(CACHES,),
        ),
        Whole(
            "cache_size",
            0,
            "Short side in pixels to which --cache reduces larger images, so that more of them "
            "fit; crops are then cut from fewer pixels. 0 keeps all pixels, which changes no crop.",
            at_least(0),
            needs=(CACHES,),
        ),
        Place(
            "cache_path",
            "~/.cache/language_guided_dml",
            "Folder of text embeddings, pseudolabels and --cache disk, kept by content.",
            needs=(
                Need(
                    lambda settings, _: settings.cache == "disk" or _reads_texts(settings),
                    "--cache disk or texts that are read",
                    "neither --cache disk, guidance nor a metric keeps anything there",
                ),
            ),
        ),
        Choice(
            "decoding",
            "fast",
            "How JPEGs are decoded without --cache.",
            {
                "fast": "at 1/2, 1/4 or 1/8 scale where that is no smaller than the crop, within 1 "
                "to 2 of 255 grey levels",
                "exact": "as Pillow decodes",
            },
            needs=(needs_one_of("cache", "none"),),
        ),
        Choice(
            "exif_orientation",
            "apply",
            "What the tag does by which cameras and phones say how a photo is turned. Boxes of a "
            "table are in pixels of what is seen.",
            {
                "apply": "photos are turned, as every viewer shows them",
                "ignore": "pixels are taken as they lie, as in the paper's code",
            },
        ),
        Switch(
            "check_images",
            "Decode every image before training; without it only files are that do not end as a "
            "whole one does.",
            needs=(needs_one_of("on_bad_image", "raise"),),
        ),
        Choice(
            "on_bad_image",
            "raise",
            "What broken images do.",
            {
                "raise": "end the run",
                "skip": "stay out of it, counted and named (includes --check_images)",
            },
        ),
    ),
    *in_block(
        "batches",
        BASIC,
        Whole("bs", 112, "Batch size.", at_least(2)),
        Real(
            "internal_split",
            1,
            "Share of each batch drawn from the first classes (in this share too), the rest from "
            "the others; 1 draws from all alike.",
            above(0, at_most=1),
            needs=(TRAINS, BY_CLASS_RANDOM),
        ),
    ),
    *in_block(
        "batches",
        BATCHES,
        Choice(
            "data_sampler", "class_random", "How batches are drawn.", SAMPLER_LINES, listed=True
        ),
        Switch(
            "data_ssl_set",
            "Draw half a batch and repeat it, so that each image comes with two augmentations.",
            needs=(BY_CLASS_RANDOM,),
        ),
        Whole(
            "samples_per_class",
            2,
            "Images drawn of each class in a batch.",
            at_least(1),
            needs=(needs_other_than("data_sampler", *WITHOUT_CLASSES),),
        ),
        Whole(
            "data_batchmatch_bigbs",
            512,
            "Size of the pool from which coreset and batch-matching samplers choose a batch.",
            within(1, 1_000_000),
            needs=(
                needs_one_of("data_sampler", *POOLED),
                Need(
                    lambda settings, size: size >= settings.bs,
                    "a size of at least --bs",
                    "the pool is at least a batch (--bs {bs})",
                ),
            ),
        ),
        Whole(
            "data_batchmatch_ncomps",
            10,
            "Candidate batches that the batch-matching samplers compare.",
            within(1, 100_000),
            needs=(
                needs_one_of("data_sampler", *BATCH_MATCHING),
                Need(
                    lambda settings, _: settings.data_batchmatch_bigbs > settings.bs,
                    "--data_batchmatch_bigbs above --bs",
                    "the pool is a single batch (--data_batchmatch_bigbs {data_batchmatch_bigbs}, "
                    "--bs {bs})",
                ),
            ),
        ),
        Real(
            "data_d2_coreset_lambda",
            1,
            "Weight of the squared distances beside the uniform share in d2_coreset.",
            at_least(0),
            needs=(needs_one_of("data_sampler", "d2_coreset"),),
        ),
        Whole(
            "data_sampler_lowproj_dim",
            -1,
            "Project stored embeddings at random to this dimension before choosing; -1 does not.",
            within(-1, 100_000),
            needs=(
                needs_one_of("data_sampler", *POOLED),
                Need(
                    lambda settings, dimension: dimension != 0,
                    "",
                    "nothing can be projected to no dimension; -1 says that nothing is",
                ),
                Need(
                    lambda settings, dimension: dimension < settings.embed_dim,
                    "a dimension below --embed_dim",
                    "--embed_dim {embed_dim} is no larger",
                ),
            ),
        ),
        needs=(TRAINS,),
    ),
    *in_block(
        "network",
        BASIC,
        Text(
            "arch",
            "resnet50_frozen_normalize",
            "<trunk>[_frozen][_double][_normalize]: fixed BatchNorm, max added to average pooling, "
            "unit embeddings. A trunk is a timm model, hf-hub:<repository> or local-dir:<folder> "
            "as timm opens them, bninception, googlenet, or clip:<model>/<weights>, an image tower "
            "of open_clip (with _projected through its projection).",
            metavar="NAME",
        ),
        Whole("embed_dim", 128, "Dimension of the embedding.", DIMENSIONS),
        Place(
            "arch_weights",
            None,
            "Weights of the trunk instead of the published ones: a local checkpoint, hf-hub:USER/"
            "NAME for model.safetensors of a repository, or, for clip:, a folder with "
            "open_clip_config.json.",
            metavar="FILE",
            existing="file or folder",
            remote="hf-hub:",
            needs=(TRAINS, FRESH_WEIGHTS),
        ),
        Switch("not_pretrained", "Start from random weights.", needs=(TRAINS, FRESH_WEIGHTS)),
        Whole(
            "lora_rank",
            0,
            "Rank of adapters beside the linear layers of the trunk, of which nothing else learns "
            "(LoRA, by the package peft); BatchNorm stays as with _frozen. 0: the trunk learns.",
            within(0, 4096),
        ),
        Real(
            "lora_alpha",
            16,
            "What the adapters give is taken times this over --lora_rank.",
            above(0),
            needs=(needs_above_zero("lora_rank"),),
        ),
        Choice(
            "memory_format",
            "auto",
            "Memory layout of images and weights.",
            {
                "auto": "channels_last on a GPU that computes in bf16, else contiguous",
                "contiguous": "channel by channel",
                "channels_last": "pixel by pixel, often faster for convolutions",
            },
        ),
        Switch("channels_last", "The same as --memory_format channels_last."),
        Switch(
            "sync_bn",
            "BatchNorms that learn normalise by the images of all processes, as in one process; on "
            "GPUs. Without it each process normalises by its own.",
            needs=(TRAINS,),
        ),
    ),
    *in_block(
        "losses",
        BASIC,
        Choice("loss", "margin", "Objective.", OBJECTIVE_LINES, patterns=PML_PATTERN, listed=True),
        needs=(TRAINS,),
    ),
    *_objective(
        "contrastive",
        Real(
            "loss_contrastive_pos_margin",
            0,
            "Distance below which positives cost nothing.",
            at_least(0),
        ),
        Real(
            "loss_contrastive_neg_margin",
            1,
            "Distance above which negatives cost nothing.",
            at_least(0),
        ),
        Choice(
            "loss_contrastive_form",
            "paper",
            "Shape of the cost.",
            {"paper": "hinges", "textbook": "half the squares of hinges"},
        ),
    ),
    *_objective(
        "triplet",
        Real(
            "loss_triplet_margin",
            0.2,
            "Margin between positive and negative distance.",
            at_least(0),
        ),
        Choice(
            "loss_triplet_form",
            "paper",
            "Distances that are compared.",
            {
                "paper": "squared distances",
                "textbook": "the same as paper",
                "euclidean": "Euclidean distances",
            },
            needs=(
                Need(
                    lambda settings, form: form != "textbook",
                    "",
                    "the paper's code is what the textbook says",
                ),
            ),
        ),
    ),
    *_objective(
        "margin",
        Real("loss_margin_margin", 0.2, "Half width of the band around beta.", at_least(0)),
        Real("loss_margin_beta", 1.2, "Initial value of the class margins beta.", at_least(0)),
        Real(
            "loss_margin_beta_lr",
            0.0005,
            "Learning rate of the class margins beta.",
            at_least(0),
            needs=(needs_off("loss_margin_beta_constant"),),
        ),
        Real(
            "loss_margin_nu",
            0,
            "Weight of the regulariser on beta.",
            at_least(0),
            needs=(needs_off("loss_margin_beta_constant"),),
        ),
        Switch("loss_margin_beta_constant", "Keep beta constant and the same for all classes."),
        Choice(
            "loss_margin_form",
            "paper",
            "What the sum is divided by.",
            {"paper": "active triplets", "textbook": "active pairs"},
        ),
    ),
    *_objective(
        "multisimilarity",
        Whole(
            "loss_multisimilarity_dim",
            0,
            "Axis of the similarity matrix that is summed over.",
            within(0, 1),
            needs=(Need(lambda settings, _: False, "", "the similarity matrix is symmetric"),),
        ),
        Real(
            "loss_multisimilarity_pos_weight", 2, "Scale alpha of positive similarities.", above(0)
        ),
        Real(
            "loss_multisimilarity_neg_weight", 40, "Scale beta of negative similarities.", above(0)
        ),
        Real(
            "loss_multisimilarity_margin", 0.1, "Margin epsilon of the pair mining.", SIMILARITIES
        ),
        Real(
            "loss_multisimilarity_pos_thresh",
            0.5,
            "Threshold lambda of positive similarities.",
            SIMILARITIES,
        ),
        Real(
            "loss_multisimilarity_neg_thresh",
            0.5,
            "Threshold lambda of negative similarities.",
            SIMILARITIES,
        ),
        Choice(
            "loss_multisimilarity_form",
            "paper",
            "Shape of the cost.",
            {"paper": "a softplus around the batch means", "textbook": "the batch means"},
        ),
    ),
    *_objective(
        "npair",
        Real("loss_npair_l2", 0.005, "Weight of the embedding norms.", at_least(0)),
        Real(
            "loss_npair_scale",
            1,
            "Factor on the embeddings (the paper's code: 0.25 for BN-Inception).",
            above(0),
            needs=(needs_one_of("loss_npair_form", "paper"),),
        ),
        Choice(
            "loss_npair_form",
            "paper",
            "What is regularised.",
            {
                "paper": "norms of the batch",
                "textbook": "squared norms of the batch",
                "textbook_mc": "squared norms in use, for --miner_npair_form mc",
            },
        ),
    ),
    *_objective(
        "arcface",
        Real("loss_arcface_lr", 0.0005, "Learning rate of the class weights.", at_least(0)),
        Real("loss_arcface_angular_margin", 0.5, "Angular margin in radians.", within(0, 3.14)),
        Real("loss_arcface_feature_scale", 16, "Inverse temperature.", above(0)),
        Choice(
            "loss_arcface_form",
            "paper",
            "Cosines that are compared.",
            {
                "paper": "clamped to positive ones",
                "textbook": "all, of embeddings as they come",
                "textbook_normalised": "all, of normalised embeddings",
            },
        ),
    ),
    *_objective(
        "softmax",
        Real("loss_softmax_lr", 1e-5, "Learning rate of the class weights.", at_least(0)),
        Real("loss_softmax_temperature", 0.05, "Temperature.", above(0)),
        Choice(
            "loss_softmax_form",
            "paper",
            "Embeddings that are classified.",
            {"paper": "as they come", "textbook": "normalised"},
        ),
    ),
    *_objective(
        "oproxy",
        Choice(
            "loss_oproxy_mode",
            "anchor",
            "Whose sums are taken.",
            {"anchor": "of each proxy (ProxyAnchor)", "nca": "of each sample"},
        ),
        Real(
            "loss_oproxy_lrmulti",
            2000,
            "Learning rate of the proxies as a multiple of --lr.",
            at_least(0),
        ),
        Real(
            "loss_oproxy_pos_alpha",
            32,
            "Scale of positive similarities.",
            above(0),
            needs=(OPROXY_SCALED,),
        ),
        Real(
            "loss_oproxy_neg_alpha",
            32,
            "Scale of negative similarities.",
            above(0),
            needs=(OPROXY_SCALED,),
        ),
        Real(
            "loss_oproxy_pos_delta",
            0.1,
            "Threshold of positive similarities.",
            COSINES,
            needs=(OPROXY_SCALED,),
        ),
        Real(
            "loss_oproxy_neg_delta",
            -0.1,
            "Threshold of negative similarities.",
            COSINES,
            needs=(OPROXY_SCALED,),
        ),
        Choice(
            "loss_oproxy_form",
            "paper",
            "Mean over positives.",
            {
                "paper": "of samples, nca with scales",
                "textbook": "ProxyAnchor and ProxyNCA as published",
            },
        ),
    ),
    *_objective(
        "s2sd",
        Choice(
            "loss_s2sd_source",
            "multisimilarity",
            "Objective of the embedding.",
            SIMPLE_OBJECTIVES,
            patterns=PML_PATTERN,
            listed=True,
        ),
        Choice(
            "loss_s2sd_target",
            "multisimilarity",
            "Objective of the target branches.",
            SIMPLE_OBJECTIVES,
            patterns=PML_PATTERN,
            listed=True,
        ),
        Real(
            "loss_s2sd_T",
            1,
            "Temperature of the distillation.",
            above(0),
            needs=(
                Need(
                    lambda settings, _: _distils(settings),
                    "a distillation (--loss_s2sd_w or --loss_s2sd_feat_distill)",
                    "nothing is distilled (--loss_s2sd_w {loss_s2sd_w}, no feature distillation)",
                ),
            ),
        ),
        Real(
            "loss_s2sd_w",
            0,
            "Weight of the distillation from the target branches (0 in the published recipes).",
            at_least(0),
        ),
        Switch("loss_s2sd_pool_aggr", "Feed the target branches with average plus max pooling."),
        Whole(
            "loss_s2sd_target_dims",
            (1024, 1536, 2048),
            "Dimensions of the target branches.",
            DIMENSIONS,
        ),
        Switch(
            "loss_s2sd_feat_distill",
            "Distill from the pooled features too.",
            needs=(needs_above_zero("loss_s2sd_feat_w"),),
        ),
        Real(
            "loss_s2sd_feat_w",
            50,
            "Weight of the feature distillation.",
            at_least(0),
            needs=(needs_on("loss_s2sd_feat_distill"),),
        ),
        Whole(
            "loss_s2sd_feat_distill_delay",
            1000,
            "Iterations before the feature distillation begins, which acts from the next on.",
            at_least(0),
            needs=S2SD_FEATURES,
        ),
    ),
    *_objective(
        "proxynca",
        Real(
            "loss_proxynca_lrmulti",
            50,
            "Learning rate of the proxies as a multiple of --lr.",
            at_least(0),
        ),
        Real(
            "loss_proxynca_temperature",
            1 / 9,
            "Temperature.",
            above(0),
            needs=(needs_one_of("loss_proxynca_form", "plusplus"),),
        ),
        Choice(
            "loss_proxynca_form",
            "textbook",
            "Whose softmax is taken.",
            {
                "textbook": "ProxyNCA, over the other proxies",
                "plusplus": "ProxyNCA++, over all proxies with a temperature",
            },
        ),
    ),
    *_objective(
        "proxyanchor",
        Real(
            "loss_proxyanchor_lrmulti",
            100,
            "Learning rate of the proxies as a multiple of --lr.",
            at_least(0),
        ),
        Real("loss_proxyanchor_alpha", 32, "Scale of similarities.", above(0)),
        Real("loss_proxyanchor_margin", 0.1, "Margin of similarities on both sides.", COSINES),
    ),
    *_objective(
        "softtriplet",
        Whole("loss_softtriplet_n_centroids", 2, "Centres per class.", within(1, 1000)),
        Real(
            "loss_softtriplet_margin_delta",
            0.01,
            "Margin of the target's similarity.",
            within(0, 2),
        ),
        Real(
            "loss_softtriplet_gamma",
            0.1,
            "Temperature of the assignment to centres.",
            above(0),
            needs=(SEVERAL_CENTRES,),
        ),
        Real(
            "loss_softtriplet_scale",
            8,
            "Inverse temperature of the classes.",
            above(0),
            aliases=("loss_softtriplet_lambda",),
        ),
        Real(
            "loss_softtriplet_reg_weight",
            0.2,
            "Weight of the regulariser that draws centres of a class together.",
            at_least(0),
            needs=(SEVERAL_CENTRES,),
        ),
        Real(
            "loss_softtriplet_lrmulti",
            1,
            "Learning rate of the centres as a multiple of --lr.",
            at_least(0),
        ),
    ),
    *_objective(
        "angular",
        Real(
            "loss_angular_alpha",
            45,
            "Bound of the angle at the negative, in degrees.",
            Bounds(0, 90, low_excluded=True, high_excluded=True),
            needs=(needs_above_zero("loss_angular_npair_ang_weight"),),
        ),
        Real(
            "loss_angular_npair_ang_weight",
            2,
            "Weight of the angular term beside the N-pair term.",
            at_least(0),
        ),
        Real("loss_angular_npair_l2", 0.005, "Weight of the embedding norms.", at_least(0)),
    ),
    *_objective(
        "lifted",
        Real("loss_lifted_neg_margin", 1, "Margin of negative distances.", at_least(0)),
        Real("loss_lifted_l2", 0.005, "Weight of the embedding norms.", at_least(0)),
        Choice(
            "loss_lifted_form",
            "paper",
            "What is averaged.",
            {"paper": "anchors (Hermans et al.)", "textbook": "positive pairs (Oh Song et al.)"},
        ),
    ),
    *_objective(
        "histogram",
        Whole("loss_histogram_nbins", 65, "Nodes of the histograms.", within(2, 100_000)),
    ),
    *_objective(
        "quadruplet",
        Real(
            "loss_quadruplet_margin_alpha_1",
            0.2,
            "Margin to the negative of the anchor.",
            at_least(0),
        ),
        Real(
            "loss_quadruplet_margin_alpha_2",
            0.2,
            "Margin to the distance of two negatives.",
            at_least(0),
        ),
    ),
    *_objective(
        "snr",
        Real("loss_snr_margin", 0.2, "Margin between noise-to-signal ratios.", at_least(0)),
        Real(
            "loss_snr_reg_lambda",
            0.005,
            "Weight of the anchors' distance from zero mean.",
            at_least(0),
        ),
    ),
    *_objective(
        "adversarial_separation",
        Choice(
            "loss_adversarial_separation_source",
            "multisimilarity",
            "Objective of the embedding.",
            SIMPLE_OBJECTIVES,
            patterns=PML_PATTERN,
            listed=True,
        ),
        Choice(
            "loss_adversarial_separation_target",
            "multisimilarity",
            "Objective of the auxiliary embeddings.",
            SIMPLE_OBJECTIVES,
            patterns=PML_PATTERN,
            listed=True,
        ),
        Whole(
            "loss_adversarial_separation_target_dims",
            (128,),
            "Dimensions of the auxiliary embeddings.",
            DIMENSIONS,
        ),
        Real("loss_adversarial_separation_weight", 1500, "Weight of the separation.", at_least(0)),
        Whole(
            "loss_adversarial_separation_hidden_dim",
            512,
            "Hidden dimension of the regressors.",
            DIMENSIONS,
            needs=(needs_above_zero("loss_adversarial_separation_weight"),),
        ),
        Real(
            "loss_adversarial_separation_lr",
            1e-5,
            "Learning rate of the regressors.",
            at_least(0),
            needs=(needs_above_zero("loss_adversarial_separation_weight"),),
        ),
    ),
    *_objective("supcon", Real("loss_supcon_temperature", 0.1, "Temperature.", above(0))),
    *_objective(
        "circle",
        Real("loss_circle_m", 0.4, "Relaxation margin.", COSINES),
        Real("loss_circle_gamma", 80, "Scale of similarities.", above(0)),
    ),
    *_objective(
        "smooth_ap",
        Real(
            "loss_smooth_ap_temperature",
            0.01,
            "Temperature of the sigmoid that stands for a step.",
            above(0),
        ),
    ),
    *_objective(
        "recall_at_k",
        Whole("loss_recall_at_k_k", (1, 2, 4, 8, 16), "The k's, weighted alike.", at_least(1)),
        Real(
            "loss_recall_at_k_rank_temperature",
            1,
            "Temperature of the sigmoid over ranks.",
            above(0),
        ),
        Real(
            "loss_recall_at_k_similarity_temperature",
            0.01,
            "Temperature of the sigmoid over similarities.",
            above(0),
        ),
    ),
    *_objective(
        "pml",
        Text(
            "loss_pml_args",
            "{}",
            'Arguments of a pml: objective as a JSON object; {"pml": "distances.LpDistance", ...} '
            "inside it makes such an object.",
            metavar="JSON",
            check=_is_json_object,
            form=JSON_FORM,
        ),
        Real(
            "loss_pml_lr",
            -1,
            "Learning rate of the parameters of a pml: objective; negative: the same as --lr.",
            RATE_OR_THAT_OF_LR,
        ),
    ),
    *in_block(
        "miners",
        BASIC,
        Choice(
            "batch_mining",
            "distance",
            "Batch miner, for objectives on triplets.",
            MINER_LINES,
            patterns=PML_PATTERN,
            listed=True,
        ),
        needs=(TRAINS, MINES),
    ),
    *_miner(
        "distance",
        Real("miner_distance_lower_cutoff", 0.5, "Smaller distances count as this one.", CUTOFFS),
        Real(
            "miner_distance_upper_cutoff",
            1.4,
            "Negatives farther than this are left out.",
            CUTOFFS,
            needs=(needs_one_of("miner_distance_form", "textbook"),),
        ),
        Choice("miner_distance_form", "paper", "Which negatives are drawn.", DISTANCE_FORMS),
    ),
    *_miner(
        "rho_distance",
        Real(
            "miner_rho_distance_lower_cutoff",
            0.5,
            "Smaller distances count as this one.",
            CUTOFFS,
            needs=(RHO_DRAWS,),
        ),
        Real(
            "miner_rho_distance_upper_cutoff",
            1.4,
            "Negatives farther than this are left out.",
            CUTOFFS,
            needs=(RHO_DRAWS, needs_one_of("miner_rho_distance_form", "textbook")),
        ),
        Real(
            "miner_rho_distance_cp",
            0.2,
            "Probability of a triplet that pushes a positive away.",
            within(0, 1),
        ),
        Choice(
            "miner_rho_distance_form",
            "paper",
            "Which negatives are drawn.",
            DISTANCE_FORMS,
            needs=(RHO_DRAWS,),
        ),
    ),
    *_miner(
        "random_distance",
        Real(
            "miner_random_distance_lower_cutoff",
            0.5,
            "Smaller distances count as this one.",
            CUTOFFS,
        ),
        Real(
            "miner_random_distance_upper_cutoff",
            1.4,
            "Negatives farther than this are left out.",
            CUTOFFS,
            needs=(needs_one_of("miner_random_distance_form", "textbook"),),
        ),
        Switch(
            "miner_random_distance_shuffle_labels",
            "Triplets of random classes, as in the predecessor's code: a control.",
        ),
        Choice("miner_random_distance_form", "paper", "Which negatives are drawn.", DISTANCE_FORMS),
    ),
    *_miner(
        "semihard",
        Real(
            "miner_semihard_margin",
            0.2,
            "Width of the band behind the positive in which negatives are drawn.",
            at_least(0),
        ),
        Choice(
            "miner_semihard_form",
            "paper",
            "Distances of the band.",
            {"paper": "Euclidean", "textbook": "squared"},
        ),
    ),
    *_miner(
        "npair",
        Choice(
            "miner_npair_form",
            "paper",
            "Who is an anchor.",
            {"paper": "every sample", "mc": "one sample of each class"},
        ),
    ),
    *_miner(
        "parametric",
        Choice(
            "miner_parametric_mode",
            "semihards",
            "Distances from which negatives come.",
            {
                "uniform": "all",
                "hards": "up to 0.5",
                "semihards": "0.3 to 0.7",
                "veryhards": "up to 0.3",
            },
        ),
        Whole(
            "miner_parametric_n_support",
            30,
            "Borders of the distance bins.",
            within(3, 100_000),
            needs=(needs_other_than("miner_parametric_mode", "uniform"),),
        ),
        Real(
            "miner_parametric_support_lim",
            (0.1, 1.9),
            "Smallest and largest distance of a negative.",
            at_least(0),
        ),
    ),
    *_miner(
        "multisimilarity",
        Real(
            "miner_multisimilarity_margin",
            0.1,
            "Margin within which pairs are informative.",
            SIMILARITIES,
        ),
    ),
    *_miner(
        "pml",
        Text(
            "miner_pml_args",
            "{}",
            "Arguments of a pml: miner as a JSON object.",
            metavar="JSON",
            check=_is_json_object,
            form=JSON_FORM,
        ),
    ),
    *in_block(
        "optimisation",
        BASIC,
        Whole("n_epochs", 150, "Number of epochs.", at_least(1), aliases=("epochs",)),
        Choice(
            "optim",
            "adam",
            "Optimiser.",
            OPTIMIZER_LINES,
            patterns={"<name>": r"\w+"},
            listed=True,
        ),
        Real(
            "momentum",
            0.9,
            "Momentum of an optimiser that has one.",
            at_least(0, below=1),
            needs=(HAS_MOMENTUM,),
        ),
        Real("lr", 1e-5, "Learning rate of the trunk.", above(0, at_most=1e30)),
        Real(
            "fc_lr",
            -1,
            "Learning rate of the embedding head; negative: the same as --lr.",
            RATE_OR_THAT_OF_LR,
        ),
        Real(
            "layer_decay",
            1.0,
            "Factor of the learning rate from each layer of the trunk to the one before it; the "
            "last has --lr. 1: all have.",
            above(0, at_most=1),
        ),
        Text(
            "freeze_until",
            None,
            "Stage of the trunk before which nothing learns, with BatchNorm there as in "
            "evaluation, e.g. layer3 of a ResNet or blocks.6 of a ViT; an unknown name lists all.",
            metavar="STAGE",
        ),
        Real("decay", 4e-4, "Weight decay of the network, trunk and head.", at_least(0)),
        Switch(
            "decay_matrices_only",
            "No weight decay for what has one dimension: biases, norms, class margins.",
            needs=(DECAYS,),
        ),
        Whole(
            "micro_batch",
            0,
            "Images that pass the network at a time, in two passes, where the activations of a "
            "whole batch do not fit in memory; losses stay those of the whole batch, but a "
            "BatchNorm without _frozen normalises by these images alone. Evaluation takes as many "
            "at a time. 0: all.",
            at_least(0),
            needs=(SMALLER_THAN_BATCH,),
        ),
        Whole(
            "xbm_size",
            0,
            "Images of earlier batches whose embeddings are further positives and negatives of "
            "each batch (cross-batch memory). Similarities are then --bs x (--bs + N), in miners "
            "(--bs + N) squared. 0: none.",
            within(0, 10_000_000),
        ),
        Whole(
            "xbm_start",
            0,
            "Steps before --xbm_size remembers any, because embeddings drift most at first.",
            at_least(0),
            needs=(needs_above_zero("xbm_size"),),
        ),
        Real(
            "ema",
            0.0,
            "Decay, such as 0.999, of a moving average of the weights and of BatchNorm's "
            "statistics, which is evaluated in the place of the network. Every checkpoint holds "
            "both; --evaluate_only and the programs take the average. Samplers go by the network "
            "that learns. 0: none.",
            at_least(0, below=1),
        ),
        Switch(
            "compile",
            "Compile the network's forward pass with torch.compile: the first steps take minutes, "
            "those after them less time; numbers differ by rounding.",
        ),
        Real(
            "clip_gradient",
            0.0,
            "Scale the gradient of all that learns down to this norm where it is longer; 0: never.",
            at_least(0),
        ),
        Real(
            "criterion_decay",
            0,
            "Weight decay of what the objective learns itself (class margins, proxies, class "
            "weights, networks beside the trunk), and guidance (the map of --language_loss "
            "contrastive); the paper's code has none there.",
            at_least(0),
            needs=(LEARNS_BESIDE_NETWORK,),
        ),
        Choice(
            "scheduler",
            "step",
            "Learning rate schedule.",
            {
                "step": "multiplied by --gamma at each epoch of --tau",
                "cosine": "half a cosine over --n_epochs, down to --lr_floor",
                "plateau": "multiplied by --gamma, down to --lr_floor, after more than "
                "--plateau_patience epochs without a better value: of the first of "
                "--evaluation_metrics on the validation part, or, without one, of the training "
                "loss",
                "none": "constant",
            },
        ),
        Real(
            "lr_floor",
            0.0,
            "Share of the learning rates below which --scheduler cosine or plateau does not go.",
            at_least(0, below=1),
            needs=(ENDS_AT_FLOOR,),
        ),
        Whole(
            "plateau_patience",
            10,
            "Epochs without a better value that --scheduler plateau bears; of the validation part "
            "those that are evaluated.",
            at_least(0),
            needs=(
                needs_one_of("scheduler", "plateau"),
                Need(
                    lambda settings, epochs: epochs < settings.n_epochs - 2,
                    "less than --n_epochs - 2",
                    "training ends at --n_epochs {n_epochs}, before the rates can fall",
                ),
            ),
        ),
        Whole(
            "lr_rise",
            0,
            "Steps over which the learning rates rise linearly to those of the schedule.",
            at_least(0),
        ),
        Real(
            "gamma",
            0.3,
            "Factor of the learning rate at each --tau, or on a plateau.",
            at_least(0),
            needs=(
                FALLS,
                Need(
                    lambda settings, _: (
                        settings.scheduler != "step"
                        or any(epoch < settings.n_epochs for epoch in settings.tau)
                    ),
                    "",
                    "training ends at --n_epochs {n_epochs}, before --tau {tau}",
                ),
            ),
        ),
        Whole(
            "tau",
            (10000,),
            "Epochs at which the learning rate is multiplied by --gamma.",
            at_least(1),
            needs=(
                STEPS,
                Need(
                    lambda settings, epoch: epoch < settings.n_epochs,
                    "an epoch before --n_epochs",
                    "training ends at --n_epochs {n_epochs}",
                ),
            ),
        ),
        Whole("warmup", 0, "Epochs in which the head is trained alone.", at_least(0)),
        needs=(TRAINS,),
    ),
    *in_block(
        "optimisation",
        BASIC,
        Choice(
            "precision",
            "auto",
            "Number format of the network; similarities and losses are always fp32. A run stores "
            "which it computes in, and a resumed one keeps to it.",
            {
                "auto": "bf16 on a GPU that computes in it, else fp32",
                "fp32": "single; on a GPU its forward pass and convolutions in TF32",
                "bf16": "bfloat16",
                "fp16": "half, with scaled losses",
            },
        ),
        Switch("use_float16", "The same as --precision fp16."),
    ),
    *in_block(
        "evaluation",
        BASIC,
        Switch("no_train_metrics", "Do not evaluate on the training images."),
        Switch("no_test_metrics", "Do not evaluate on the test images."),
        Choice(
            "evaluation_metrics",
            ("e_recall@1", "e_recall@2", "e_recall@4", "e_recall@10", "nmi", "f1", "mAP_1000"),
            "Metrics of each evaluation.",
            METRIC_LINES,
            patterns=METRIC_PARTS,
            listed=True,
            legend="K = 1, 2, ...; M other than 0",
            needs=(EVALUATES,),
        ),
        Choice(
            "evaltypes",
            ("embeds",),
            "What is evaluated.",
            {"embeds": "the embedding", "avg_features": "the pooled features below it"},
            needs=(EVALUATES,),
        ),
        Whole(
            "evaluate_every",
            1,
            "Evaluate after every N-th epoch, and after the last.",
            at_least(1),
            needs=(TRAINS, EVALUATES),
        ),
        Place(
            "evaluate_only",
            None,
            "Train nothing: evaluate this checkpoint, or the last one of this run folder, under "
            "its own settings (but --log_online, --tensorboard, --no_figures, --no_test_metrics, "
            "--gpu, and on the CPU where there is no GPU) where no flag says otherwise.",
            metavar="CHECKPOINT",
            stored=False,
        ),
        Choice(
            "evaluation_backend",
            "auto",
            "What searches neighbours, with the same answer, and makes k-means clusters, which "
            "differ a little.",
            {
                "auto": "torch searches, which is fastest; faiss clusters where it is installed, "
                "but torch on a GPU that faiss cannot use",
                "torch": "both by products of blocks",
                "faiss": "its flat index and its k-means",
            },
            needs=(EVALUATES,),
        ),
        Text(
            "evaluation_memory",
            "auto",
            "Memory of a search beside the embeddings, e.g. 256MB or 4GB; auto takes half of what "
            "is free.",
            metavar="SIZE",
            check=_is_size,
            form="a size such as 256MB or 4GB, nor auto",
            needs=(EVALUATES,),
        ),
        Switch(
            "evaluate_on_cpu",
            "Search and cluster on the CPU even where there is a GPU.",
            needs=(needs_other_than("device", "cpu"), EVALUATES),
        ),
        Switch(
            "no_figures",
            "Do not draw retrievals, projection and class similarities of the test split at the "
            "end.",
            needs=(TESTS,),
        ),
        Switch(
            "store_improvements",
            "Store a checkpoint each time a storage metric improves (the last epoch is always "
            "stored).",
            needs=(TRAINS,),
        ),
        Text(
            "storage_metrics",
            ("e_recall@1",),
            "Metrics whose improvement stores a checkpoint.",
            metavar="NAME",
            needs=(TRAINS, needs_on("store_improvements")),
        ),
    ),
    *in_block(
        "wandb",
        WANDB,
        Switch(
            "log_online",
            "Show the run at Weights & Biases (W&B) as well; WANDB_MODE=offline needs no network.",
        ),
        Text(
            "wandb_key",
            WANDB_KEY_PLACEHOLDER,
            "Ignored, because a key on the command line is visible to everybody: set "
            "WANDB_API_KEY.",
            metavar="KEY",
            stored=False,
            secret=True,
            needs=(
                Need(
                    lambda settings, _: False,
                    "",
                    "a key on the command line is visible to everybody on the machine: set "
                    "WANDB_API_KEY",
                ),
            ),
        ),
        Text(
            "project",
            "DiVA_Sample_Runs",
            "W&B project.",
            metavar="NAME",
            needs=(needs_on("log_online"),),
        ),
        Text(
            "entity",
            None,
            "W&B user or team whose project it is; left out, your own default.",
            metavar="NAME",
            needs=(needs_on("log_online"),),
        ),
        Text(
            "group",
            "Sample_Run",
            "W&B group: the seeds of one setting; it also names the run folder where --savename "
            "does not.",
            metavar="NAME",
            needs=(
                Need(
                    lambda settings, _: settings.log_online or _named_by_group(settings),
                    "--log_online or a run folder that it names",
                    "--savename {savename} names the run folder and --log_online is not given",
                ),
            ),
        ),
        Text(
            "group_by",
            (),
            "Settings whose values are added to --group, as searches need it: runs that differ in "
            "them are no seeds of one setting.",
            metavar="FLAG",
            check=_is_stored_setting,
            form="the name of a setting",
        ),
        Text(
            "tags",
            (),
            "W&B tags of the run, by which runs are filtered.",
            metavar="TAG",
            check=_is_tag,
            form="a tag of 1 to 64 letters",
            needs=(needs_on("log_online"),),
        ),
        Text(
            "notes",
            None,
            "What W&B shows as the notes of the run.",
            needs=(needs_on("log_online"),),
        ),
        Switch(
            "tensorboard",
            "Write event files for TensorBoard to the run folder, with the same keys as at W&B.",
        ),
        Whole(
            "log_steps",
            0,
            "Show losses of every N-th step of training at W&B and in TensorBoard too; 0: means "
            "of epochs alone. The device is waited for at these steps.",
            at_least(0),
            needs=(TRAINS, LOGGED),
        ),
    ),
    *in_block(
        "guidance",
        GUIDANCE,
        Real(
            "language_distill_w",
            0,
            "Weight of language guidance; 0 trains the objective alone.",
            at_least(0),
            needs=(TRAINS_OR_DRAWS,),
        ),
        Choice(
            "language_model",
            "clip",
            "Text encoder.",
            LANGUAGE_MODEL_LINES,
            patterns=dict.fromkeys(("<model/weights>", "<name or folder>", "<file>"), r"(?s:.+)"),
            listed=True,
            needs=(READS_TEXTS,),
        ),
        Place(
            "language_weights",
            None,
            "Local file or folder of the text encoder instead of the download.",
            existing="file or folder",
            needs=(READS_TEXTS, OF_SENTENCES),
        ),
        Text(
            "language_primer",
            ("a photo of a {}",),
            "Sentence around each class text, {} where the text goes; the vectors of several are "
            f"normalised and averaged. {IMAGENET_PRIMERS}: the 80 that CLIP was tried with.",
            check=_is_primer,
            form="a sentence with {} in the place of the class text",
            needs=(READS_TEXTS, READS_SENTENCES),
        ),
        Place(
            "class_text",
            None,
            "Texts of the classes instead of their names, .json {class: text or [texts]} or .csv "
            "with columns class and text; the vectors of several texts are normalised and "
            "averaged. Whole sentences, of hierarchies too, go with --language_primer '{}'.",
            metavar="FILE",
            existing="file",
            needs=(READS_CLASS_TEXTS,),
        ),
        Whole(
            "language_delay",
            0,
            "Iteration, counted from 1, in which guidance begins; 0 and 1 begin at once.",
            at_least(0),
            needs=GUIDED,
        ),
        Whole(
            "language_rise",
            0,
            "Iterations in which the weight rises linearly from the delay on; 0: it is whole at "
            "once.",
            at_least(0),
            needs=GUIDED,
        ),
        Whole(
            "language_half_life",
            0,
            "Iterations in which the weight halves, once it is whole; 0: it stays.",
            at_least(0),
            needs=GUIDED,
        ),
        Switch(
            "language_pseudoclass",
            "Use pseudolabels (PLG), of ImageNet or a vocabulary, instead of the expert class "
            "names (ELG).",
            needs=(*GUIDED, BY_TEXTS),
        ),
        Real(
            "language_pseudoclass_share",
            1,
            "Share of the pseudolabels beside the class names; below 1 both guide.",
            within(0, 1),
            needs=(*GUIDED, BY_TEXTS, PSEUDOLABELS),
        ),
        Whole(
            "language_pseudoclass_topk",
            5,
            "Number of pseudolabels per class.",
            within(1, 1000),
            needs=(*GUIDED, BY_TEXTS, *OF_PSEUDOLABELS),
        ),
        Choice(
            "language_pseudoclass_level",
            "class",
            "Whose pseudolabels guide.",
            {"class": "those of each class", "sample": "those of each image"},
            needs=(*GUIDED, BY_TEXTS, *OF_PSEUDOLABELS),
        ),
        Choice(
            "language_pseudoclass_ranks",
            "equal",
            "What each of the top pseudolabels counts.",
            {"equal": "as much as the others", "probability": "its probability among them"},
            needs=(*GUIDED, BY_TEXTS, *OF_PSEUDOLABELS),
        ),
        Choice(
            "language_pseudoclass_mean",
            "logits",
            "What is averaged over the images of a class.",
            {"logits": "as in the paper", "probabilities": "each image counts the same"},
            needs=(*GUIDED, BY_TEXTS, *OF_PSEUDOLABELS, OF_CLASSES),
        ),
        Text(
            "language_pseudoclass_arch",
            "resnet50.tv_in1k",
            "What gives the pseudolabels: a timm classifier over ImageNet's classes (1k, 12k, 21k, "
            "22k), or clip:<model/weights>, an open_clip model over "
            "--language_pseudoclass_vocabulary.",
            metavar="NAME",
            needs=(*GUIDED, BY_TEXTS, *OF_PSEUDOLABELS),
        ),
        Place(
            "language_pseudoclass_vocabulary",
            None,
            "Words or phrases, one a line, that a CLIP model tells apart in the images; "
            "--language_primer is put around each.",
            metavar="FILE",
            existing="file",
            needs=(*GUIDED, BY_TEXTS, *OF_PSEUDOLABELS, ZERO_SHOT),
        ),
        Place(
            "language_pseudoclass_weights",
            None,
            "Local checkpoint of that classifier instead of the download; it may be over another "
            "set of ImageNet's classes.",
            metavar="FILE",
            existing="file",
            needs=(*GUIDED, BY_TEXTS, *OF_PSEUDOLABELS),
        ),
        Choice(
            "language_loss", "kl", "How language is taken in.", LANGUAGE_LOSS_LINES, needs=GUIDED
        ),
        Real(
            "language_shift",
            1,
            "Shift of the language similarities, and with 1 the value of same-class pairs.",
            SIMILARITIES,
            needs=(*GUIDED, BY_KL),
        ),
        Choice(
            "language_distill_dir",
            "backward",
            "Direction of the divergence.",
            {"backward": "KL(image || language)", "forward": "KL(language || image)"},
            needs=(*GUIDED, BY_KL),
        ),
        Real(
            "language_temp",
            1,
            "Temperature of the row-wise softmax.",
            above(0),
            needs=(*GUIDED, BY_KL),
        ),
        Real(
            "language_map_temp",
            0.07,
            "Temperature of the contrastive loss.",
            above(0),
            needs=(*GUIDED, BY_MAP),
        ),
        Real(
            "language_map_lr",
            5e-4,
            "Learning rate of its linear map.",
            at_least(0),
            needs=(*GUIDED, BY_MAP),
        ),
        Choice(
            "language_control",
            "none",
            "What is put in the place of the texts, to see whether it is they that help. Batches "
            "and initial weights stay those of the guided run.",
            LANGUAGE_CONTROL_LINES,
            needs=GUIDED,
        ),
        Whole(
            "language_control_seed",
            0,
            "Of the control's own randomness.",
            SEEDS,
            needs=(*GUIDED, needs_one_of("language_control", "shuffle", "random")),
        ),
    ),
)

# What follows from the declarations

BY_NAME = {flag.name: flag for flag in FLAGS}
CHOICES = {flag.name: flag.names() for flag in FLAGS if isinstance(flag, Choice)}
LANGUAGE_MODELS = CHOICES["language_model"]
NOT_STORED = tuple(flag.name for flag in FLAGS if not flag.stored)


class Subject(NamedTuple):
    """What `--help` can be asked for: a topic, or a component by name."""

    title: str
    about: str
    flags: tuple[Flag, ...]


def build_parser() -> argparse.ArgumentParser:
    """All flags in their groups, for help and for the defaults; `parse` reads the command line."""
    topics = "\n".join(f"  {name:<14}{about}" for name, about in TOPICS.items())
    parser = _parser(
        "Train and evaluate a (language-guided) metric space.\n\n"
        f"Topics of --help TOPIC, which also takes an objective, miner or sampler:\n{topics}"
    )
    for name in GROUPS:
        group = parser.add_argument_group(name)
        if name == BASIC:
            text = "Show the flags of topics or components, or all, and end."
            group.add_argument("-h", "--help", nargs="*", metavar="TOPIC", help=text)
        for flag in FLAGS:
            if flag.group == name:
                flag.add_to(group)
    return parser


def answer() -> None:
    """End the program where no work is asked for, or where the settings are wrong.

    For main.py, before it loads torch: `--help`, `--version` and `--list` take no time.
    """
    if parse().list:
        _end(0, listing())


def parse(argv: list[str] | None = None) -> Settings:
    """Settings from flags, over `--config`, over the defaults.

    Whatever is wrong is told together, a line each, and ends the program with status 2; `--help`
    and `--version` end it with status 0.
    """
    words = sys.argv[1:] if argv is None else argv
    asked = _asked_for_help(words)
    if asked is not None:
        _show_help(asked)
    settings, problems = _read(words)
    if settings.version:
        _end(0, f"{NAME} {VERSION}")
    if settings.list:
        return settings
    return _checked(settings, problems)


def examine(words: Sequence[str]) -> tuple[Settings, list[str]]:
    """The settings of a command line, and all that `parse` would end with, a sentence each."""
    settings, problems = _read(words)
    problems = [settings.as_typed(problem) for problem in problems + validate(settings)]
    return settings if problems else _completed(settings), problems


def without_secrets(words: list[str]) -> list[str]:
    """A command line with *** in the place of what secret flags were given."""
    words = list(words)
    secrets = {f"--{flag.name}" for flag in FLAGS if flag.secret}
    for number, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name in secrets and equals:
            words[number] = f"{name}={HIDDEN}"
        elif name in secrets and number + 1 < len(words):
            words[number + 1] = HIDDEN
    return words


def inherit(opt: Settings, checkpoint: Mapping[str, object]) -> Settings:
    """The settings with those of a checkpoint in the place of the flags' own defaults.

    What is no flag any more, or NOT_INHERITED, is passed over. Ends the program as `parse` does.
    """
    inherited, problems = read_stored(_inherited(_with_layout(checkpoint)), FLAGS)
    stated = {name: value for name, value in vars(opt).items() if name in opt.stated}
    values = _defaults() | _beneath(stated, inherited) | stated
    settings = Settings(
        values,
        given=opt.given,
        stated=opt.stated,
        typed=opt.typed,
        spelled=opt.spelled,
        repeated=opt.repeated,
    )
    return _checked(settings, problems)


def run_name_of(opt: argparse.Namespace) -> str:
    """The name of the run folder."""
    return run_name(opt.savename, opt.group, opt.seed)


def matters(name: str, opt: Settings, other: object) -> bool:
    """Whether a run of the other value is another run than one of these settings from its start.

    What has no effect does not matter, under either value.
    """
    if not _makes_a_run(name, opt.dataset):
        return False
    if name in BY_DEVICE and "auto" in (getattr(opt, name), other):
        return False
    flag, begun = BY_NAME[name], Settings(vars(opt) | {"resume": None})
    try:
        others = flag.effective(flag.read(other), begun)
    except (TypeError, ValueError, OverflowError):
        return True
    return others != flag.effective(getattr(opt, name), begun)


def effective(settings: Mapping[str, object]) -> dict[str, list[Any]]:
    """Name -> entries that have an effect, of those stored settings that make a run what it is.

    What they do not say has its default; what is no flag any more is passed over.
    """
    known, _ = read_stored(_with_layout(settings), FLAGS)
    whole = Settings(_defaults() | known)
    return {
        flag.name: flag.effective(getattr(whole, flag.name), whole)
        for flag in FLAGS
        if flag.stored and _makes_a_run(flag.name, whole.dataset)
    }


def shapes_epoch(name: str, opt: Settings, other: object) -> bool:
    """Whether another value makes other steps of an epoch: of other images, or other losses."""
    if name == "language_distill_w":
        return bool(opt.language_distill_w) != bool(other)
    return name in ("bs", "samples_per_class", "internal_split", "seed") or name.startswith("data_")


def keep_beginning(opt: Settings, begun: Mapping[str, object]) -> list[str]:
    """Set what only the beginning of a run reads to what a resumed run began with.

    A sentence for each that was another.
    """
    names = ["not_pretrained"]
    if not opt.loss_margin_beta_constant:
        names.append("loss_margin_beta")
    begun, _ = read_stored({name: begun[name] for name in names if name in begun}, FLAGS)
    changed = {name: value for name, value in begun.items() if value != getattr(opt, name)}
    said = [
        f"--{name} stays {begun[name]} (here {getattr(opt, name)}), with which the resumed run "
        "began."
        for name in changed
        if name in opt.stated
    ]
    for name, value in changed.items():
        setattr(opt, name, value)
    if opt.not_pretrained:
        opt.arch_weights = None
    return said


def keep_choices(opt: Settings, begun: Mapping[str, object]) -> list[str]:
    """Set what the device was to choose to what a resumed run computed with.

    A sentence where that is what its numbers depend on.
    """
    stored, _ = read_stored(_with_layout(begun), [BY_NAME[name] for name in BY_DEVICE])
    kept = {name: value for name, value in stored.items() if getattr(opt, name) == "auto"}
    for name, value in kept.items():
        setattr(opt, name, value)
    if kept.get("precision", "auto") == "auto":
        return []
    return [f"--precision auto: {opt.precision}, in which the resumed run computes."]


def disagreeing(opt: Settings, chosen: Mapping[str, object]) -> list[str]:
    """What somebody else has chosen and the settings say otherwise, each with both values."""
    known = {name: value for name, value in chosen.items() if name in BY_NAME}
    read, unreadable = read_stored(known, [flag for flag in FLAGS if flag.stored])
    other = {name: value for name, value in read.items() if value != getattr(opt, name)}
    said = [
        f"--{name} {in_words(value)} (here {in_words(getattr(opt, name))})"
        for name, value in other.items()
        if name not in SAME_MEANING
    ]
    return said + [sentence.rstrip(".") for sentence in unreadable]


def stored(opt: argparse.Namespace) -> dict[str, Any]:
    """The settings as plain values for args.yaml, checkpoints and W&B: a file for `--config`."""
    return {name: value for name, value in vars(opt).items() if name not in NOT_STORED}


def whole(settings: Mapping[str, object]) -> dict[str, Any]:
    """Stored settings with the default of each flag that they do not know: it came later."""
    return _defaults() | _with_layout(settings)


def _defaults() -> dict[str, Any]:
    return {flag.name: flag.initial() for flag in FLAGS}


def hyperparameters(opt: argparse.Namespace, kind: str, name: str) -> dict[str, Any]:
    """`--loss_margin_beta 1.2` gives `{"beta": 1.2}` for the `loss` or `miner` called margin."""
    component = name.split(":")[0]  # pml:<ClassName> has the flags of pml
    prefix = f"{kind}_{component}_"
    return {
        flag.name.removeprefix(prefix): getattr(opt, flag.name)
        for flag in FLAGS
        if flag.owner == f"{kind} {component}"
    }


def validate(opt: Settings) -> list[str]:
    """All problems of the settings, a sentence each; only the existence of files is read."""
    problems = [
        problem
        for flag in FLAGS
        if not _is_left_behind(flag, opt)
        for problem in flag.problems(getattr(opt, flag.name))
    ]
    rules = COMBINATIONS if opt.evaluate_only else (*COMBINATIONS, *COMBINATIONS_OF_TRAINING)
    for rule in rules:
        problems += rule(opt)
    return problems


def _is_left_behind(flag: Flag, opt: Settings) -> bool:
    """Whether nothing reads its value, and nobody typed it, which must be right all the same.

    A run goes to places without some of its files; an evaluated network may have been trained by
    what another version knows.
    """
    is_file = isinstance(flag, Place) and bool(flag.existing) and flag.name not in opt.typed
    is_of_checkpoint = bool(opt.evaluate_only) and flag.name not in opt.stated
    is_passed_over = is_file or is_of_checkpoint
    return is_passed_over and not flag.effective(getattr(opt, flag.name), opt)


def notices(opt: Settings) -> list[str]:
    """What a person should know of settings that are accepted but not what they may think.

    First a sentence for each setting that was given and has no effect in this run. Given is what
    stands on the command line, or in --config with another value than the default, unless that is
    what a run has recorded of itself.
    """
    repeated = [
        f"{typed}: the same flag is given more than once; the last counts."
        for typed in opt.repeated.values()
    ]
    sentences = [*idle_settings(FLAGS, opt), *_advice(opt)]
    return [*repeated, *(opt.as_typed(sentence) for sentence in sentences)]


def notices_of_reading(readers: Sequence[Settings]) -> list[str]:
    """A sentence for each given flag of guidance by which none of the readers reads anything else.

    Readers are guided runs without what these draw and measure beside their guidance.
    """
    alone = {"no_figures": True, "evaluation_metrics": []}
    first, *others = (
        Settings(vars(reader) | alone, given=reader.given, spelled=reader.spelled)
        for reader in readers
    )
    flags = [
        flag
        for flag in _of_topic("guidance")
        if not any(flag.effective(getattr(other, flag.name), other) for other in others)
    ]
    return [first.as_typed(sentence) for sentence in idle_settings(flags, first)]


def notices_of_length(opt: Settings, iterations: int) -> list[str]:
    """A sentence for each part of a run that would begin after its last iteration."""
    delays = {
        "language_delay": (_is_guided(opt), opt.language_delay, "language never guides"),
        "language_rise": (
            _is_guided(opt) and opt.language_rise > 0 and opt.language_delay <= iterations,
            max(opt.language_delay, 1) + opt.language_rise,
            "guidance never has its whole weight",
        ),
        "loss_s2sd_feat_distill_delay": (
            opt.loss == "s2sd" and opt.loss_s2sd_feat_distill and opt.loss_s2sd_feat_w > 0,
            opt.loss_s2sd_feat_distill_delay + 1,
            "features are never distilled",
        ),
        "lr_rise": (True, opt.lr_rise, "no step is made at the rates of the schedule"),
        "ema": (opt.ema > 0, round(1 / (1 - opt.ema)), "its average is mostly of the beginning"),
        "xbm_start": (opt.xbm_size > 0, opt.xbm_start + 1, "nothing is remembered"),
    }
    return [
        f"--{name} {getattr(opt, name)} outlasts the run, which has {iterations:,} iterations: "
        f"{consequence}."
        for name, (acts, first, consequence) in delays.items()
        if acts and first > iterations
    ]


def catalogue() -> dict[str, dict[str, str]]:
    """Title -> name -> line: what `--list` shows."""
    objectives = {name: line + _miners_of(name) for name, line in OBJECTIVE_LINES.items()}
    return {
        "Objectives (--loss)": objectives,
        "Batch miners (--batch_mining)": MINER_LINES,
        "Batch samplers (--data_sampler)": SAMPLER_LINES,
        "Metrics (--evaluation_metrics)": METRIC_LINES,
        "Datasets (--dataset)": DATASET_LINES,
        "Language models (--language_model)": LANGUAGE_MODEL_LINES,
        "Optimisers (--optim)": OPTIMIZER_LINES,
    }


def listing() -> str:
    """The catalogue as text, aligned."""
    sections = catalogue()
    width = max(len(name) for lines in sections.values() for name in lines)
    return "\n".join(
        "\n".join([title, *(f"  {name:<{width}}  {line}" for name, line in lines.items()), ""])
        for title, lines in sections.items()
    )


def documentation() -> str:
    """docs/flags.md: a table for each topic."""
    head = (
        "# Flags\n\nWritten by `python parameters.py > docs/flags.md` from the declarations in "
        "parameters.py; `python main.py --help TOPIC` shows the same, `--help margin` the flags "
        "of one objective, miner or sampler, and `--list` what there is, with a line each. Where "
        "a flag takes several values, they stand behind it with spaces between them. `--config "
        "FILE.yaml` sets any of them, and flags override the file. A setting that is given and "
        "has no effect in a run is told at its start."
    )
    parts = [
        f"## {topic}\n\n{about[:1].upper()}{about[1:]}.\n\n{table(_of_topic(topic))}"
        for topic, about in TOPICS.items()
    ]
    return "\n\n".join([head, *parts]) + "\n"


# Help


def _parser(description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [--flag value ...]",
        description=description,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=_columns()),
        add_help=False,
        allow_abbrev=False,
    )


def _columns() -> int:
    """Of help in this terminal, found once; argparse finds it for each flag, by a slow import."""
    try:
        columns = int(os.environ.get("COLUMNS", 0)) or os.get_terminal_size().columns
    except (OSError, ValueError):
        columns = 0
    return (columns or USUAL_COLUMNS) - 2


def _asked_for_help(words: Iterable[str]) -> list[str] | None:
    """What stands behind `--help` or `-h`; None where neither is there."""
    asked: list[str] | None = None
    for word in words:
        flag, _, topic = word.partition("=")
        if flag in ("-h", "--help"):
            asked = [topic] if topic else []
        elif asked is not None:
            if word.startswith("-"):
                break
            asked.append(word)
    return asked


def _show_help(asked: list[str]) -> NoReturn:
    subjects = _subjects()
    unknown = [name for name in asked if name not in subjects]
    if unknown:
        lines = [
            f"{PROGRAM}: error: --help {abridged(name)} is not known{_meant(name)}; choose from: "
            f"{', '.join(TOPICS)}, or an objective, miner or sampler of --list."
            for name in unknown
        ]
        _end(2, "\n".join(lines))
    if not asked:
        _end(0, build_parser().format_help())
    parser = _parser("")
    for name in asked:
        for title, about, flags in subjects[name]:
            group = parser.add_argument_group(title, textwrap.fill(about, HELP_WIDTH))
            for flag in flags:
                flag.add_to(group)
    _end(0, parser.format_help())


def _meant(name: str) -> str:
    """ " (did you mean …?)" for a name near that of a subject, or near a word about a topic."""
    words = {word: topic for topic, about in TOPICS.items() for word in re.findall(r"\w+", about)}
    subjects = words | {subject: subject for subject in _subjects()}
    close = nearest_of(name, subjects)
    return f" (did you mean {subjects[close]}?)" if close else ""


def _subjects() -> dict[str, list[Subject]]:
    """Topics and components by name; npair is an objective and a miner."""
    subjects = {topic: [Subject(topic, about, _of_topic(topic))] for topic, about in TOPICS.items()}
    components = (
        ("loss", "loss", catalogue()["Objectives (--loss)"]),
        ("batch_mining", "miner", MINER_LINES),
        ("data_sampler", "sampler", SAMPLER_LINES),
    )
    for flag, kind, lines in components:
        for name, line in lines.items():
            short = name.split(":")[0]
            flags = _of_sampler(name) if kind == "sampler" else _of_owner(f"{kind} {short}")
            subjects.setdefault(short, []).append(Subject(f"--{flag} {name}", line, flags))
    return subjects


def _of_topic(topic: str) -> tuple[Flag, ...]:
    return tuple(flag for flag in FLAGS if flag.topic == topic)


def _of_owner(owner: str) -> tuple[Flag, ...]:
    return tuple(flag for flag in FLAGS if flag.owner == owner)


def _of_sampler(name: str) -> tuple[Flag, ...]:
    """The flags whose effect depends on the sampler and is there with this one."""
    settings = Settings(_defaults() | {"data_sampler": name})
    return tuple(
        flag
        for flag in FLAGS
        if any("data_sampler" in need.because for need in flag.needs)
        and all(need.holds(settings, -1) for need in flag.needs)
    )


def _miners_of(objective: str) -> str:
    """ " [miner: …]" for an objective that uses one."""
    if objective == PML_CLASS:
        return f" [miner: {PML_CLASS} or none]"
    if objective in ANY_MINER:
        return " [miner: any]"
    return f" [miner: {' or '.join(MINERS[objective])}]" if objective in MINERS else ""


def _end(status: int, text: str) -> NoReturn:
    with reader_may_leave():
        if processes.speaks_for_machine():
            print(text.rstrip("\n"), file=sys.stderr if status else sys.stdout, flush=True)
    raise SystemExit(status)


# Reading


def _read(words: Sequence[str]) -> tuple[Settings, list[str]]:
    """Settings from flags, over `--config`, over the defaults, and what cannot be read."""
    typed, problems = read_command_line(FLAGS, words)
    config, wrong_in_file = _configured(typed)
    config = _beneath(typed, config)
    settings = Settings(
        _defaults() | config | typed,
        given=_chosen(config) | typed.keys(),
        stated=config.keys() | typed.keys(),
        typed=typed,
        spelled=spellings(FLAGS, words),
        repeated=repetitions(FLAGS, words),
    )
    if "config" in settings.repeated:
        problems.append("--config is given more than once; put all settings into one file.")
    return settings, problems + wrong_in_file


def _configured(typed: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Values of the file that `--config` names, if it is given, and what is wrong with it.

    A name that a run got by its group and seed (older files hold it) is none for other runs.
    """
    config = typed.get("config")
    if not config or BY_NAME["config"].problems(config):
        return {}, []  # what is wrong with the path is told with all else
    values, problems = read_settings_file(str(config), FLAGS)
    values = _with_layout(values)
    group, seed = (values.get(name, BY_NAME[name].initial()) for name in ("group", "seed"))
    is_seed = not BY_NAME["seed"].problems(seed)  # nothing else can always be written out
    if is_seed and values.get("savename") == f"{group}_s{seed}":
        values["savename"] = NAMED_BY_GROUP
    return values, problems


def _chosen(config: Mapping[str, object]) -> set[str]:
    """What a person set in a settings file: other values than the defaults.

    Nothing of a file that a run has written, which states nearly everything.
    """
    if 2 * len(config) > len(FLAGS):
        return set()
    return {name for name, value in config.items() if value != BY_NAME[name].initial()}


def _beneath(stated: Mapping[str, object], lower: Mapping[str, object]) -> dict[str, object]:
    """The lower settings without those that are stated above them by another name."""
    said_otherwise = {SAME_MEANING[name] for name in stated if name in SAME_MEANING} - stated.keys()
    return {name: value for name, value in lower.items() if name not in said_otherwise}


def _makes_a_run(name: str, dataset: str) -> bool:
    """Whether another value of a setting may make another run.

    Where own data lies says which data it is; a benchmark is the same anywhere.
    """
    if name == "source_path":
        return dataset not in (*BENCHMARK_LINES, "shapes")
    return name not in FREE or name == "arch_weights"


def _with_layout(values: Mapping[str, object]) -> dict[str, object]:
    """Settings from before --memory_format, in which --channels_last was the whole choice."""
    if "channels_last" not in values or "memory_format" in values:
        return dict(values)
    layout = "channels_last" if values["channels_last"] else "contiguous"
    return {**values, "memory_format": layout}


def _inherited(defaults: Mapping[str, object]) -> dict[str, object]:
    """Of a checkpoint's settings those that an evaluation goes by, with or without a GPU."""
    kept = {name: value for name, value in defaults.items() if name not in NOT_INHERITED}
    return kept | ({"device": "auto"} if kept.get("device") == "cuda" else {})


def _checked(settings: Settings, problems: list[str]) -> Settings:
    """The whole settings, unless there are problems: these or others."""
    problems = problems + validate(settings)
    if problems:
        sentences = (on_one_line(settings.as_typed(problem)) for problem in problems)
        _end(2, "\n".join(f"{PROGRAM}: error: {sentence}" for sentence in sentences))
    return _completed(settings)


def _completed(settings: Settings) -> Settings:
    """The settings with those that stand for others replaced."""
    if settings.group_by:  # of the values as they are given
        settings.group, settings.group_by = _whole_group(settings), []
        settings.stated, settings.given = settings.stated | {"group"}, settings.given | {"group"}
    if settings.use_float16:
        settings.precision, settings.use_float16 = "fp16", False
        settings.stated |= {"precision"}
    if settings.channels_last:
        settings.memory_format, settings.channels_last = "channels_last", False
        settings.stated |= {"memory_format"}
    kind, colon, source = settings.language_model.partition(":")
    if source.startswith("~"):
        settings.language_model = f"{kind}{colon}{expanded(source)}"
    return settings


# What is wrong only of several flags together, and what is worth saying


def _storage_of_other_metrics(opt: argparse.Namespace) -> list[str]:
    measured = opt.evaluation_metrics
    return [
        f"--storage_metrics {metric} is not among --evaluation_metrics ({' '.join(measured)})."
        for metric in opt.storage_metrics
        if opt.store_improvements and metric not in measured
    ]


def _metrics_of_other_evaltypes(opt: argparse.Namespace) -> list[str]:
    return [
        f"--evaluation_metrics {metric} needs --evaltypes {evaltype}."
        for metric in opt.evaluation_metrics
        for evaltype in CHOICES["evaltypes"]
        if metric.endswith(f"@{evaltype}") and evaltype not in opt.evaltypes
    ]


def _batches_of_other_sizes(opt: argparse.Namespace) -> list[str]:
    problems = []
    each = opt.samples_per_class if opt.data_sampler not in WITHOUT_CLASSES else 1
    batch = abridged(opt.bs)
    if each > 0 and opt.bs % each:
        problems.append(f"--bs {batch} is not a multiple of --samples_per_class {abridged(each)}.")
    if opt.data_ssl_set and each > 0 and opt.bs % (2 * each):
        problems.append(
            f"--data_ssl_set repeats half a batch: --bs {batch} must be a multiple of "
            f"{abridged(2 * each)}."
        )
    if opt.data_sampler == "semi_class_random" and opt.bs % 2:
        problems.append(
            f"--data_sampler semi_class_random draws pairs of images: --bs {batch} must be even."
        )
    return problems


def _contradictions(opt: Settings) -> list[str]:
    is_other = opt.precision == "bf16" or (opt.precision == "fp32" and "precision" in opt.given)
    pairs = (
        ("--use_float16", opt.use_float16, f"--precision {opt.precision}", is_other),
        (
            "--channels_last",
            opt.channels_last,
            "--memory_format contiguous",
            opt.memory_format == "contiguous",
        ),
        ("--not_pretrained", opt.not_pretrained, "--arch_weights", opt.arch_weights),
        ("--sync_bn", opt.sync_bn, "--micro_batch", opt.micro_batch),
        ("--evaluate_only", opt.evaluate_only, "--resume", opt.resume),
        (
            "--language_loss contrastive",
            maps_to_texts(opt),
            "--language_control onehot",
            opt.language_control == "onehot",
        ),
    )
    return [
        f"{first} and {second} contradict each other; give one of them."
        for first, has_first, second, has_second in pairs
        if has_first and has_second
    ]


def _nothing_evaluated(opt: argparse.Namespace) -> list[str]:
    if _evaluates(opt):
        return []
    problems = []
    if opt.store_improvements and not opt.evaluate_only:
        problems.append(
            "--store_improvements has nothing to compare with --no_test_metrics and "
            "--no_train_metrics; drop one of the three."
        )
    if opt.evaluate_only:
        problems.append(
            "--evaluate_only has nothing to evaluate with --no_test_metrics and "
            "--no_train_metrics; drop one of them."
        )
    return problems


def _named_classes_without_split(opt: argparse.Namespace) -> list[str]:
    if opt.tv_split_classes and (opt.tv_split_by_samples or not opt.use_tv_split):
        return [
            "--tv_split_classes divides between classes: it needs --use_tv_split, without "
            "--tv_split_by_samples."
        ]
    return []


def _cache_below_crops(opt: argparse.Namespace) -> list[str]:
    if 0 < opt.cache_size < opt.image_size:
        return [
            f"--cache_size {opt.cache_size} is smaller than the crops of --image_size "
            f"{abridged(opt.image_size)}; raise it, or 0 keeps images as they are."
        ]
    return []


def _support_limits(opt: argparse.Namespace) -> list[str]:
    limits = opt.miner_parametric_support_lim
    if len(limits) == 2 and limits[0] < limits[1]:
        return []
    given = " ".join(map(str, limits))
    return [f"--miner_parametric_support_lim must be a smaller and a larger distance, not {given}."]


def _group_as_folder(opt: argparse.Namespace) -> list[str]:
    group = _whole_group(opt)
    if opt.savename == NAMED_BY_GROUP and "/" in group:
        return [
            f"--group {group} names the run folder, which takes no slash; give --savename for "
            "another name of the folder."
        ]
    named = run_name(opt.savename, group, seed=0)  # the seed may be no possible one
    if (length := len(os.fsencode(named))) > LONGEST_NAME:
        flag = "group" if opt.savename == NAMED_BY_GROUP else "savename"
        return [
            f"--{flag} makes the name of the run folder {length} bytes long; it may have "
            f"{LONGEST_NAME}, as further runs and evaluations add something to it."
        ]
    if not group.isprintable():
        return [f"--group {group!a} holds characters that cannot be written to a file."]
    return []


def _whole_group(opt: argparse.Namespace) -> str:
    """With the values of `--group_by`: guided_lr0.001; paths are without slashes there."""
    named = [name for name in opt.group_by if _is_stored_setting(name)]
    values = ["-".join(map(str, entries_of(getattr(opt, name)))) for name in named]
    added = [f"{name}{value.replace('/', '-')}" for name, value in zip(named, values)]
    return "_".join([opt.group, *added])


def _model_that_is_not_there(opt: argparse.Namespace) -> list[str]:
    kind, _, source = opt.language_model.partition(":")
    if source.startswith("~") and os.path.expanduser(source).startswith("~"):
        return [f"--language_model {kind}:{without_home(source)}"]
    reads = {"vectors": _reads_texts, "matrix": _is_guided_by_texts}
    return _absent_model(opt) if kind in reads and reads[kind](opt) else []


def _absent_model(opt: argparse.Namespace) -> list[str]:
    """That there is no such file, of a model which is one."""
    kind, _, source = opt.language_model.partition(":")
    path = os.path.expanduser(source)
    if not source or kind not in ("vectors", "matrix") or os.path.isfile(path):
        return []
    return [f"--language_model {kind}:{abridged(source)}: {absent(path)}"]


def _beyond_given_similarities(opt: argparse.Namespace) -> list[str]:
    """What needs vectors of texts, which a matrix of similarities does not have."""
    if not has_given_similarities(opt):
        return []
    by_matrix = _is_guided_by_texts(opt)
    wanted = {
        "--language_pseudoclass": by_matrix and opt.language_pseudoclass,
        "--language_loss contrastive": by_matrix and opt.language_loss == "contrastive",
        f"--evaluation_metrics {' '.join(sorted(TEXT_METRICS & {*opt.evaluation_metrics}))}": (
            measures_semantics(opt)
        ),
    }
    return [
        f"{part} reads texts, and --language_model {abridged(opt.language_model)} has similarities "
        "of classes alone; give another --language_model, or leave it out."
        for part, is_wanted in wanted.items()
        if is_wanted
    ]


def _vocabulary_missing(opt: argparse.Namespace) -> list[str]:
    if not (is_zero_shot(opt) and _reads_pseudolabels(opt)) or opt.language_pseudoclass_vocabulary:
        return []
    return [
        f"--language_pseudoclass_arch {abridged(opt.language_pseudoclass_arch)} needs "
        "--language_pseudoclass_vocabulary FILE, with a word or phrase a line."
    ]


def _unfit_miners(opt: argparse.Namespace) -> list[str]:
    """Objectives and miners that do not fit together."""
    flags = ("loss", *COMPOSITES.get(opt.loss, ()))
    used = {getattr(opt, flag): f"--{flag}" for flag in flags}
    problems = [
        f"{flag} {name} needs --batch_mining {' or '.join(MINERS[name])} "
        f"(given: {opt.batch_mining})."
        for name, flag in used.items()
        if name in MINERS and opt.batch_mining not in MINERS[name]
    ]
    takes_all_pairs = opt.batch_mining == BY_NAME["batch_mining"].default
    if opt.loss.startswith(PML) and not (opt.batch_mining.startswith(PML) or takes_all_pairs):
        problems.append(
            f"--loss {opt.loss} cannot take --batch_mining {opt.batch_mining}; choose {PML_CLASS} "
            "of the same library, or leave it out to take all pairs."
        )
    return problems


def _growing_rates(opt: argparse.Namespace) -> list[str]:
    if opt.scheduler == "plateau" and opt.gamma >= 1:
        return [f"--scheduler plateau needs --gamma below 1, not {opt.gamma:g}."]
    return []


def _objective_without_memory(opt: argparse.Namespace) -> list[str]:
    if not opt.xbm_size or opt.loss in ANCHORED:
        return []
    return [
        f"--xbm_size adds positives and negatives, which --loss {opt.loss} cannot take one by one; "
        f"it works with {', '.join(ANCHORED)}."
    ]


def _missing_checkpoints(opt: argparse.Namespace) -> list[str]:
    given = {"evaluate_only": opt.evaluate_only}
    if opt.resume != "auto":
        given["resume"] = opt.resume
    if not any(given.values()):
        return []
    from utilities import run_folder  # here, because it imports yaml

    return [
        f"--{flag} {path}: "
        + run_folder.absent_checkpoint(path, "or auto" if flag == "resume" else "")
        for flag, path in given.items()
        if path and not path.startswith("~") and not unreachable(path)
        if not run_folder.checkpoint_at(path).is_file()
    ]


COMBINATIONS = (
    _metrics_of_other_evaltypes,
    _contradictions,
    _nothing_evaluated,
    _named_classes_without_split,
    _cache_below_crops,
    _group_as_folder,
    _model_that_is_not_there,
    _beyond_given_similarities,
    _vocabulary_missing,
    _missing_checkpoints,
)
COMBINATIONS_OF_TRAINING = (
    _storage_of_other_metrics,
    _batches_of_other_sizes,
    _support_limits,
    _unfit_miners,
    _growing_rates,
    _objective_without_memory,
)


def _advice(opt: argparse.Namespace) -> list[str]:
    """What follows from several settings and is easily missed, given or not."""
    if opt.evaluate_only:
        return _figures_without_texts(opt)
    said = []
    if opt.warmup >= opt.n_epochs:
        said.append(
            f"--warmup {opt.warmup} outlasts --n_epochs {opt.n_epochs}: the trunk never trains."
        )
    if opt.loss == "s2sd" and not _distils(opt):
        said.append(
            "--loss s2sd distils nothing, because --loss_s2sd_w is 0 and features are not "
            "distilled (--loss_s2sd_feat_distill)."
        )
    if opt.class_text and not _reads_names(opt) and reads_class_texts(opt):
        said.append(
            "--class_text does not guide beside --language_pseudoclass; only figures and metrics "
            "read it."
        )
    if _is_guided(opt) and not maps_to_texts(opt) and "normalize" not in opt.arch.split("_"):
        said.append(
            "Guidance compares dot products of embeddings of any length, not their cosines, with "
            f"the similarities of texts, because --arch {opt.arch} has no _normalize."
        )
    if has_given_similarities(opt) and _is_guided_by_texts(opt) and _draws(opt):
        said.append(
            "Figures do not compare classes with language, because --language_model "
            f"{abridged(opt.language_model)} has no vectors of texts."
        )
    if opt.batch_mining == "intra_random" and _mines(opt) and opt.samples_per_class < 3:
        said.append(
            "--batch_mining intra_random draws from classes with at least three images in a batch: "
            "raise --samples_per_class above 2."
        )
    return said


def _figures_without_texts(opt: argparse.Namespace) -> list[str]:
    lost = _texts_left_behind(opt) if _should_draw_texts(opt) else []
    return [f"Figures do not compare classes with language: {problem}" for problem in lost]


if __name__ == "__main__":
    print(documentation(), end="")
