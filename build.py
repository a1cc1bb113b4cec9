"""From the settings to the parts of a run: the last place that sees `opt`.

Each part gets plain, named values.
"""

import logging
import math
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn
from torch.utils.data import DataLoader

import architectures
import batchminer
import criteria
import datasampler
import datasets
import evaluation
import language_guidance
import metrics
import parameters
from architectures import EmbeddingNetwork, norm_gradients
from datasampler import BatchSampler
from datasets import ImageSplit, Splits, cache, decoding, integrity, loading, transforms
from datasets.transforms import Transforms
from evaluation import Evaluator, figures, language
from evaluation.embedding import embed
from language_guidance import (
    Guidance,
    GuidanceSettings,
    language_models,
    pseudolabels,
    zero_shot,
)
from training import CrossBatchMemory, Learner, Updates, WeightedGuide, optimizers, schedules
from utilities import checkpoints, compilation, costs, log_file, pml, processes, run_folder
from utilities.checkpoints import Checkpoint
from utilities.environment import device_name, environment
from utilities.errors import UserError
from utilities.fingerprint import digest, fingerprint
from utilities.logger import CLASS_TEXTS, Board, RunLog, Unwritten
from utilities.online import Labels, OnlineRun, is_of_sweep
from utilities.paths import expanded
from utilities.report import RESULT
from utilities.rows import Picture, Row, as_csv
from utilities.runtime import (
    Runtime,
    is_channels_last,
    keep_freed_memory,
    select_device,
    select_precision,
    use_own_cores,
)
from utilities.tensorboard import EventFiles
from utilities.types import Trainable

LOG = logging.getLogger(__name__)
SHOWN_CLASSES = 3  # of which the summary shows what guidance reads
SHOWN_TEXTS = 5  # of a class whose images have texts of their own
SHARED_FILES = "all machines of a run need the same files"
TITLES = {"Train": "train", "Val": "validation", "Test": "test"}  # of the splits
BEST_STAY = "; checkpoints of its best epochs until now stay where they are"
PICTURED_CLASSES, THUMBNAIL = 100, 160  # in the table of class texts, and pixels of a picture


class Data(NamedTuple):
    """
    Attributes:
        splits: whole images only. sampler: of the training split's batches.
        left_out: path -> what is wrong with it, of the broken images that are not in the splits.
    """

    splits: Splits
    sampler: BatchSampler
    left_out: dict[str, str]


def identities(opt: parameters.Settings, splits: Splits) -> tuple[dict, dict, dict]:
    """By what a resumed run notices other data: training images, texts, images it is measured on.

    The first must be the same; the others are told, by the names of the files and of the splits.
    """
    training = splits.training
    return _fingerprint_of(training), _digests_of_texts(opt, training), _measured(opt, splits)


def _fingerprint_of(split: ImageSplit) -> dict[str, int | str]:
    return fingerprint(split.files, split.labels, split.class_texts, split.boxes)


def _measured(opt: parameters.Settings, splits: Splits) -> dict[str, dict[str, int | str]]:
    """Of each evaluated split but that of training."""
    return {
        TITLES[name]: _fingerprint_of(split) | {"queries and gallery": _roles(split)}
        for name, split in _evaluated_splits(opt, splits).items()
        if split is not splits.training
    }


def _roles(split: ImageSplit) -> str:
    """Of which images search and which are found."""
    parts = (split.is_query, split.is_gallery)
    return digest("all" if part is None else str(part.tolist()) for part in parts)


def build_runtime(opt: parameters.Settings) -> Runtime:
    """What the settings mean on this machine; they then say what is computed with, never auto.

    Raises UserError for a GPU that is not there, or for more processes than images in a batch.
    """
    place = processes.joined()
    if opt.bs < place.world_size:
        raise UserError(f"--bs {opt.bs}: a batch is shared by {place.world_size} processes.")
    use_own_cores()
    keep_freed_memory()
    device = select_device(opt.device, opt.gpu, place)
    processes.join_on_gpus(device)
    if opt.compile and not opt.evaluate_only:
        compilation.require_possible(device)
    costs.reset_gpu_peak(device)
    channels_last = is_channels_last(opt.memory_format, device)
    opt.precision = select_precision(opt.precision, device)
    opt.memory_format = "channels_last" if channels_last else "contiguous"
    return Runtime(device, opt.precision, channels_last, place.rank, place.world_size)


def is_completed(opt: parameters.Settings) -> bool:
    """Whether `--completed` has nothing to do, which is told.

    A finished run of that name with other settings is none of it; what differs is told.
    """
    return opt.completed and processes.from_main(_is_completed, opt)


def _is_completed(opt: parameters.Settings) -> bool:
    settings, is_another = parameters.stored(opt), False
    place = opt.save_path, opt.dataset, parameters.run_name_of(opt)
    for folder in run_folder.finished_runs(*place):
        stored = parameters.whole(run_folder.settings_in_results(folder))
        changed = checkpoints.changes(stored, settings)
        other = [
            change
            for name, change in changed.items()
            if parameters.matters(name, opt, stored[name])
        ]
        if not other:
            LOG.log(RESULT, "--completed: %s is finished; nothing to do.", folder)
            return True
        LOG.info("--completed: %s is finished under other settings: %s.", folder, ", ".join(other))
        is_another = True
    if is_another and not opt.resume:
        LOG.info("--completed: a new run begins, in %s.", run_folder.following(*place))
    return False


