"""Every flag of the command line, in named groups, with its validation.

This module imports nothing heavy, so that `--help` is instant and a wrong setting is told before
anything is loaded. The valid names of components are repeated here for that reason;
`tests/test_parameters.py` holds them against the registries. Flags, defaults and group names are
those of the paper's repository; what is new is marked `(new)`.
"""

import argparse
import difflib
import json
import math
import os
import re
from pathlib import Path

CHOICES = {
    "loss": (
        "contrastive",
        "triplet",
        "margin",
        "multisimilarity",
        "npair",
        "arcface",
        "softmax",
        "oproxy",
        "s2sd",
        "proxynca",
        "softtriplet",
        "angular",
        "lifted",
        "histogram",
        "quadruplet",
        "snr",
        "adversarial_separation",
        "proxyanchor",
        "supcon",
        "circle",
        "smooth_ap",
        "recall_at_k",
    ),
    "batch_mining": (
        "random",
        "semihard",
        "softhard",
        "distance",
        "rho_distance",
        "npair",
        "intra_random",
        "lifted",
        "parametric",
        "random_distance",
        "multisimilarity",
    ),
    "data_sampler": (
        "class_random",
        "random",
        "semi_class_random",
        "class_balanced",
        "greedy_coreset",
        "d2_coreset",
        "disthist_batchmatch",
        "fid_batchmatch",
    ),
    "optim": ("adam",),
    "scheduler": ("step", "none"),
    "augmentation": ("base", "adv", "big", "red"),
    "loss_contrastive_form": ("paper", "textbook"),
    "loss_triplet_form": ("paper", "textbook", "euclidean"),
    "loss_margin_form": ("paper", "textbook"),
    "loss_multisimilarity_form": ("paper", "textbook"),
    "loss_npair_form": ("paper", "textbook", "textbook_mc"),
    "loss_arcface_form": ("paper", "textbook", "textbook_normalised"),
    "loss_softmax_form": ("paper", "textbook"),
    "loss_oproxy_form": ("paper", "textbook"),
    "loss_oproxy_mode": ("anchor", "nca"),
    "loss_proxynca_form": ("textbook", "plusplus"),
    "loss_lifted_form": ("paper", "textbook"),
    "miner_distance_form": ("paper", "textbook"),
    "miner_rho_distance_form": ("paper", "textbook"),
    "miner_random_distance_form": ("paper", "textbook"),
    "miner_semihard_form": ("paper", "textbook"),
    "miner_npair_form": ("paper", "mc"),
    "miner_parametric_mode": ("uniform", "hards", "semihards", "veryhards"),
    "cache": ("none", "ram", "disk"),
    "decoding": ("fast", "exact"),
    "on_bad_image": ("raise", "skip"),
    "device": ("auto", "cpu", "cuda"),
    "precision": ("fp32", "bf16", "fp16"),
    "evaltypes": ("embeds", "avg_features"),
    "evaluation_backend": ("auto", "torch", "faiss"),
    "language_distill_dir": ("backward", "forward"),
    "language_pseudoclass_level": ("class", "sample"),
}
# Flags that also take pml:<ClassName>, of the optional pytorch-metric-learning.
PML, BRIDGED = (
    "pml:",
    (
        "loss",
        "batch_mining",
        "loss_s2sd_source",
        "loss_s2sd_target",
        "loss_adversarial_separation_source",
        "loss_adversarial_separation_target",
    ),
)
# Objectives around others, with the flags that name those.
COMPOSITES = {
    name: (f"loss_{name}_source", f"loss_{name}_target")
    for name in ("s2sd", "adversarial_separation")
}
CHOICES |= {
    flag: tuple(name for name in CHOICES["loss"] if name not in COMPOSITES)
    for flags in COMPOSITES.values()
    for flag in flags
}
# The only miners that some objectives on tuples work with; all others on tuples take any.
MINERS = {"npair": ("npair",), "angular": ("npair",), "lifted": ("lifted",)}
METRIC_PATTERNS = (
    "e_recall@K",
    "c_recall@K",
    "superclass_recall@K",
    "precision@K",
    "c_precision@K",
    "r_precision",
    "c_r_precision",
    "mAP@R",
    "c_mAP@R",
    "mAP_1000",
    "c_mAP_1000",
    "mAP_lim",
    "c_mAP_lim",
    "mAP",
    "c_mAP",
    "nmi",
    "c_nmi",
    "ami",
    "c_ami",
    "f1",
    "c_f1",
    "dists@intra",
    "dists@inter",
    "dists@intra_over_inter",
    "rho_spectrum@M@embeds",
    "rho_spectrum@M@avg_features",
    "semantic_consistency",
)
LANGUAGE_MODELS = ("clip", "bert", "roberta_l", "minilm")
WANDB_KEY_PLACEHOLDER = "<your_wandb_key>"
# Of an evaluated checkpoint's settings: what the evaluation itself must ask for, or against.
NOT_INHERITED = ("log_online", "no_figures", "no_test_metrics")
# Read by main before training and meaningless in a stored configuration; a key must never reach a
# file.
NOT_STORED = ("config", "list", "resume", "completed", "evaluate_only", "wandb_key")


