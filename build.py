"""From the settings to the parts of a run. Beside main.py the only file that sees `opt`: each part gets plain, named values."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.optim.lr_scheduler import MultiStepLR

import architectures
import batchminer
import criteria
import datasampler
import datasets
import evaluation
import language_guidance
import metrics
import parameters
from datasets import cache, integrity, loading, transforms
from utilities import devices


def build_splits(opt) -> tuple[datasets.Splits, list]:
    """The splits, and the broken images that were left out of them."""
    architectures.require_known(opt.arch)  # a cheap check, before images are read
    splits = datasets.select(
        opt.dataset,
        opt.source_path,
        allow_partial=opt.allow_partial,
        class_texts=opt.class_text,
        validation=opt.use_tv_split,
        training_share=opt.tv_split_perc,
        by_samples=opt.tv_split_by_samples,
        validation_classes=opt.tv_split_classes,
    )
    splits, left_out = integrity.checked(
        splits, decode=opt.check_images, skip=opt.on_bad_image == "skip"
    )
    return cache.attached(
        splits,
        opt.cache,
        limit=opt.cache_limit,
        short_side=opt.cache_size,
        folder=opt.cache_path,
        fast=opt.decoding == "fast",
    ), left_out


def build_data(opt) -> SimpleNamespace:
    """The splits, the batch sampler of the training split, and the broken images that were left out."""
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
    return SimpleNamespace(splits=splits, sampler=sampler, left_out=left_out)


def build_network(
    opt, device, *, load_weights: bool
) -> tuple[architectures.EmbeddingNetwork, SimpleNamespace]:
    """Trunk and head on the device, and the transforms that fit them; a checkpoint brings weights of its own."""
    network = architectures.select(
        opt.arch,
        embed_dim=opt.embed_dim,
        image_size=transforms.crop_size(opt.augmentation, opt.image_size),
        pretrained=load_weights and not opt.not_pretrained,
        weights_file=opt.arch_weights if load_weights else None,
    )
    network.to(
        device, memory_format=torch.channels_last if opt.channels_last else torch.contiguous_format
    )
    image_format = (opt.augmentation, opt.image_size, network.mean, network.std)
    return network, SimpleNamespace(
        training=transforms.training(*image_format), evaluation=transforms.evaluation(*image_format)
    )


def build_learner(opt, data, network, device) -> SimpleNamespace:
    """Objective, language guide and optimiser; `parts` is what a checkpoint holds."""
    training = data.splits.training
    miner = batchminer.select(
        opt.batch_mining, **parameters.hyperparameters(opt, "miner", opt.batch_mining)
    )
    criterion = criteria.build(
        opt.loss,
        partial(parameters.hyperparameters, opt, "loss"),
        n_classes=len(training.class_texts),
        embed_dim=opt.embed_dim,
        feature_dim=network.feature_dim,
        miner=miner,
    ).to(device)
    guide, texts = build_guide(opt, training, device) if opt.language_distill_w else (None, [])
    head_lr = opt.lr if opt.fc_lr < 0 else opt.fc_lr
    optimizer = torch.optim.Adam(
        network.parameter_groups(opt.lr, head_lr) + criterion.parameter_groups(opt.lr),
        weight_decay=opt.decay,
    )
    scheduler = MultiStepLR(optimizer, opt.tau if opt.scheduler == "step" else [], opt.gamma)
    scaler = devices.gradient_scaler(device, opt.precision)
    parts = {
        "state_dict": network,
        "criterion": criterion,
        "optimizer": optimizer,
        "scaler": scaler,
    } | ({"guide": guide} if guide else {})
    return SimpleNamespace(
        criterion=criterion,
        guide=guide,
        texts=texts,
        optimizer=optimizer,
        scheduler=scheduler,
        scaler=scaler,
        parts=parts,
    )


def build_guide(opt, training, device) -> language_guidance.Guidance:
    """What guides the training classes: captions, or pseudolabels of a pretrained classifier."""
    classifier = build_classifier(opt, training) if opt.language_pseudoclass else None
    return language_guidance.build(
        guidance_settings(opt),
        training.captions,
        torch.from_numpy(training.labels),
        cache=Path(opt.cache_path).expanduser(),
        device=device,
        classifier=classifier,
    )


def build_classifier(opt, training) -> language_guidance.Classifier:
    """The classifier of the training images, and all that its logits depend on."""
    name, weights = opt.language_pseudoclass_arch, opt.language_pseudoclass_weights
    return language_guidance.Classifier(
        identity=(
            name,
            architectures.classifier_identity(name),
            Path(weights) if weights else None,
        ),
        files=training.files,
        boxes=training.boxes,
        load=lambda: architectures.load_classifier(name, weights),
        batches=lambda network: loading.evaluation_batches(
            training.with_transform(architectures.classifier_transform(network)),
            batch_size=opt.bs,
            workers=opt.kernels,
        ),
    )


def guidance_settings(opt) -> language_guidance.GuidanceSettings:
    return language_guidance.GuidanceSettings(
        **{
            name: getattr(opt, f"language_{name}")
            for name in language_guidance.GuidanceSettings._fields
        }
    )


def build_evaluation(opt, splits, transform, device) -> SimpleNamespace:
    """What is evaluated, on what: metrics, and for each split its images, who searches where, and vectors of its class texts if a metric reads them."""
    asked = [metrics.parse(name) for name in opt.evaluation_metrics]
    wanted = {
        "Test": not opt.no_test_metrics and splits.testing,
        "Val": splits.validation,
        "Train": not opt.no_train_metrics and splits.training,
    }
    wanted = {
        name: split.with_transform(transform.evaluation) for name, split in wanted.items() if split
    }
    texts = {
        name: build_class_vectors(opt, split.captions, device)
        if any(metric.texts for metric in asked)
        else None
        for name, split in wanted.items()
    }
    return SimpleNamespace(
        splits=wanted,
        metrics=asked,
        texts=texts,
        backend=evaluation.searches_with(opt.evaluation_backend, device),
        protocols={name: evaluation.Protocol.of(split, asked) for name, split in wanted.items()},
    )


def build_class_vectors(opt, captions: list[tuple[str, ...]], device) -> torch.Tensor:
    """[C, E] unit vectors of classes by their captions."""
    return language_guidance.class_vectors(
        guidance_settings(opt), captions, cache=Path(opt.cache_path).expanduser(), device=device
    )