def find_checkpoint(opt: parameters.Settings) -> Checkpoint | None:
    """That of `--resume`; None where auto finds none, which is a run from the beginning.

    Raises UserError if there is none, or if it is of another setting.
    """
    if not opt.resume:
        return None
    name = parameters.run_name_of(opt)
    checkpoint = checkpoints.find(opt.resume, opt.save_path, opt.dataset, name)
    processes.require_same({"--resume": checkpoint and checkpoint.stage()}, SHARED_FILES)
    if checkpoint is None:
        LOG.info(
            "--resume auto: no run in %s named %s has a checkpoint; starting anew.",
            Path(opt.save_path) / opt.dataset,
            name,
        )
        opt.resume = None
        return None
    folder = run_folder.home(checkpoint.path, checkpoint.losses())
    if folder and processes.is_main():
        log_file.require_unwritten(folder)
    kept = parameters.keep_choices(opt, checkpoint.settings)
    if opt.precision != "fp32" or torch.cuda.device_count():  # else it is what auto is here
        for sentence in kept:
            LOG.info("%s", sentence)
    settings = parameters.stored(opt)
    if architectures.may_be_moved(opt.arch, str(checkpoint.settings.get("arch"))):
        checkpoint = checkpoint._replace(settings=checkpoint.settings | {"arch": opt.arch})
    checkpoints.require_fitting(checkpoint, settings, parameters.FREE)
    shaping = [
        change
        for name, change in checkpoints.changes(checkpoint.settings, settings).items()
        if parameters.shapes_epoch(name, opt, checkpoint.settings[name])
    ]
    begun = checkpoint
    if checkpoint.has_steps_left and shaping:
        LOG.info(
            "The epoch in which the run was left begins anew, with what it has learned, because "
            "its steps were other ones: %s.",
            ", ".join(shaping),
        )
        checkpoint = checkpoint._replace(within=None)
    for sentence in parameters.keep_beginning(opt, checkpoint.settings):
        LOG.info("%s", sentence)
    return checkpoint._replace(earlier=_earlier_settings(opt, begun))


def _earlier_settings(opt: parameters.Settings, begun: Checkpoint) -> list[dict[str, object]]:
    """By what the run was trained until now, as far as it makes another run of it.

    Another program is told.
    """
    before = parameters.whole(begun.settings)
    given_up = {
        name: before[name]
        for name in checkpoints.changes(before, parameters.stored(opt))
        if parameters.matters(name, opt, before[name])
    }
    return checkpoints.earlier_settings(begun, given_up, checkpoints.other_program(begun))


def is_finished(opt: parameters.Settings, resumed: Checkpoint) -> bool:
    """Whether a checkpoint has all epochs and its run all results, which is told.

    What of it is left to do is told otherwise.
    """
    done, path = resumed.epoch + 1, resumed.path
    if resumed.within and done >= opt.n_epochs:
        raise UserError(
            f"--resume {path} is within epoch {done + 1}: --n_epochs must be at least that."
        )
    folder = run_folder.home(path, resumed.losses())
    lacks_results = folder is not None and not run_folder.has_results(folder)
    if done < opt.n_epochs or (done == opt.n_epochs and lacks_results):
        begun = f", and {resumed.steps():,} steps of the next" if resumed.within else ""
        LOG.info("Resuming %s: %d of %d epochs are done%s.", path, done, opt.n_epochs, begun)
        return False
    LOG.log(
        RESULT,
        "--resume %s: all %d epochs are done; nothing to do (a larger --n_epochs goes on).",
        path,
        opt.n_epochs,
    )
    return True


def build_splits(opt: parameters.Settings) -> tuple[Splits, dict[str, str]]:
    """The splits, and the broken images that were left out of them."""
    architectures.require_known(opt.arch)  # a cheap check, before images are read
    splits = _selected(opt)
    oriented = opt.exif_orientation == "apply"
    splits = splits.changed(partial(datasets.shown, oriented=oriented))
    splits, left_out = integrity.checked(
        splits, decode=opt.check_images, skip=opt.on_bad_image == "skip"
    )
    if processes.joined().world_size > 1:
        things: dict[str, object] = {
            f"{TITLES[name]} images": _fingerprint_of(split)
            for name, split in _by_name(splits).items()
        }
        processes.require_same(things, SHARED_FILES)
    in_memory = opt.cache == "ram"  # of each process for itself; a file is of all
    cached = cache.attached(
        splits,
        opt.cache,
        limit=opt.cache_limit / (processes.on_machine() if in_memory else 1),
        short_side=opt.cache_size,
        folder=opt.cache_path,
        fast=opt.decoding == "fast",
    )
    return cached, left_out


def _selected(opt: parameters.Settings) -> Splits:
    """The splits of the dataset.

    Where an evaluated network was trained on other data, files that name classes of those are
    passed over, which is told.
    """
    try:
        return _select(opt)
    except UserError as error:
        inherited = {"class_text", "tv_split_classes"} - opt.stated
        files = {name: file for name in sorted(inherited) if (file := getattr(opt, name))}
        if not opt.evaluate_only or not files:
            raise
        vars(opt).update(dict.fromkeys(files))
        splits = _select(opt)
        passed_over = " and ".join(f"--{name} {file}" for name, file in files.items())
        LOG.warning("%s Of the training, %s is passed over here.", error, passed_over)
        return splits


def _select(opt: parameters.Settings) -> Splits:
    return datasets.select(
        opt.dataset,
        opt.source_path,
        allow_partial=opt.allow_partial,
        class_texts=opt.class_text if parameters.reads_class_texts(opt) else None,
        validation=opt.use_tv_split,
        training_share=opt.tv_split_perc,
        by_samples=opt.tv_split_by_samples,
        validation_classes=opt.tv_split_classes,
    )