def basic_training_parameters(parser: argparse.ArgumentParser) -> None:
    """Data, evaluation, run folder, optimisation, architecture and devices."""
    group = parser.add_argument_group("basic_training_parameters")
    group.add_argument(
        "--config",
        metavar="FILE",
        help="(new) YAML file of settings that the flags override; the args.yaml of a finished run is one.",
    )
    group.add_argument(
        "--list",
        action="store_true",
        help="(new) Show all objectives, miners, samplers, metrics, datasets and language models, and end.",
    )
    group.add_argument(
        "--dataset",
        type=str,
        default="cub200",
        help="A benchmark (cub200, cars196, online_products, inshop), 'shapes' (built in, rendered on first use), your own data as 'folder' or 'table', or any other folder <source_path>/<dataset>/images/<class folder>/.",
    )
    group.add_argument(
        "--allow_partial",
        action="store_true",
        help="(new) Take a benchmark whose classes and images are not those published; results do not compare.",
    )
    group.add_argument(
        "--use_tv_split",
        action="store_true",
        help="Split a validation set off the training set and evaluate on it as well.",
    )
    group.add_argument(
        "--tv_split_by_samples",
        action="store_true",
        help="Split train/validation within each class instead of between classes.",
    )
    group.add_argument(
        "--tv_split_perc",
        type=float,
        default=0,
        help="Share of the training classes (or samples) that stay in training under --use_tv_split, below 1; 0 stands for the usual 0.8.",
    )
    group.add_argument(
        "--tv_split_classes",
        metavar="FILE",
        type=str,
        help="(new) Text file that names the validation classes of --use_tv_split, one a line, instead of the last ones.",
    )
    group.add_argument(
        "--completed",
        action="store_true",
        help="Skip the run if a finished one of the same dataset and savename exists (for sweeps that are started again).",
    )
    group.add_argument(
        "--no_train_metrics", action="store_true", help="Do not evaluate on the training images."
    )
    group.add_argument(
        "--no_test_metrics", action="store_true", help="Do not evaluate on the test images."
    )
    group.add_argument(
        "--evaluation_metrics",
        type=str,
        nargs="+",
        default=["e_recall@1", "e_recall@2", "e_recall@4", "e_recall@10", "nmi", "f1", "mAP_1000"],
        help=f"Metrics of each evaluation, of {', '.join(METRIC_PATTERNS)} with any K >= 1 and M other than 0; --list explains them.",
    )
    group.add_argument(
        "--evaltypes",
        type=str,
        nargs="+",
        default=["embeds"],
        help=_one_of(
            "evaltypes", "What is evaluated: the embedding or the pooled features below it"
        ),
    )
    group.add_argument(
        "--evaluate_every",
        type=int,
        default=1,
        help="(new) Evaluate after every N-th epoch, and after the last.",
    )
    group.add_argument(
        "--evaluate_only",
        metavar="CHECKPOINT",
        help="(new) Train nothing: evaluate this checkpoint, or the last one of this run folder, under its own settings (but --log_online, --no_figures and --no_test_metrics) where no flag says otherwise.",
    )
    group.add_argument(
        "--evaluation_backend",
        type=str,
        default="auto",
        help=_one_of(
            "evaluation_backend",
            "(new) What searches neighbours; all give the same answer, auto takes torch, the fastest",
        ),
    )
    group.add_argument(
        "--evaluation_memory",
        metavar="SIZE",
        type=str,
        default="auto",
        help="(new) Memory of a search beside the embeddings, e.g. 256MB or 4GB; auto takes half of what is free.",
    )
    group.add_argument(
        "--no_figures",
        action="store_true",
        help="(new) Do not draw retrievals, projection and class similarities of the test split at the end.",
    )
    group.add_argument(
        "--storage_metrics",
        type=str,
        nargs="+",
        default=["e_recall@1"],
        help="Metrics whose improvement stores a checkpoint under --store_improvements.",
    )
    group.add_argument(
        "--store_improvements",
        action="store_true",
        help="Store a checkpoint each time a storage metric improves (the last epoch is always stored).",
    )
    group.add_argument(
        "--resume",
        metavar="PATH",
        help="(new) Go on from a checkpoint: its path, or 'auto' for the latest run of this dataset and savename.",
    )
    group.add_argument(
        "--gpu", type=int, nargs="+", default=[0], help="Index of the GPU; the first is used."
    )
    group.add_argument(
        "--device",
        type=str,
        default="auto",
        help=_one_of("device", "(new) auto takes the GPU if there is one"),
    )
    group.add_argument(
        "--savename",
        type=str,
        default="group_plus_seed",
        help="Name of the run folder; 'group_plus_seed' makes <group>_s<seed>.",
    )
    group.add_argument(
        "--source_path",
        "--datapath",
        type=str,
        default="../../Datasets",
        help="Folder that holds the dataset folders; with --dataset folder or table, your folder or file itself.",
    )
    group.add_argument(
        "--save_path",
        type=str,
        default="Training_Results",
        help="Folder under which the run folders are made.",
    )
    group.add_argument(
        "--cache_path",
        type=str,
        default="~/.cache/language_guided_dml",
        help="(new) Folder of text embeddings and pseudolabels, kept by content.",
    )
    group.add_argument("--lr", type=float, default=1e-5, help="Learning rate of the trunk.")
    group.add_argument(
        "--fc_lr",
        type=float,
        default=-1,
        help="Learning rate of the embedding head; negative: the same as --lr.",
    )
    group.add_argument("--n_epochs", "--epochs", type=int, default=150, help="Number of epochs.")
    group.add_argument(
        "--kernels",
        type=int,
        default=6,
        help="Number of data loading processes, but no more than there are cores; 0 loads in the main process.",
    )
    group.add_argument(
        "--cache",
        type=str,
        default="none",
        help=_one_of(
            "cache",
            "(new) Where decoded images are kept for later epochs, shared by all loading processes; disk: in --cache_path, for other runs too",
        ),
    )
    group.add_argument(
        "--cache_limit",
        metavar="GB",
        type=float,
        default=8,
        help="(new) Upper bound of --cache, which also stays within half of the machine's memory or free disk; images beyond it are decoded each time.",
    )
    group.add_argument(
        "--cache_size",
        metavar="PIXELS",
        type=int,
        default=0,
        help="(new) Short side to which --cache reduces larger images, so that more of them fit; crops are then cut from fewer pixels. 0: keep all pixels, which changes no crop.",
    )
    group.add_argument(
        "--decoding",
        type=str,
        default="fast",
        help=_one_of(
            "decoding",
            "(new) JPEGs without --cache: fast at 1/2, 1/4 or 1/8 scale where that is no smaller than the crop, and within 1 to 2 of 255 grey levels; exact as Pillow decodes",
        ),
    )
    group.add_argument(
        "--check_images",
        action="store_true",
        help="(new) Decode every image before training; without it only files are that do not end as a whole one does.",
    )
    group.add_argument(
        "--on_bad_image",
        type=str,
        default="raise",
        help=_one_of(
            "on_bad_image",
            "(new) What broken images do: end the run, or stay out of it, counted and named (includes --check_images)",
        ),
    )
    group.add_argument("--bs", type=int, default=112, help="Batch size.")
    group.add_argument(
        "--seed", type=int, default=0, help="Seed of initialisation, batches and augmentation."
    )
    group.add_argument(
        "--scheduler",
        type=str,
        default="step",
        help=_one_of(
            "scheduler",
            "Learning rate schedule: multiply by --gamma at each epoch of --tau, or constant",
        ),
    )
    group.add_argument(
        "--gamma", type=float, default=0.3, help="Factor of the learning rate at each --tau."
    )
    group.add_argument("--decay", type=float, default=4e-4, help="Weight decay.")
    group.add_argument(
        "--tau",
        type=int,
        nargs="+",
        default=[10000],
        help="Epochs at which the learning rate is multiplied by --gamma.",
    )
    group.add_argument(
        "--augmentation",
        type=str,
        default="base",
        help=_one_of(
            "augmentation", "Training augmentation; 'big' trains and tests on the uncropped size"
        ),
    )
    group.add_argument(
        "--warmup", type=int, default=0, help="Epochs in which the head is trained alone."
    )
    group.add_argument(
        "--evaluate_on_cpu",
        action="store_true",
        help="Search and cluster on the CPU even where there is a GPU.",
    )
    group.add_argument(
        "--internal_split",
        type=float,
        default=1,
        help="Share of each batch drawn from the first classes (in this share too), the rest from the others; 1: from all alike.",
    )
    group.add_argument("--optim", type=str, default="adam", help=_one_of("optim", "Optimizer"))
    group.add_argument(
        "--loss",
        type=str,
        default="margin",
        help=_one_of("loss", "Objective") + " Or pml:<ClassName> of pytorch-metric-learning.",
    )
    group.add_argument(
        "--batch_mining",
        type=str,
        default="distance",
        help=_one_of("batch_mining", "Batch miner, for objectives on triplets")
        + " Or pml:<ClassName> of pytorch-metric-learning.",
    )
    group.add_argument("--embed_dim", type=int, default=128, help="Dimension of the embedding.")
    group.add_argument(
        "--arch",
        type=str,
        default="resnet50_frozen_normalize",
        help="<timm model>[_frozen][_double][_normalize]: fixed BatchNorm, max added to average pooling, unit embeddings.",
    )
    group.add_argument(
        "--arch_weights",
        metavar="FILE",
        type=str,
        help="(new) Local checkpoint of the trunk instead of the download.",
    )
    group.add_argument("--not_pretrained", action="store_true", help="Start from random weights.")
    group.add_argument(
        "--image_size",
        type=int,
        default=224,
        help="(new) Side N of the square crops in pixels; evaluation resizes the short side to N*256/224 and crops the centre.",
    )
    group.add_argument(
        "--precision",
        type=str,
        default="fp32",
        help=_one_of(
            "precision",
            "(new) Number format of the network; similarities and losses are always fp32",
        ),
    )
    group.add_argument("--use_float16", action="store_true", help="The same as --precision fp16.")
    group.add_argument(
        "--channels_last",
        action="store_true",
        help="(new) Channels-last memory layout, often faster for convolutions.",
    )