def build_data(opt: parameters.Settings) -> Data:
    """The splits, and the batch sampler of the training split."""
    splits, left_out = build_splits(opt)
    sampler = datasampler.select(
        opt.data_sampler,
        splits.training.labels,
        batch_size=opt.bs,
        samples_per_class=opt.samples_per_class,
        seed=opt.seed,
        internal_split=opt.internal_split,
        repeat_half=opt.data_ssl_set,
        pool_size=opt.data_batchmatch_bigbs,
        candidates=opt.data_batchmatch_ncomps,
        d2_lambda=opt.data_d2_coreset_lambda,
        projection_dim=opt.data_sampler_lowproj_dim,
    )
    for sentence in parameters.notices_of_length(opt, opt.n_epochs * len(sampler)):
        LOG.info("%s", sentence)
    if opt.data_sampler != "random":
        _tell_of_small_classes(sampler)
    return Data(splits, sampler, left_out)


def _tell_of_small_classes(sampler: datasampler.BatchSampler) -> None:
    """A positive of an image may be the image itself, in another crop."""
    if small := int((sampler.counts < sampler.samples_per_class).sum()):
        LOG.info(
            "Training classes with fewer images than a batch draws of each (%d): %s of %s; their "
            "images come in it more than once.",
            sampler.samples_per_class,
            f"{small:,}",
            f"{len(sampler.counts):,}",
        )


def build_network(
    opt: parameters.Settings, runtime: Runtime, *, load_weights: bool
) -> tuple[EmbeddingNetwork, Transforms]:
    """Trunk and head on the device, and the transforms that fit them.

    Without `load_weights` the weights are random: a checkpoint brings its own.
    """
    image_size = transforms.crop_size(opt.augmentation, opt.image_size)
    network = architectures.select(
        opt.arch,
        embed_dim=opt.embed_dim,
        image_size=image_size,
        pretrained=load_weights and not opt.not_pretrained,
        weights_file=opt.arch_weights if load_weights else None,
        adapters=build_adapters(opt),
    )
    if network.frozen and not network.batch_norms():
        LOG.info("--arch %s: _frozen has no effect, because this trunk has no BatchNorm.", opt.arch)
    if not opt.evaluate_only:
        if opt.freeze_until:
            _freeze(network, opt.freeze_until)
        _see_to_norms(opt, network, runtime)
    if not opt.compile:  # which has its own, faster way of frozen norms, but one of more memory
        network.fold_norms(image_size)
    network.to(runtime.device).to(memory_format=runtime.memory_format)
    if runtime.device.type == "cpu":
        norm_gradients.see_to(network.batch_norms())
    strength = transforms.Strength(
        opt.crop_scale_min, opt.crop_ratio_min, opt.color_jitter, opt.rand_augment
    )
    seen = (opt.augmentation, opt.image_size, network.mean, network.std)
    return network, transforms.select(*seen, strength, opt.interpolation)


def _freeze(network: EmbeddingNetwork, stage: str) -> None:
    """Raises UserError for a stage that there is not; tells where it makes no difference."""
    network.freeze_until(stage)
    if not network.fixed:
        LOG.info("--freeze_until %s has no effect: nothing is before it.", stage)
    elif not any(weights.requires_grad for weights in network.learned_of_trunk()):
        what = "no adapter" if network.adapted else "nothing of the trunk"
        LOG.info("--freeze_until %s: %s is behind it; only the head learns.", stage, what)


def build_adapters(opt: parameters.Settings) -> architectures.LowRank | None:
    """Those of `--lora_rank`; None where the whole trunk learns."""
    if not opt.lora_rank:
        return None
    return architectures.LowRank(opt.lora_rank, opt.lora_alpha)


def _see_to_norms(opt: parameters.Settings, network: EmbeddingNetwork, runtime: Runtime) -> None:
    """What BatchNorms normalise by where a part of the batch passes the network at a time.

    Raises UserError where `--sync_bn` cannot be had.
    """
    is_alone = runtime.world_size == 1
    norms_learn = any(norm.training for norm in network.batch_norms())
    if norms_learn and 0 < opt.micro_batch < _share(opt, runtime):
        LOG.info(
            "The BatchNorms of --arch %s normalise by --micro_batch %d images, not by the whole "
            "batch; _frozen makes the run the same as in one pass.",
            opt.arch,
            opt.micro_batch,
        )
        return
    if is_alone or not norms_learn:
        if opt.sync_bn:
            why = "a process by itself has whole batches" if is_alone else "no BatchNorm learns"
            LOG.info("--sync_bn has no effect, because %s.", why)
        return
    if not opt.sync_bn:
        LOG.info(
            "The BatchNorms of --arch %s normalise by the images of each process, which one "
            "process would not; --sync_bn or _frozen make the run the same.",
            opt.arch,
        )
        return
    if runtime.device.type != "cuda":
        raise UserError(
            "--sync_bn: torch has no BatchNorm of several processes for the CPU; use --arch with "
            "_frozen, or leave the flag out."
        )
    network.synchronise_norms(processes.group_of_gpus())


def build_training_loader(
    opt: parameters.Settings, data: Data, transform: Transforms, runtime: Runtime
) -> DataLoader:
    """The sampler's batches of augmented training images."""
    images = data.splits.training.with_transform(transform.training)
    return loading.training_loader(
        images,
        data.sampler,
        workers=opt.kernels,
        pin=runtime.pins_batches,
        part=runtime.part,
    )


def build_training_embedder(
    opt: parameters.Settings, data: Data, transform: Transforms, runtime: Runtime
) -> Callable[[nn.Module], torch.Tensor]:
    """network -> embeddings [N, D] of the training images, for samplers that choose by them."""
    images = data.splits.training.with_transform(transform.evaluation)
    batches = in_order(opt, images, runtime)

    def embed_training(network: nn.Module) -> torch.Tensor:
        title, evaltypes = "training images", ["embeds"]
        embeddings = embed(
            network, batches, count=len(images), evaltypes=evaltypes, runtime=runtime, title=title
        )
        return embeddings["embeds"]

    return embed_training


def in_order(opt: parameters.Settings, images: ImageSplit, runtime: Runtime) -> loading.Batches:
    """Every image once; of several processes each gets its part of the batches."""
    return loading.evaluation_batches(
        images,
        batch_size=images_at_a_time(opt, runtime),
        workers=opt.kernels,
        pin=runtime.pins_batches,
        part=runtime.part,
    )


def images_at_a_time(opt: parameters.Settings, runtime: Runtime) -> int:
    """How many pass the network of a process together, in evaluation as in training."""
    share = _share(opt, runtime)
    return min(share, opt.micro_batch or share)


def _share(opt: parameters.Settings, runtime: Runtime) -> int:
    """The most images of a batch that a process has."""
    return math.ceil(opt.bs / runtime.world_size)


def _tell_of_idle_micro_batch(opt: parameters.Settings, runtime: Runtime) -> None:
    if (share := _share(opt, runtime)) <= opt.micro_batch < opt.bs:
        message = "--micro_batch %d has no effect: of a batch each process has %d images at most."
        LOG.info(message, opt.micro_batch, share)


def build_guidance(
    opt: parameters.Settings, training: ImageSplit, runtime: Runtime
) -> Guidance | None:
    """Text similarities of the training classes; None without `--language_distill_w`.

    They come from the classes' captions, or from the pseudolabels of a pretrained classifier.
    """
    if not opt.language_distill_w:
        return None
    settings = guidance_settings(opt)
    return language_guidance.build(
        settings,
        training.captions,
        torch.from_numpy(training.labels),
        cache=Path(expanded(opt.cache_path)),
        device=runtime.device,
        classifier=build_classifier(opt, training, runtime) if settings.classifies else None,
        embed_dim=opt.embed_dim,
        class_names=list(zip(training.class_names, training.class_texts)),
    )


def _digests_of_texts(opt: parameters.Settings, training: ImageSplit) -> dict[str, str]:
    """Of the files that guide; none without guidance."""
    if not opt.language_distill_w:
        return {}
    vocabulary = opt.language_pseudoclass_vocabulary if parameters.is_zero_shot(opt) else None
    arch, weights = opt.language_pseudoclass_arch, opt.language_pseudoclass_weights
    return language_guidance.digests_of_texts(
        guidance_settings(opt),
        training.captions,
        vocabulary,
        language_models.weights_of(arch, weights),
    )


def tell_other_data(opt: parameters.Settings, checkpoint: Checkpoint, training: ImageSplit) -> None:
    """Warnings where the classes of a stored network have other images than it was trained on.

    The same of texts, where metrics read any; none where other texts were asked for.
    """
    texts = {}
    if parameters.measures_semantics(opt) and not opt.stated & {"class_text", "language_model"}:
        reading = guidance_settings(opt)._replace(control="none", pseudoclass=False)
        texts = language_guidance.digests_of_texts(reading, training.captions)
    checkpoints.tell_other_data(checkpoint, _fingerprint_of(training), texts)


def build_classifier(
    opt: parameters.Settings, training: ImageSplit, runtime: Runtime
) -> language_guidance.Classifier:
    """The classifier of the training images, with all that its outputs depend on."""
    name, weights = opt.language_pseudoclass_arch, opt.language_pseudoclass_weights
    reading = f"pixels {decoding.PIXELS_VERSION}, oriented {training.oriented}"
    batches_under = partial(_classified_batches, opt, training, runtime)
    if parameters.is_zero_shot(opt):
        by_texts = zero_shot.select(name, weights, opt.language_pseudoclass_vocabulary)
        return language_guidance.Classifier(
            identity=(by_texts.identity, reading),
            files=training.files,
            boxes=training.boxes,
            load=lambda: by_texts.load().to(memory_format=runtime.memory_format),
            batches=lambda network: batches_under(zero_shot.preprocessing(network)),
            names=by_texts.words,
            texts=by_texts.texts,
        )
    preprocessing = architectures.classifier_identity(name)
    return language_guidance.Classifier(
        identity=(name, preprocessing, Path(weights) if weights else None, reading),
        files=training.files,
        boxes=training.boxes,
        load=lambda: architectures.load_classifier(name, weights).to(
            memory_format=runtime.memory_format
        ),
        batches=lambda network: batches_under(architectures.classifier_transform(network)),
        names=pseudolabels.class_names(architectures.classifier_subset(name, weights)),
    )


def _classified_batches(
    opt: parameters.Settings,
    training: ImageSplit,
    runtime: Runtime,
    transform: Callable[[Image.Image], torch.Tensor],
) -> loading.Batches:
    """The training images as a classifier was trained to see them."""
    return in_order(opt, training.with_transform(transform), runtime)


def guidance_settings(opt: parameters.Settings) -> GuidanceSettings:
    names = GuidanceSettings._fields
    return GuidanceSettings(**{name: getattr(opt, f"language_{name}") for name in names})


def build_criterion(
    opt: parameters.Settings, data: Data, network: EmbeddingNetwork, runtime: Runtime
) -> criteria.Criterion:
    """The objective with its miner, as far as it uses one."""
    hyperparameters = partial(parameters.hyperparameters, opt)
    miner = batchminer.select(opt.batch_mining, **hyperparameters("miner", opt.batch_mining))
    criterion = criteria.build(
        opt.loss,
        partial(hyperparameters, "loss"),
        n_classes=len(data.splits.training.class_texts),
        embed_dim=opt.embed_dim,
        feature_dim=network.feature_dim,
        miner=miner,
    )
    _tell_of_idle_rates(opt, criterion)
    pml.require_room(criterion, opt.bs)
    return criterion.to(runtime.device)