def batch_creation_parameters(parser: argparse.ArgumentParser) -> None:
    """How batches are drawn."""
    group = parser.add_argument_group("batch_creation_parameters")
    group.add_argument(
        "--data_sampler",
        type=str,
        default="class_random",
        help=_one_of("data_sampler", "How batches are drawn"),
    )
    group.add_argument(
        "--data_ssl_set",
        action="store_true",
        help="Draw half a batch and repeat it, so that each image comes with two augmentations.",
    )
    group.add_argument(
        "--samples_per_class", type=int, default=2, help="Images drawn of each class in a batch."
    )
    group.add_argument(
        "--data_batchmatch_bigbs",
        type=int,
        default=512,
        help="(new) Size of the pool from which coreset and batch-matching samplers choose a batch.",
    )
    group.add_argument(
        "--data_batchmatch_ncomps",
        type=int,
        default=10,
        help="(new) Candidate batches that the batch-matching samplers compare.",
    )
    group.add_argument(
        "--data_d2_coreset_lambda",
        type=float,
        default=1,
        help="(new) Weight of the squared distances beside the uniform share in d2_coreset.",
    )
    group.add_argument(
        "--data_sampler_lowproj_dim",
        type=int,
        default=-1,
        help="(new) Project stored embeddings at random to this dimension before choosing; -1: do not.",
    )


def batchmining_specific_parameters(parser: argparse.ArgumentParser) -> None:
    """Hyper-parameters of the batch miners, `--miner_<name>_<parameter>`."""
    group = parser.add_argument_group("batchmining_specific_parameters")
    group.add_argument(
        "--miner_distance_lower_cutoff",
        type=float,
        default=0.5,
        help="Smaller distances count as this one.",
    )
    group.add_argument(
        "--miner_distance_upper_cutoff",
        type=float,
        default=1.4,
        help="Negatives farther than this are left out in the textbook form; not applied in the paper's.",
    )
    group.add_argument(
        "--miner_distance_form",
        type=str,
        default="paper",
        help=_one_of(
            "miner_distance_form", "(new) Form of the miner where code and literature differ"
        ),
    )
    group.add_argument(
        "--miner_rho_distance_lower_cutoff",
        type=float,
        default=0.5,
        help="As in the distance miner.",
    )
    group.add_argument(
        "--miner_rho_distance_upper_cutoff",
        type=float,
        default=1.4,
        help="As in the distance miner.",
    )
    group.add_argument(
        "--miner_rho_distance_cp",
        type=float,
        default=0.2,
        help="Probability of a triplet that pushes a positive away.",
    )
    group.add_argument(
        "--miner_rho_distance_form",
        type=str,
        default="paper",
        help=_one_of("miner_rho_distance_form", "(new) As in the distance miner"),
    )
    group.add_argument(
        "--miner_random_distance_lower_cutoff",
        type=float,
        default=0.5,
        help="(new) As in the distance miner.",
    )
    group.add_argument(
        "--miner_random_distance_upper_cutoff",
        type=float,
        default=1.4,
        help="(new) As in the distance miner.",
    )
    group.add_argument(
        "--miner_random_distance_shuffle_labels",
        action="store_true",
        help="(new) Triplets of random classes, as in the predecessor's code: a control.",
    )
    group.add_argument(
        "--miner_random_distance_form",
        type=str,
        default="paper",
        help=_one_of("miner_random_distance_form", "(new) As in the distance miner"),
    )
    group.add_argument(
        "--miner_semihard_margin",
        type=float,
        default=0.2,
        help="Width of the band behind the positive in which negatives are drawn.",
    )
    group.add_argument(
        "--miner_semihard_form",
        type=str,
        default="paper",
        help=_one_of(
            "miner_semihard_form", "(new) Band over Euclidean (paper) or squared distances"
        ),
    )
    group.add_argument(
        "--miner_npair_form",
        type=str,
        default="paper",
        help=_one_of(
            "miner_npair_form", "(new) Every sample is an anchor (paper), or one pair per class"
        ),
    )
    group.add_argument(
        "--miner_parametric_mode",
        type=str,
        default="semihards",
        help=_one_of("miner_parametric_mode", "(new) Distances from which negatives come"),
    )
    group.add_argument(
        "--miner_parametric_n_support",
        type=int,
        default=30,
        help="(new) Borders of the distance bins.",
    )
    group.add_argument(
        "--miner_parametric_support_lim",
        type=float,
        nargs="+",
        default=[0.1, 1.9],
        help="(new) Smallest and largest distance of a negative.",
    )
    group.add_argument(
        "--miner_multisimilarity_margin",
        type=float,
        default=0.1,
        help="(new) Margin within which pairs are informative.",
    )
    group.add_argument(
        "--miner_pml_args",
        metavar="JSON",
        type=str,
        default="{}",
        help="(new) Arguments of a pml: miner as a JSON object.",
    )