def _tell_of_idle_rates(opt: parameters.Settings, criterion: criteria.Criterion) -> None:
    """Of flags for what an objective learns itself, which of a pml: one only the library knows."""
    if not opt.loss.startswith(parameters.PML) or any(True for _ in criterion.parameters()):
        return
    is_decaying = opt.criterion_decay > 0 and not parameters.maps_to_texts(opt)
    given = {"loss_pml_lr": opt.loss_pml_lr >= 0, "criterion_decay": is_decaying}
    for name in (name for name, is_given in given.items() if is_given):
        LOG.info(
            "--%s %g has no effect, because --loss %s has no parameters of its own.",
            name,
            getattr(opt, name),
            opt.loss,
        )


def build_learner(
    opt: parameters.Settings,
    data: Data,
    network: EmbeddingNetwork,
    criterion: criteria.Criterion,
    guidance: Guidance | None,
    runtime: Runtime,
) -> Learner:
    """The network with its objective, guide, optimiser and schedule."""
    guide = guidance.guide if guidance else None
    groups = build_parameter_groups(opt, network, criterion, guide)
    optimizer = optimizers.select(opt.optim, groups, momentum=opt.momentum)
    course = schedules.Course(
        opt.n_epochs,
        opt.tau,
        opt.gamma,
        opt.lr_floor,
        opt.plateau_patience,
        watched=opt.evaluation_metrics[0] if data.splits.validation else schedules.LOSS,
    )
    schedule = schedules.select(opt.scheduler, optimizer, course)
    learner = Learner(
        network,
        criterion,
        Updates(optimizer, schedule, opt.clip_gradient, opt.lr_rise, opt.ema),
        runtime=runtime,
        guidance=WeightedGuide(guide, opt.language_distill_w) if guide else None,
        warmup=opt.warmup,
        micro_batch=opt.micro_batch,
        memory=CrossBatchMemory(criterion, opt.xbm_size, opt.xbm_start) if opt.xbm_size else None,
    )
    learner.begin_alike()
    _tell_of_idle_micro_batch(opt, runtime)
    if opt.compile:
        compilation.compile_forward(network)
        if learner.average:
            compilation.compile_forward(learner.average.network)
    return learner


def build_parameter_groups(
    opt: parameters.Settings,
    network: EmbeddingNetwork,
    criterion: criteria.Criterion,
    guide: language_guidance.Guide | None = None,
) -> optimizers.ParameterGroups:
    """Trunk, head, parts of the objective and what guidance learns.

    Each has a name, a learning rate and a weight decay: `--decay` is that of the network, as in the
    paper's code; `--criterion_decay` of the others.
    """
    head_lr = opt.lr if opt.fc_lr < 0 else opt.fc_lr
    groups = [
        group | {"weight_decay": opt.decay}
        for group in network.parameter_groups(opt.lr, head_lr, opt.layer_decay)
    ]
    names = {parameter: name for name, parameter in criterion.named_parameters()}
    for group in criterion.parameter_groups(opt.lr):
        first = names[group["params"][0]]
        part = first if len(group["params"]) == 1 else first.partition(".")[0]
        named = {"name": f"{opt.loss} {part}", "weight_decay": opt.criterion_decay}
        groups.append(group | named)
    if guide and (learned := list(guide.parameters())):
        group = {"params": learned, "lr": opt.language_map_lr}
        groups.append(group | {"name": "guidance map", "weight_decay": opt.criterion_decay})
    return optimizers.without_decay_of_vectors(groups) if opt.decay_matrices_only else groups


def build_evaluator(
    opt: parameters.Settings, splits: Splits, transform: Transforms, runtime: Runtime
) -> Evaluator:
    """What is evaluated, on what, and how it is searched.

    Raises UserError for a metric or a backend that cannot be had.
    """
    wanted = [metrics.parse(name) for name in opt.evaluation_metrics]
    reads_texts = any(metric.texts for metric in wanted)
    evaluated = {}
    for name, split in _evaluated_splits(opt, splits).items():
        batches = in_order(opt, split.with_transform(transform.evaluation), runtime)
        texts = build_class_vectors(opt, split.captions, runtime) if reads_texts else None
        protocol = evaluation.Protocol.of(split, wanted)
        evaluated[name] = evaluation.EvaluatedSplit(batches, protocol, texts)
    search = evaluation.Search(
        opt.evaluation_backend, opt.evaluation_memory, on_cpu=opt.evaluate_on_cpu
    )
    return Evaluator(evaluated, wanted, evaltypes=opt.evaltypes, runtime=runtime, search=search)


def _evaluated_splits(opt: parameters.Settings, splits: Splits) -> dict[str, ImageSplit]:
    is_wanted = {"Test": not opt.no_test_metrics, "Val": True, "Train": not opt.no_train_metrics}
    by_name = {"Test": splits.testing, "Val": splits.validation, "Train": splits.training}
    return {name: split for name, split in by_name.items() if split and is_wanted[name]}


def build_class_vectors(
    opt: parameters.Settings, captions: list[tuple[str, ...]], runtime: Runtime
) -> torch.Tensor:
    """[C, E] unit vectors of classes by their captions."""
    return language_guidance.class_vectors(
        guidance_settings(opt),
        captions,
        cache=Path(expanded(opt.cache_path)),
        device=runtime.device,
    )


def require_boards(opt: parameters.Settings) -> None:
    """Raises UserError where the run cannot be shown where it is to be."""
    if opt.log_online:
        OnlineRun.require_possible()
    if opt.tensorboard:
        EventFiles.require_possible()