def loss_specific_parameters(parser: argparse.ArgumentParser) -> None:
    """Hyper-parameters of the objectives, `--loss_<name>_<parameter>`."""
    group = parser.add_argument_group("loss_specific_parameters")
    group.add_argument(
        "--loss_contrastive_pos_margin",
        type=float,
        default=0,
        help="Distance below which positives cost nothing.",
    )
    group.add_argument(
        "--loss_contrastive_neg_margin",
        type=float,
        default=1,
        help="Distance above which negatives cost nothing.",
    )
    group.add_argument(
        "--loss_contrastive_form",
        type=str,
        default="paper",
        help=_one_of("loss_contrastive_form", "(new) Hinges (paper) or half their squares"),
    )
    group.add_argument(
        "--loss_triplet_margin",
        type=float,
        default=0.2,
        help="Margin between positive and negative distance.",
    )
    group.add_argument(
        "--loss_triplet_form",
        type=str,
        default="paper",
        help=_one_of(
            "loss_triplet_form", "(new) Squared distances (paper and textbook) or Euclidean ones"
        ),
    )
    group.add_argument(
        "--loss_s2sd_source",
        type=str,
        default="multisimilarity",
        help=_one_of("loss_s2sd_source", "Objective of the embedding"),
    )
    group.add_argument(
        "--loss_s2sd_target",
        type=str,
        default="multisimilarity",
        help=_one_of("loss_s2sd_target", "Objective of the target branches"),
    )
    group.add_argument(
        "--loss_s2sd_T", type=float, default=1, help="Temperature of the distillation."
    )
    group.add_argument(
        "--loss_s2sd_w",
        type=float,
        default=0,
        help="Weight of the distillation from the target branches (0 in the published recipes).",
    )
    group.add_argument(
        "--loss_s2sd_pool_aggr",
        action="store_true",
        help="Feed the target branches with average plus max pooling.",
    )
    group.add_argument(
        "--loss_s2sd_target_dims",
        type=int,
        nargs="+",
        default=[1024, 1536, 2048],
        help="Dimensions of the target branches.",
    )
    group.add_argument(
        "--loss_s2sd_feat_distill",
        action="store_true",
        help="Distill from the pooled features too.",
    )
    group.add_argument(
        "--loss_s2sd_feat_w", type=float, default=50, help="Weight of the feature distillation."
    )
    group.add_argument(
        "--loss_s2sd_feat_distill_delay",
        type=int,
        default=1000,
        help="Iterations before the feature distillation begins.",
    )
    group.add_argument(
        "--loss_margin_margin", type=float, default=0.2, help="Half width of the band around beta."
    )
    group.add_argument(
        "--loss_margin_beta_lr",
        type=float,
        default=0.0005,
        help="Learning rate of the class margins beta.",
    )
    group.add_argument("--loss_margin_beta", type=float, default=1.2, help="Initial value of beta.")
    group.add_argument(
        "--loss_margin_nu", type=float, default=0, help="Weight of the regulariser on beta."
    )
    group.add_argument(
        "--loss_margin_beta_constant",
        action="store_true",
        help="Keep beta constant and the same for all classes.",
    )
    group.add_argument(
        "--loss_margin_form",
        type=str,
        default="paper",
        help=_one_of("loss_margin_form", "(new) Divide by active triplets (paper) or active pairs"),
    )
    group.add_argument(
        "--loss_oproxy_mode",
        type=str,
        default="anchor",
        help=_one_of("loss_oproxy_mode", "Sums per proxy (ProxyAnchor) or per sample"),
    )
    group.add_argument(
        "--loss_oproxy_lrmulti",
        type=float,
        default=2000,
        help="Learning rate of the proxies as a multiple of --lr.",
    )
    group.add_argument(
        "--loss_oproxy_pos_alpha", type=float, default=32, help="Scale of positive similarities."
    )
    group.add_argument(
        "--loss_oproxy_neg_alpha", type=float, default=32, help="Scale of negative similarities."
    )
    group.add_argument(
        "--loss_oproxy_pos_delta",
        type=float,
        default=0.1,
        help="Threshold of positive similarities.",
    )
    group.add_argument(
        "--loss_oproxy_neg_delta",
        type=float,
        default=-0.1,
        help="Threshold of negative similarities.",
    )
    group.add_argument(
        "--loss_oproxy_form",
        type=str,
        default="paper",
        help=_one_of(
            "loss_oproxy_form",
            "(new) Positive term averaged over samples and scaled nca (paper), or ProxyAnchor and ProxyNCA as published",
        ),
    )
    group.add_argument(
        "--loss_npair_l2", type=float, default=0.005, help="Weight of the embedding norms."
    )
    group.add_argument(
        "--loss_npair_scale",
        type=float,
        default=1,
        help="(new) Factor on the embeddings in the paper's form (its code: 0.25 for BN-Inception).",
    )
    group.add_argument(
        "--loss_npair_form",
        type=str,
        default="paper",
        help=_one_of(
            "loss_npair_form",
            "(new) Regulariser on norms (paper) or squared norms; textbook_mc fits --miner_npair_form mc",
        ),
    )
    group.add_argument(
        "--loss_multisimilarity_dim",
        type=int,
        default=0,
        help="Axis of the similarity matrix that is summed over, 0 or 1 (the matrix is symmetric: no difference).",
    )
    group.add_argument(
        "--loss_multisimilarity_pos_weight",
        type=float,
        default=2,
        help="Scale alpha of positive similarities.",
    )
    group.add_argument(
        "--loss_multisimilarity_neg_weight",
        type=float,
        default=40,
        help="Scale beta of negative similarities.",
    )
    group.add_argument(
        "--loss_multisimilarity_margin",
        type=float,
        default=0.1,
        help="Margin epsilon of the pair mining.",
    )
    group.add_argument(
        "--loss_multisimilarity_pos_thresh",
        type=float,
        default=0.5,
        help="Threshold lambda of positive similarities.",
    )
    group.add_argument(
        "--loss_multisimilarity_neg_thresh",
        type=float,
        default=0.5,
        help="Threshold lambda of negative similarities.",
    )
    group.add_argument(
        "--loss_multisimilarity_form",
        type=str,
        default="paper",
        help=_one_of(
            "loss_multisimilarity_form",
            "(new) With a softplus around the batch means (paper) or without",
        ),
    )
    group.add_argument(
        "--loss_softmax_lr", type=float, default=1e-5, help="Learning rate of the class weights."
    )
    group.add_argument("--loss_softmax_temperature", type=float, default=0.05, help="Temperature.")
    group.add_argument(
        "--loss_softmax_form",
        type=str,
        default="paper",
        help=_one_of("loss_softmax_form", "(new) Embeddings as they come (paper) or normalised"),
    )
    group.add_argument(
        "--loss_arcface_lr", type=float, default=0.0005, help="Learning rate of the class weights."
    )
    group.add_argument(
        "--loss_arcface_angular_margin", type=float, default=0.5, help="Angular margin in radians."
    )
    group.add_argument(
        "--loss_arcface_feature_scale", type=float, default=16, help="Inverse temperature."
    )
    group.add_argument(
        "--loss_arcface_form",
        type=str,
        default="paper",
        help=_one_of(
            "loss_arcface_form",
            "(new) Cosines clamped to positive ones (paper) or not, embeddings normalised inside or not",
        ),
    )
    group.add_argument(
        "--loss_proxynca_lrmulti",
        type=float,
        default=50,
        help="(new) Learning rate of the proxies as a multiple of --lr.",
    )
    group.add_argument(
        "--loss_proxynca_temperature",
        type=float,
        default=1 / 9,
        help="(new) Temperature of the plusplus form.",
    )
    group.add_argument(
        "--loss_proxynca_form",
        type=str,
        default="textbook",
        help=_one_of("loss_proxynca_form", "(new) ProxyNCA or ProxyNCA++"),
    )
    group.add_argument(
        "--loss_proxyanchor_lrmulti",
        type=float,
        default=100,
        help="(new) Learning rate of the proxies as a multiple of --lr.",
    )
    group.add_argument(
        "--loss_proxyanchor_alpha", type=float, default=32, help="(new) Scale of similarities."
    )
    group.add_argument(
        "--loss_proxyanchor_margin",
        type=float,
        default=0.1,
        help="(new) Margin of similarities on both sides.",
    )
    group.add_argument(
        "--loss_softtriplet_n_centroids", type=int, default=2, help="(new) Centres per class."
    )
    group.add_argument(
        "--loss_softtriplet_margin_delta",
        type=float,
        default=0.01,
        help="(new) Margin of the target's similarity.",
    )
    group.add_argument(
        "--loss_softtriplet_gamma",
        type=float,
        default=0.1,
        help="(new) Temperature of the assignment to centres.",
    )
    group.add_argument(
        "--loss_softtriplet_scale",
        "--loss_softtriplet_lambda",
        type=float,
        default=8,
        help="(new) Inverse temperature of the classes.",
    )
    group.add_argument(
        "--loss_softtriplet_reg_weight",
        type=float,
        default=0.2,
        help="(new) Weight of the regulariser that draws centres of a class together.",
    )
    group.add_argument(
        "--loss_softtriplet_lrmulti",
        type=float,
        default=1,
        help="(new) Learning rate of the centres as a multiple of --lr.",
    )
    group.add_argument(
        "--loss_angular_alpha",
        type=float,
        default=45,
        help="(new) Bound of the angle at the negative, in degrees.",
    )
    group.add_argument(
        "--loss_angular_npair_ang_weight",
        type=float,
        default=2,
        help="(new) Weight of the angular term beside the N-pair term.",
    )
    group.add_argument(
        "--loss_angular_npair_l2",
        type=float,
        default=0.005,
        help="(new) Weight of the embedding norms.",
    )
    group.add_argument(
        "--loss_lifted_neg_margin",
        type=float,
        default=1,
        help="(new) Margin of negative distances.",
    )
    group.add_argument(
        "--loss_lifted_l2", type=float, default=0.005, help="(new) Weight of the embedding norms."
    )
    group.add_argument(
        "--loss_lifted_form",
        type=str,
        default="paper",
        help=_one_of(
            "loss_lifted_form",
            "(new) Per anchor (paper, Hermans et al.) or per positive pair (Oh Song et al.)",
        ),
    )
    group.add_argument(
        "--loss_histogram_nbins", type=int, default=65, help="(new) Nodes of the histograms."
    )
    group.add_argument(
        "--loss_quadruplet_margin_alpha_1",
        type=float,
        default=0.2,
        help="(new) Margin to the negative of the anchor.",
    )
    group.add_argument(
        "--loss_quadruplet_margin_alpha_2",
        type=float,
        default=0.2,
        help="(new) Margin to the distance of two negatives.",
    )
    group.add_argument(
        "--loss_snr_margin",
        type=float,
        default=0.2,
        help="(new) Margin between noise-to-signal ratios.",
    )
    group.add_argument(
        "--loss_snr_reg_lambda",
        type=float,
        default=0.005,
        help="(new) Weight of the anchors' distance from zero mean.",
    )
    group.add_argument(
        "--loss_adversarial_separation_source",
        type=str,
        default="multisimilarity",
        help=_one_of("loss_adversarial_separation_source", "(new) Objective of the embedding"),
    )
    group.add_argument(
        "--loss_adversarial_separation_target",
        type=str,
        default="multisimilarity",
        help=_one_of(
            "loss_adversarial_separation_target", "(new) Objective of the auxiliary embeddings"
        ),
    )
    group.add_argument(
        "--loss_adversarial_separation_target_dims",
        type=int,
        nargs="+",
        default=[128],
        help="(new) Dimensions of the auxiliary embeddings.",
    )
    group.add_argument(
        "--loss_adversarial_separation_weight",
        type=float,
        default=1500,
        help="(new) Weight of the separation.",
    )
    group.add_argument(
        "--loss_adversarial_separation_hidden_dim",
        type=int,
        default=512,
        help="(new) Hidden dimension of the regressors.",
    )
    group.add_argument(
        "--loss_adversarial_separation_lr",
        type=float,
        default=1e-5,
        help="(new) Learning rate of the regressors.",
    )
    group.add_argument(
        "--loss_supcon_temperature", type=float, default=0.1, help="(new) Temperature."
    )
    group.add_argument("--loss_circle_m", type=float, default=0.4, help="(new) Relaxation margin.")
    group.add_argument(
        "--loss_circle_gamma", type=float, default=80, help="(new) Scale of similarities."
    )
    group.add_argument(
        "--loss_smooth_ap_temperature",
        type=float,
        default=0.01,
        help="(new) Temperature of the sigmoid that stands for a step.",
    )
    group.add_argument(
        "--loss_recall_at_k_k",
        type=int,
        nargs="+",
        default=[1, 2, 4, 8, 16],
        help="(new) The k's, weighted alike.",
    )
    group.add_argument(
        "--loss_recall_at_k_rank_temperature",
        type=float,
        default=1,
        help="(new) Temperature of the sigmoid over ranks.",
    )
    group.add_argument(
        "--loss_recall_at_k_similarity_temperature",
        type=float,
        default=0.01,
        help="(new) Temperature of the sigmoid over similarities.",
    )
    group.add_argument(
        "--loss_pml_args",
        metavar="JSON",
        type=str,
        default="{}",
        help='(new) Arguments of a pml: objective as a JSON object; {"pml": "distances.LpDistance", ...} inside it makes such an object.',
    )
    group.add_argument(
        "--loss_pml_lr",
        type=float,
        default=-1,
        help="(new) Learning rate of the parameters of a pml: objective; negative: the same as --lr.",
    )


def wandb_parameters(parser: argparse.ArgumentParser) -> None:
    """Logging to Weights & Biases; the key comes from the environment (WANDB_API_KEY)."""
    group = parser.add_argument_group("wandb_parameters")
    group.add_argument(
        "--log_online",
        action="store_true",
        help="Log to Weights & Biases as well (WANDB_MODE=offline works).",
    )
    group.add_argument(
        "--wandb_key",
        type=str,
        default=WANDB_KEY_PLACEHOLDER,
        help="Ignored, because a key on the command line is visible to everybody: set WANDB_API_KEY.",
    )
    group.add_argument("--project", type=str, default="DiVA_Sample_Runs", help="W&B project.")
    group.add_argument(
        "--group", type=str, default="Sample_Run", help="W&B group: the seeds of one setting."
    )


def language_guidance_parameters(parser: argparse.ArgumentParser) -> None:
    """Language guidance, the contribution of the paper."""
    group = parser.add_argument_group("language_guidance_parameters")
    group.add_argument(
        "--language_distill_w",
        type=float,
        default=0,
        help="Weight of language guidance; 0 trains the objective alone.",
    )
    group.add_argument(
        "--language_model",
        type=str,
        default="clip",
        help=f"Text encoder: {', '.join(LANGUAGE_MODELS)} or hf:<name or folder>.",
    )
    group.add_argument(
        "--language_weights",
        metavar="PATH",
        type=str,
        help="(new) Local file or folder of the text encoder instead of the download.",
    )
    group.add_argument(
        "--language_primer",
        type=str,
        default="a photo of a {}",
        help="(new) Sentence around each class text; {} is where the text goes.",
    )
    group.add_argument(
        "--class_text",
        metavar="FILE",
        type=str,
        help="(new) Texts of the classes instead of their names, .json {class: text or [texts]} or .csv with columns class and text; the vectors of several texts are normalised and averaged. Whole sentences go with --language_primer '{}'.",
    )
    group.add_argument(
        "--language_delay", type=int, default=0, help="Iterations before guidance begins."
    )
    group.add_argument(
        "--language_pseudoclass",
        action="store_true",
        help="Use ImageNet pseudolabels (PLG) instead of the expert class names (ELG).",
    )
    group.add_argument(
        "--language_pseudoclass_topk", type=int, default=5, help="Number of pseudolabels per class."
    )
    group.add_argument(
        "--language_pseudoclass_level",
        type=str,
        default="class",
        help=_one_of(
            "language_pseudoclass_level", "(new) Pseudolabels of each class, or of each image"
        ),
    )
    group.add_argument(
        "--language_pseudoclass_arch",
        metavar="NAME",
        type=str,
        default="resnet50.tv_in1k",
        help="(new) timm ImageNet classifier that gives the pseudolabels.",
    )
    group.add_argument(
        "--language_pseudoclass_weights",
        metavar="FILE",
        type=str,
        help="(new) Local checkpoint of that classifier instead of the download.",
    )
    group.add_argument(
        "--language_shift",
        type=float,
        default=1,
        help="Shift of the language similarities, and with 1 the value of same-class pairs.",
    )
    group.add_argument(
        "--language_distill_dir",
        type=str,
        default="backward",
        help=_one_of(
            "language_distill_dir", "Direction of the divergence: backward is KL(image || language)"
        ),
    )
    group.add_argument(
        "--language_temp", type=float, default=1, help="Temperature of the row-wise softmax."
    )