def build_records(
    opt: parameters.Settings,
    command: str,
    runtime: Runtime,
    resumed: Checkpoint | None = None,
    *,
    savename: str | None = None,
    steps: int = 1,
) -> RunLog:
    """The records in a new run folder, or in the resumed run's, with settings and log written.

    A checkpoint that its run has gone beyond, or that lies elsewhere, goes on in a new folder.

    Args:
        savename: of an evaluation. steps: of training in an epoch.
    """
    folder, goes_on, is_begun_again = processes.from_main(_folder_of_run, opt, resumed, savename)
    if not runtime.is_main:
        return Unwritten(folder)
    if log := log_file.current():
        log.keep_in(
            folder, f"{f'Resumed from {resumed.path}' if resumed else 'Started'}: {command}"
        )
    if resumed and not goes_on:
        LOG.info(
            "%s is not the end of the records beside it: this run goes on in %s%s.",
            resumed.path,
            folder,
            BEST_STAY if opt.store_improvements else "",
        )
    if is_begun_again:
        LOG.info(
            "%s was left with these settings before its first checkpoint: it begins again there.",
            folder,
        )
    boards = _boards(opt, folder, runtime, resumed, goes_on=goes_on)
    # A run that goes on has not ended, and what it had at its end is in its checkpoint.
    (folder / run_folder.RESULTS).unlink(missing_ok=True)
    run_folder.write_settings(folder, parameters.stored(opt))
    if not resumed:
        return RunLog(folder, None, boards, steps)
    return RunLog(folder, resumed.history, boards, steps, resumed.earlier)


def _folder_of_run(
    opt: parameters.Settings, resumed: Checkpoint | None, savename: str | None
) -> tuple[Path, bool, bool]:
    """The folder, whether it is that of the resumed run, or of one that begins again.

    Otherwise it is made.
    """
    home = run_folder.home(resumed.path, resumed.losses()) if resumed else None
    if home is not None:
        return home, True, False
    name = savename or parameters.run_name_of(opt)
    left = None if resumed or savename else _left_beginning(opt, name)
    if left is not None:
        return left, False, True
    return run_folder.create(opt.save_path, opt.dataset, name), False, False


def _left_beginning(opt: parameters.Settings, name: str) -> Path | None:
    """The folder of a run of these settings that was killed before it had anything to keep."""
    folder = run_folder.begun(opt.save_path, opt.dataset, name)
    if folder is None or not log_file.is_left(folder):
        return None
    stored = run_folder.settings_begun(folder)
    before = parameters.whole(stored)
    is_another = any(
        parameters.matters(changed, opt, before[changed])
        for changed in checkpoints.changes(before, parameters.stored(opt))
    )
    return None if is_another or not stored else folder


def _boards(
    opt: parameters.Settings,
    folder: Path,
    runtime: Runtime,
    resumed: Checkpoint | None,
    *,
    goes_on: bool,
) -> list[Board]:
    """Where the run is shown. `goes_on`: in the folder of the run that is resumed."""
    boards: list[Board] = []
    if opt.log_online:
        run_id = resumed.wandb_id if resumed and goes_on else None
        boards.append(_online_run(opt, folder, runtime, run_id))
    if opt.tensorboard:
        first = resumed.epoch + 2 if resumed else 1
        boards.append(EventFiles(folder, parameters.stored(opt), first=first))
    return boards


def _online_run(
    opt: parameters.Settings, folder: Path, runtime: Runtime, run_id: str | None
) -> OnlineRun:
    """Raises UserError where a sweep of W&B has other settings than the run."""
    about = environment()
    online = OnlineRun(
        Labels(
            project=opt.project,
            group=opt.group,
            name=folder.name,
            job_type="evaluate" if opt.evaluate_only else "train",
            entity=opt.entity,
            tags=tuple(opt.tags),
            notes=opt.notes,
        ),
        parameters.stored(opt)
        | {name: about[name] for name in ("program_version", "git_revision")}
        | {"device_name": device_name(runtime.device)},
        folder,
        run_id=run_id,
        by_steps=opt.log_steps > 0,
        quiet=opt.quiet,
    )
    if is_of_sweep() and (other := parameters.disagreeing(opt, online.config)):
        online.finish(exit_code=1)
        raise UserError(
            f"--log_online: the W&B sweep has chosen {', '.join(other)}; its command must hand "
            "over what it chooses, as ${args_no_boolean_flags} does."
        )
    return online


def summary(
    opt: parameters.Settings,
    data: Data,
    learner: Learner,
    guidance: Guidance | None,
    evaluator: Evaluator,
) -> dict[str, str]:
    """What is about to run, line by line."""
    splits = data.splits
    lines = {
        f"{opt.dataset} ({TITLES[name]})": split.describe()
        for name, split in _by_name(splits).items()
    }
    weights = _count(learner.network)
    is_mined = learner.criterion.is_mined()
    lines |= {
        "objective": opt.loss,
        "miner": opt.batch_mining if is_mined else "none (the objective uses the whole batch)",
        "sampler": opt.data_sampler,
        "trunk": f"{opt.arch}, {weights:,} weights{_adapted(opt)}{_frozen(opt, learner)}",
        "optimiser": _recipe(opt, splits, learner.runtime),
        **_optimiser_summary(learner),
        "device": f"{learner.runtime.describe()}; {evaluator.describe()}",
    }
    return lines | (_guidance_summary(opt, splits.training, guidance) if guidance else {})


def _adapted(opt: parameters.Settings) -> str:
    return f", LoRA of rank {opt.lora_rank} beside those of the trunk" if opt.lora_rank else ""


def _frozen(opt: parameters.Settings, learner: Learner) -> str:
    if not opt.freeze_until:
        return ""
    learnt = sum(part.numel() for part in learner.network.parameters() if part.requires_grad)
    return f", of which {learnt:,} learn, from {opt.freeze_until} on"


def _recipe(opt: parameters.Settings, splits: Splits, runtime: Runtime) -> str:
    """The optimiser with its schedule, and what else is done to gradients and rates."""
    parts = [opt.optim]
    if opt.scheduler == "cosine":
        parts.append(f"cosine to {opt.lr_floor:g} of the rates")
    if opt.scheduler == "plateau":
        part = f"{opt.evaluation_metrics[0]} of the validation part"
        watched = part if splits.validation else "the training loss"
        parts.append(f"rates times {opt.gamma:g} where {watched} is on a plateau")
    if opt.lr_rise:
        parts.append(f"rates rising over {opt.lr_rise:,} steps")
    if 0 < opt.micro_batch < _share(opt, runtime):
        parts.append(f"{opt.micro_batch:,} images at a time")
    if opt.xbm_size:
        megabytes = 4 * opt.xbm_size * opt.embed_dim / 2**20
        parts.append(f"memory of {opt.xbm_size:,} embeddings ({megabytes:.1f} MB)")
    if opt.clip_gradient:
        parts.append(f"gradients clipped to {opt.clip_gradient:g}")
    if opt.ema:
        parts.append(f"weights averaged with decay {opt.ema:g}, which are evaluated")
    return ", ".join(parts)


def _optimiser_summary(learner: Learner) -> dict[str, str]:
    """A line for each group of the optimiser: its learning rate as it is now, and its decay."""
    return {
        f"  {group['name']}": f"lr {group['lr']:g}, decay {group['weight_decay']:g}"
        if any(weights.requires_grad for weights in group["params"])
        else "does not learn"
        for group in learner.optimizer.param_groups
    }


def _guidance_summary(
    opt: parameters.Settings, training: ImageSplit, guidance: Guidance
) -> dict[str, str]:
    loss = opt.language_distill_dir if opt.language_loss == "kl" else opt.language_loss
    weighted = f"{opt.language_distill_w:g} x {loss}{_schedule_of_guidance(opt)}"
    if opt.language_control in parameters.WITHOUT_TEXTS:
        return {"guidance": f"{weighted} from no texts, control {opt.language_control}"}
    lines = {"guidance": f"{weighted} from {opt.language_model}, {guidance_source(opt, training)}"}
    for label, name in enumerate(training.class_texts[:SHOWN_CLASSES]):
        texts = guidance.texts[label]
        if guidance.times:
            commonest = zip(texts, guidance.times[label])
            texts = [f"{text} ({times})" for text, times in commonest][:SHOWN_TEXTS]
        lines[f"  {name}"] = ", ".join(texts)
    shown, classes = min(SHOWN_CLASSES, len(guidance.texts)), len(guidance.texts)
    lines["guidance"] += f"; of {shown} of {classes} classes it reads:"
    return lines


def _schedule_of_guidance(opt: parameters.Settings) -> str:
    """How the weight of guidance changes, in parentheses; "" where it stays."""
    said = {
        f"from iteration {opt.language_delay}": opt.language_delay > 1,
        f"rising over {opt.language_rise}": opt.language_rise,
        f"halved every {opt.language_half_life}": opt.language_half_life,
    }
    parts = [part for part, holds in said.items() if holds]
    return f" ({', '.join(parts)})" if parts else ""


def guidance_source(opt: parameters.Settings, training: ImageSplit) -> str:
    """What guidance reads, as a part of a sentence."""
    settings = guidance_settings(opt)
    sources = []
    if settings.reads_names:
        sources.append(_names_source(opt, training))
    if settings.reads_pseudolabels:
        whose = " of each image" if opt.language_pseudoclass_level == "sample" else ""
        classifier = opt.language_pseudoclass_arch
        sources.append(f"top-{opt.language_pseudoclass_topk} pseudolabels{whose} of {classifier}")
    if len(sources) == 2:
        sources[1] += f" (share {opt.language_pseudoclass_share:g})"
    control = ", shuffled between classes" if opt.language_control == "shuffle" else ""
    return " and ".join(sources) + control


def _names_source(opt: parameters.Settings, training: ImageSplit) -> str:
    if parameters.has_given_similarities(opt):
        return "similarities between classes"
    names = [(name,) for name in training.class_texts]
    if opt.class_text:
        return f"captions of {opt.class_text}"
    return "class names" if training.captions == names else "captions"


def facts(
    opt: parameters.Settings,
    command: str,
    splits: Splits,
    left_out: dict[str, str],
    runtime: Runtime,
) -> dict[str, object]:
    """What was run, on what and where, for results.json."""
    return {
        "command": command,
        "dataset": opt.dataset,
        "settings": parameters.stored(opt),
        "device": device_name(runtime.device),
        "processes": runtime.world_size,
        "data": {name: split.counts() for name, split in _by_name(splits).items()},
        "images_left_out": left_out,
    }


def count_weights(learner: Learner) -> dict[str, int]:
    """All weights of network, objective and guide, and those that the optimiser changes."""
    guided = _count(learner.guide) if learner.guide else 0
    groups = learner.optimizer.param_groups
    learnt = (part for group in groups for part in group["params"] if part.requires_grad)
    return {
        "all": _count(learner.network) + _count(learner.criterion) + guided,
        "trainable": sum(part.numel() for part in learnt),
    }