GROUPS = (
    basic_training_parameters,
    batch_creation_parameters,
    batchmining_specific_parameters,
    loss_specific_parameters,
    wandb_parameters,
    language_guidance_parameters,
)


class Settings(argparse.Namespace):
    """The parsed flags."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="main.py",
        description="Train and evaluate a (language-guided) metric space.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    for add_group in GROUPS:
        add_group(parser)
    return parser


def parse(argv: list[str] | None = None, defaults: dict | None = None) -> Settings:
    """Settings from flags, over `--config`, over `defaults`; exits with status 2 and every problem if any is wrong.

    Args:
        defaults: settings of a checkpoint, in the place of the flags' own defaults; what is no flag
            any more, or NOT_INHERITED, is passed over.
    """
    parser = build_parser()
    inherited = vars(parser.parse_args([])).keys() - set(NOT_INHERITED)
    parser.set_defaults(
        **{name: value for name, value in (defaults or {}).items() if name in inherited}
    )
    config = _config_path(argv)
    problems = _apply_config(parser, config) if config else []
    opt = parser.parse_args(argv, Settings())
    problems += validate(opt)
    if opt.list:
        return opt
    if problems:
        parser.exit(2, "\n".join(f"main.py: error: {problem}" for problem in problems) + "\n")
    if opt.use_float16:
        opt.precision = "fp16"
    if opt.savename == "group_plus_seed":
        opt.savename = f"{opt.group}_s{opt.seed}"
    return opt


def stored(opt: argparse.Namespace) -> dict:
    """The settings as plain values for args.yaml, checkpoints and W&B: a file for `--config`."""
    return {name: value for name, value in vars(opt).items() if name not in NOT_STORED}


def hyperparameters(opt: argparse.Namespace, kind: str, name: str) -> dict:
    """`--loss_margin_beta 1.2` gives `{"beta": 1.2}` for the loss `margin`; kind is `loss` or `miner`."""
    name = name.split(":")[0]  # pml:<ClassName> has the flags of pml
    prefix = f"{kind}_{name}_"
    # --miner_random_distance_* are not the flags of the miner `random`.
    longer = tuple(
        f"{kind}_{other}_"
        for other in CHOICES["loss" if kind == "loss" else "batch_mining"]
        if other.startswith(f"{name}_")
    )
    return {
        flag[len(prefix) :]: value
        for flag, value in vars(opt).items()
        if flag.startswith(prefix) and not (longer and flag.startswith(longer))
    }


def validate(opt: argparse.Namespace) -> list[str]:
    """All problems of the settings, a sentence each; reads nothing but the existence of named files."""
    return [
        *_unknown_names(opt),
        *_wrong_metrics(opt),
        *_wrong_numbers(opt),
        *_wrong_combinations(opt),
        *_impossible_pairs(opt),
        *_missing_files(opt),
    ]


def notices(opt: argparse.Namespace) -> list[str]:
    """What a person should know of settings that are accepted but not what they may think."""
    said = []
    if opt.wandb_key != WANDB_KEY_PLACEHOLDER:
        said.append(
            "--wandb_key is ignored, because a key on the command line is visible to everybody on the machine: set WANDB_API_KEY."
        )
    if opt.cache_size and opt.cache == "none":
        said.append("--cache_size has no effect without --cache ram or disk.")
    if opt.language_pseudoclass and not opt.language_distill_w:
        said.append("--language_pseudoclass has no effect without --language_distill_w above 0.")
    if opt.class_text and (opt.language_pseudoclass or not opt.language_distill_w):
        said.append(
            "--class_text does not guide without --language_distill_w above 0, nor beside --language_pseudoclass."
        )
    if opt.data_sampler != "class_random" and (opt.data_ssl_set or opt.internal_split < 1):
        said.append(
            f"--data_ssl_set and --internal_split have no effect with --data_sampler {opt.data_sampler}: they belong to class_random."
        )
    if opt.batch_mining == "intra_random" and opt.samples_per_class < 3:
        said.append(
            "--batch_mining intra_random draws from classes with at least three images in a batch: raise --samples_per_class above 2."
        )
    return said


def _one_of(flag: str, text: str) -> str:
    return f"{text}. One of: {', '.join(CHOICES[flag])}."


def _unknown_names(opt) -> list[str]:
    problems = []
    for flag, valid in CHOICES.items():
        given = getattr(opt, flag)
        for name in given if isinstance(given, list) else [given]:
            if name not in valid and not (flag in BRIDGED and re.fullmatch(rf"{PML}\w+", name)):
                problems.append(
                    f"--{flag} {name} is not known{_nearest(name, valid)}; choose from: {', '.join(valid)}."
                )
    if opt.language_model not in LANGUAGE_MODELS and not re.fullmatch(r"hf:.+", opt.language_model):
        problems.append(
            f"--language_model {opt.language_model} is not known{_nearest(opt.language_model, LANGUAGE_MODELS)}; "
            f"choose from: {', '.join(LANGUAGE_MODELS)}, hf:<name or folder>."
        )
    return problems


def _wrong_metrics(opt) -> list[str]:
    patterns = [
        re.escape(pattern).replace("@K", r"@[1-9]\d*").replace("@M", r"@-?[1-9]\d*")
        for pattern in METRIC_PATTERNS
    ]
    known = [
        metric
        for metric in opt.evaluation_metrics
        if any(re.fullmatch(pattern, metric) for pattern in patterns)
    ]
    problems = [
        f"--evaluation_metrics {metric} is not known; choose from: {', '.join(METRIC_PATTERNS)} (K = 1, 2, ...; M other than 0)."
        for metric in opt.evaluation_metrics
        if metric not in known
    ]
    problems += [
        f"--storage_metrics {metric} is not among --evaluation_metrics ({' '.join(opt.evaluation_metrics)})."
        for metric in opt.storage_metrics
        if opt.store_improvements and metric not in opt.evaluation_metrics
    ]
    problems += [
        f"--evaluation_metrics {metric} needs --evaltypes {evaltype}."
        for metric in known
        for evaltype in CHOICES["evaltypes"]
        if metric.endswith(f"@{evaltype}") and evaltype not in opt.evaltypes
    ]
    return problems


def _wrong_numbers(opt) -> list[str]:
    at_least = {
        "n_epochs": 1,
        "evaluate_every": 1,
        "kernels": 0,
        "bs": 2,
        "samples_per_class": 1,
        "embed_dim": 1,
        "image_size": 16,
        "warmup": 0,
        "seed": 0,
        "decay": 0,
        "gamma": 0,
        "language_distill_w": 0,
        "language_delay": 0,
        "language_pseudoclass_topk": 1,
        "loss_histogram_nbins": 2,
        "loss_softtriplet_n_centroids": 1,
        "loss_s2sd_feat_distill_delay": 0,
        "miner_parametric_n_support": 3,
        "cache_size": 0,
        "loss_adversarial_separation_hidden_dim": 1,
        "data_batchmatch_bigbs": 1,
        "data_batchmatch_ncomps": 1,
        "data_d2_coreset_lambda": 0,
    }
    above_zero = (
        "lr",
        "cache_limit",
        "language_temp",
        "loss_s2sd_T",
        "loss_softmax_temperature",
        "loss_proxynca_temperature",
        "loss_softtriplet_gamma",
        "loss_supcon_temperature",
        "loss_smooth_ap_temperature",
        "loss_recall_at_k_rank_temperature",
        "loss_recall_at_k_similarity_temperature",
        "loss_multisimilarity_pos_weight",
        "loss_multisimilarity_neg_weight",
    )
    problems = [
        f"--{flag} must be a finite number, not {value}."
        for flag, value in vars(opt).items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    problems += [
        f"--{flag} must be at least {least}, not {getattr(opt, flag)}."
        for flag, least in at_least.items()
        if not getattr(opt, flag) >= least
    ]
    problems += [
        f"--{flag} must be above 0, not {getattr(opt, flag)}."
        for flag in above_zero
        if not getattr(opt, flag) > 0
    ]
    problems += [
        f"--{flag} must hold numbers of at least 1, not {' '.join(map(str, getattr(opt, flag)))}."
        for flag in (
            "loss_recall_at_k_k",
            "loss_s2sd_target_dims",
            "loss_adversarial_separation_target_dims",
        )
        if min(getattr(opt, flag)) < 1
    ]
    if opt.evaluation_memory != "auto" and not re.fullmatch(
        r"[1-9]\d*[MG]B", opt.evaluation_memory
    ):
        problems.append(
            f"--evaluation_memory {opt.evaluation_memory} is not a size such as 256MB or 4GB, nor auto."
        )
    if not 0 < opt.internal_split <= 1:
        problems.append(
            f"--internal_split must lie above 0 and be at most 1, not {opt.internal_split}."
        )
    if not 0 <= opt.miner_rho_distance_cp <= 1:
        problems.append(
            f"--miner_rho_distance_cp must lie between 0 and 1, not {opt.miner_rho_distance_cp}."
        )
    if (
        len(opt.miner_parametric_support_lim) != 2
        or not opt.miner_parametric_support_lim[0] < opt.miner_parametric_support_lim[1]
    ):
        problems.append(
            f"--miner_parametric_support_lim must be a smaller and a larger distance, not {' '.join(map(str, opt.miner_parametric_support_lim))}."
        )
    if opt.loss_multisimilarity_dim not in (0, 1):
        problems.append(
            f"--loss_multisimilarity_dim must be 0 or 1, not {opt.loss_multisimilarity_dim}."
        )
    return problems


def _wrong_combinations(opt) -> list[str]:
    problems = []
    if opt.samples_per_class > 0 and opt.bs % opt.samples_per_class:
        problems.append(
            f"--bs {opt.bs} is not a multiple of --samples_per_class {opt.samples_per_class}."
        )
    if opt.data_ssl_set and opt.samples_per_class > 0 and opt.bs % (2 * opt.samples_per_class):
        problems.append(
            f"--data_ssl_set repeats half a batch: --bs {opt.bs} must be a multiple of {2 * opt.samples_per_class}."
        )
    if opt.data_sampler == "semi_class_random" and opt.bs % 2:
        problems.append(
            f"--data_sampler semi_class_random draws pairs of images: --bs {opt.bs} must be even."
        )
    if not 0 <= opt.tv_split_perc < 1:
        problems.append(
            f"--tv_split_perc is the share that stays in training, above 0 and below 1, or 0 for the usual 0.8 (given: {opt.tv_split_perc})."
        )
    if opt.tv_split_classes and (opt.tv_split_by_samples or not opt.use_tv_split):
        problems.append(
            "--tv_split_classes divides between classes: it needs --use_tv_split, without --tv_split_by_samples."
        )
    if opt.use_float16 and opt.precision == "bf16":
        problems.append(
            "--use_float16 and --precision bf16 contradict each other; give one of them."
        )
    if opt.not_pretrained and opt.arch_weights:
        problems.append(
            "--not_pretrained and --arch_weights contradict each other; give one of them."
        )
    if (
        opt.store_improvements
        and opt.no_test_metrics
        and opt.no_train_metrics
        and not opt.use_tv_split
    ):
        problems.append(
            "--store_improvements has nothing to compare with --no_test_metrics and --no_train_metrics; drop one of the three."
        )
    if opt.evaluate_only and opt.resume:
        problems.append("--evaluate_only and --resume contradict each other; give one of them.")
    if opt.evaluate_only and opt.no_test_metrics and opt.no_train_metrics and not opt.use_tv_split:
        problems.append(
            "--evaluate_only has nothing to evaluate with --no_test_metrics and --no_train_metrics; drop one of them."
        )
    if 0 < opt.cache_size < opt.image_size:
        problems.append(
            f"--cache_size {opt.cache_size} is smaller than the crops of --image_size {opt.image_size}; raise it, or 0 keeps images as they are."
        )
    if "{}" not in opt.language_primer:
        problems.append(
            f"--language_primer {opt.language_primer!r} has no {{}} for the class text."
        )
    if "/" in opt.savename or opt.savename in ("", ".", ".."):
        problems.append(f"--savename {opt.savename!r} must be the plain name of a folder.")
    return problems


def _impossible_pairs(opt) -> list[str]:
    """Objectives and miners that do not fit together."""
    used = {opt.loss: "--loss"} | {
        getattr(opt, flag): f"--{flag}" for flag in COMPOSITES.get(opt.loss, ())
    }
    problems = [
        f"{flag} {name} needs --batch_mining {' or '.join(MINERS[name])} (given: {opt.batch_mining})."
        for name, flag in used.items()
        if name in MINERS and opt.batch_mining not in MINERS[name]
    ]
    if (
        opt.loss.startswith(PML)
        and not opt.batch_mining.startswith(PML)
        and opt.batch_mining != "distance"
    ):
        problems.append(
            f"--loss {opt.loss} cannot take --batch_mining {opt.batch_mining}; choose {PML}<ClassName> of the same library, or leave it out to take all pairs."
        )
    for flag in ("loss_pml_args", "miner_pml_args"):
        try:
            valid = isinstance(json.loads(getattr(opt, flag)), dict)
        except ValueError:
            valid = False
        if not valid:
            problems.append(
                f"--{flag} {getattr(opt, flag)!r} is not a JSON object such as '{{\"margin\": 0.1}}'."
            )
    return problems


def _missing_files(opt) -> list[str]:
    problems = [
        f"--{flag} {getattr(opt, flag)}: there is no such file."
        for flag in (
            "arch_weights",
            "language_pseudoclass_weights",
            "tv_split_classes",
            "class_text",
        )
        if getattr(opt, flag) and not os.path.isfile(getattr(opt, flag))
    ]
    if opt.language_weights and not os.path.exists(opt.language_weights):
        problems.append(
            f"--language_weights {opt.language_weights}: there is no such file or folder."
        )
    if opt.evaluate_only:
        from utilities.run_folder import checkpoint_at  # here, because it imports yaml

        if not checkpoint_at(opt.evaluate_only).is_file():
            problems.append(
                f"--evaluate_only {opt.evaluate_only}: there is no such checkpoint (a file, or a run folder with its last one)."
            )
    if opt.resume and opt.resume != "auto" and not os.path.isfile(opt.resume):
        problems.append(f"--resume {opt.resume}: there is no such checkpoint (a path, or 'auto').")
    return problems


def _config_path(argv: list[str] | None) -> str | None:
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--config")
    return reader.parse_known_args(argv)[0].config


def _apply_config(parser: argparse.ArgumentParser, path: str) -> list[str]:
    """Make the file's values the parser's defaults; returns the problems found."""
    import yaml  # here, so that `--help` works before the requirements are installed

    try:
        settings = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        return [f"--config {path} cannot be read: {getattr(error, 'strerror', None) or error}."]
    except yaml.YAMLError as error:
        return [f"--config {path} is not valid YAML: {' '.join(str(error).split())}."]
    if not isinstance(settings, dict):
        return [f"--config {path} must hold lines of the form 'flag: value'."]
    actions = {
        action.dest: action
        for action in parser._actions
        if action.dest not in ("help", *NOT_STORED)
    }
    problems, defaults = [], {}
    for name, value in settings.items():
        if name not in actions:
            problems.append(
                f"--config {path}: there is no setting {name!r}{_nearest(str(name), actions)}."
            )
            continue
        try:
            defaults[name] = _typed(value, actions[name])
        except (TypeError, ValueError):
            problems.append(
                f"--config {path}: {name}: {value!r} is not {_expected(actions[name])}."
            )
    parser.set_defaults(**defaults)
    return problems


def _typed(value, action):
    """The YAML value in the type of its flag; raises ValueError where it has another."""
    if value is None and action.default is None:
        return None
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ValueError
        return value
    if action.nargs == "+":
        return [
            _scalar(item, action.type) for item in (value if isinstance(value, list) else [value])
        ]
    return _scalar(value, action.type)


def _scalar(value, kind):
    if isinstance(value, (bool, list, dict, type(None))) or (
        kind is int and int(value) != float(value)
    ):
        raise ValueError
    return (kind or str)(value)


def _expected(action) -> str:
    if action.nargs == 0:
        return "true or false"
    noun = {int: "a whole number", float: "a number"}.get(action.type, "a text")
    return f"a list, each item {noun}" if action.nargs == "+" else noun


def _nearest(name: str, valid) -> str:
    match = difflib.get_close_matches(name, list(valid), n=1)
    return f" (did you mean {match[0]}?)" if match else ""