def class_texts(training: ImageSplit, guidance: Guidance | None) -> list[Row]:
    """A row for each class and text that guidance reads, in the order of the classes.

    Where each image has its own, `images` says how many of the class read the text.
    Boards get a picture of each of the first classes.
    """
    rows: list[Row] = []
    pictures = _class_pictures(training) if guidance else []
    for label, texts in enumerate(guidance.texts if guidance else ()):
        about = _of_texts(guidance, label) if guidance else {}
        for rank, text in enumerate(texts):
            row: Row = {"class": training.class_texts[label], "text": text}
            row |= {name: values[rank] for name, values in about.items()}
            rows.append(row | {"picture": pictures[label]})
    return rows


def _of_texts(guidance: Guidance, label: int) -> dict[str, list]:
    """What is known of each text of a class, by the column that it stands in."""
    about: dict[str, list] = {}
    if guidance.times:
        about["images"] = guidance.times[label]
    if guidance.probabilities:
        known = guidance.probabilities[label]
        about["probability"] = ["" if value is None else round(value, 4) for value in known]
    if guidance.shares:
        about["share"] = [round(value, 4) for value in guidance.shares[label]]
    return about


def language_view(training: ImageSplit, guidance: Guidance) -> language.View:
    """What guidance reads, for people; of many classes some, as the view says."""
    labels = torch.from_numpy(training.labels)
    classes = language.at_even_steps(len(guidance.texts), language.LISTED)
    similarities = language_guidance.class_similarities(
        guidance.guide.source, labels, torch.tensor(classes), by_image=bool(guidance.times)
    )
    nearest = language_guidance.nearest_classes(similarities, language.NEAREST)
    shown = [_class_view(training, guidance, label) for label in classes]
    return language.View(shown, len(guidance.texts), similarities.numpy(), nearest.numpy())


def _class_view(training: ImageSplit, guidance: Guidance, label: int) -> language.ClassView:
    about = _of_texts(guidance, label)
    ends = [
        ", ".join(f"{name} {value}" for name, value in zip(about, values) if value != "")
        for values in zip(*about.values())
    ] or [""] * len(guidance.texts[label])
    lines = [f"{text} ({end})" if end else text for text, end in zip(guidance.texts[label], ends)]
    rows = np.flatnonzero(training.labels == label)
    some = language.at_even_steps(len(rows), language.SAMPLES)
    return language.ClassView(training.class_texts[label], lines, rows[some].tolist())


def show_language(
    opt: parameters.Settings, training: ImageSplit, guidance: Guidance | None, folder: Path
) -> None:
    """What guidance reads in `<run>/Language`: tables, and figures without `--no_figures`.

    Nothing stays there of what it read before the run was resumed.
    """
    place = folder / "Language"
    language.clear(place)
    if guidance is None:
        return
    place.mkdir(exist_ok=True)
    view = language_view(training, guidance)
    language.write_tables(place, view)
    if not opt.no_figures:
        language.draw(place, view, image_reader(training))


def write_class_texts(training: ImageSplit, guidance: Guidance | None, folder: Path) -> None:
    """`class_texts.csv` as a run has it; none where a control reads no text."""
    if rows := class_texts(training, guidance):
        run_folder.write_atomically(folder / CLASS_TEXTS, as_csv(rows))


def image_reader(split: ImageSplit) -> language.Reader:
    """Images of a split by their rows, None for one that cannot be read."""
    return partial(readable_image, split)


def readable_image(split: ImageSplit, row: int) -> Image.Image | None:
    """The image of a row; None of one that cannot be read."""
    try:
        return split.image(row)
    except decoding.UNREADABLE:
        return None


def _class_pictures(training: ImageSplit) -> list[Picture]:
    """The first image of each class, but of no more classes than can be looked at."""
    _, firsts = np.unique(training.labels, return_index=True)
    return [
        Picture(
            lru_cache(partial(_thumbnail, training, row if label < PICTURED_CLASSES else None)),
            Path(training.files[row]).name,
        )
        for label, row in enumerate(firsts.tolist())
    ]


def _thumbnail(split: ImageSplit, row: int | None) -> Image.Image | None:
    """None of no row, and of an image that cannot be read."""
    image = None if row is None else readable_image(split, row)
    return image and ImageOps.contain(image, (THUMBNAIL, THUMBNAIL))


def _by_name(splits: Splits) -> dict[str, ImageSplit]:
    """Those that there are, by their names in the records."""
    by_name = {"Train": splits.training, "Val": splits.validation, "Test": splits.testing}
    return {name: split for name, split in by_name.items() if split}


def _count(part: Trainable) -> int:
    return sum(weights.numel() for weights in part.parameters())


def draw_figures(
    opt: parameters.Settings,
    testing: ImageSplit,
    evaluator: Evaluator,
    embeddings: dict[str, torch.Tensor],
    folder: Path,
) -> figures.Drawn:
    """Figures of the test split by its embeddings, as files in `<run>/Figures`."""
    protocol = evaluator.splits["Test"].protocol
    return figures.draw(
        folder / "Figures",
        embeddings[opt.evaltypes[0]],
        protocol,
        testing.class_texts,
        testing.image,
        text_vectors=_shown_class_vectors(opt, testing, protocol, evaluator.runtime),
        memory=evaluator.memory(),
    )


def _shown_class_vectors(
    opt: parameters.Settings,
    testing: ImageSplit,
    protocol: evaluation.Protocol,
    runtime: Runtime,
) -> torch.Tensor | None:
    """Vectors of the classes in the figures of a guided run, where the model has any."""
    if not parameters.draws_texts(opt):
        return None
    shown = figures.shown_classes(protocol.labels).tolist()
    try:
        return build_class_vectors(opt, [testing.captions[label] for label in shown], runtime)
    except UserError as error:
        # Of a checkpoint from a machine that had the language model: its evaluation is not lost.
        LOG.warning("Classes are not compared with language: %s", error)
        return None
