"""Train and evaluate a metric space, with or without language guidance (Roth et al., CVPR 2022).

    python main.py --config configs/demo.yaml
    python main.py --dataset cub200 --source_path DATA --loss multisimilarity --language_distill_w 7.5 --language_pseudoclass
"""
import logging
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import parameters

if __name__ == "__main__":
    parameters.parse()  # here already, so that --help and wrong settings answer before torch is loaded

import torch
from torch.optim.lr_scheduler import MultiStepLR
from tqdm import tqdm

import architectures
import batchminer
import criteria
import datasampler
import datasets
import evaluation
import language_guidance
import metrics
from datasets import cache, integrity, loading, transforms
from utilities import checkpoints, devices, logger, report, run_folder, seeding
from utilities.meters import LossMeter

LOG = logging.getLogger("main")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a loss became non-finite, 2 wrong setting or file, 130 interrupted."""
    opt = parameters.parse(argv)
    report.configure_logging()
    return report.exit_status(list_components if opt.list else run, opt)


def list_components(opt) -> None:
    """`--list`: what there is, with a line each."""
    report.print_catalogue({
        "Objectives (--loss)": criteria.describe(), "Batch miners (--batch_mining)": batchminer.describe(),
        "Batch samplers (--data_sampler)": datasampler.describe(), "Metrics (--evaluation_metrics)": metrics.describe(),
        "Datasets (--dataset)": datasets.describe(), "Language models (--language_model)": language_guidance.describe()})


def run(opt) -> None:
    """Build, then train -> evaluate -> log, epoch by epoch."""
    started = time.monotonic()
    if opt.completed and (finished := run_folder.finished_run(opt.save_path, opt.dataset, opt.savename)):
        return LOG.info("--completed: %s is finished; nothing to do.", finished)
    for notice in parameters.notices(opt):
        LOG.info("%s", notice)
    if opt.log_online:
        logger.OnlineRun.require_possible()
    settings = parameters.stored(opt)
    resumed = checkpoints.find(opt.resume, opt.save_path, opt.dataset, opt.savename, settings) if opt.resume else None
    device = devices.select(opt.device, opt.gpu)
    seeding.seed_everything(opt.seed)

    data = build_data(opt)
    network, transform = build_network(opt, data.splits, device, load_weights=resumed is None)
    learner = build_learner(opt, data, network, device)
    if resumed:
        checkpoints.restore(learner.parts, learner.scheduler, resumed)
    training_loader = loading.training_loader(data.splits.training.with_transform(transform.training), data.sampler, workers=opt.kernels)
    wanted = {"Test": not opt.no_test_metrics and data.splits.testing, "Val": data.splits.validation, "Train": not opt.no_train_metrics and data.splits.training}
    evaluated = {name: split.with_transform(transform.evaluation) for name, split in wanted.items() if split}

    # The run folder is made last: whatever is wrong up to here has written nothing.
    folder = resumed.path.parent if resumed else run_folder.create(opt.save_path, opt.dataset, opt.savename)
    online = logger.OnlineRun(project=opt.project, group=opt.group, name=folder.name, settings=settings, folder=folder,
                              run_id=resumed.wandb_id if resumed else None) if opt.log_online else None
    run_folder.write_settings(folder, settings)
    records = logger.RunLog(folder, resumed.history if resumed else None, online)
    report.print_summary(settings, data.splits, mined=learner.criterion.is_mined(), weights=sum(p.numel() for p in network.parameters()),
                         device=f"{devices.describe(device)}, {opt.precision}; search with {evaluation.backend(device)}", texts=learner.texts, folder=folder)
    earlier = resumed.seconds if resumed else 0.0
    with records:  # whatever ends the run ends its W&B run too
        try:
            for epoch in range(resumed.epoch + 1 if resumed else 0, opt.n_epochs):
                if data.sampler.NEEDS_EMBEDDINGS:
                    data.sampler.refresh(embed_training(opt, network, data.splits.training.with_transform(transform.evaluation), device))
                losses = train_epoch(opt, epoch, network, learner, data.sampler, training_loader, device)
                values = evaluate_epoch(opt, network, evaluated, device)
                records.log(epoch, report.merge({"Train": {"epochs": {"epochs": epoch}} | losses}, values))
                state = checkpoints.snapshot(learner.parts, learner.scheduler, settings=settings, epoch=epoch, history=records.history,
                                             seconds=earlier + time.monotonic() - started, wandb_id=online.run_id if online else None)
                improved = records.improvements(evaluated, opt.evaltypes, opt.storage_metrics) if opt.store_improvements else []
                for path in [*improved, folder / run_folder.LAST_CHECKPOINT]:
                    checkpoints.save(path, state)
                report.print_epoch(epoch, opt.n_epochs, opt.evaltypes, losses, values)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(run_folder.how_to_resume(folder)) from None
        records.finish({"dataset": opt.dataset, "run": str(folder), "settings": settings, "images_left_out": data.left_out}, earlier + time.monotonic() - started)
    report.print_results(records.summary(), folder)
    integrity.report(data.left_out)


def build_data(opt) -> SimpleNamespace:
    """The splits, the batch sampler of the training split, and the broken images that were left out."""
    architectures.require_known(opt.arch)  # a cheap check, before images are read
    splits = datasets.select(opt.dataset, opt.source_path, validation=opt.use_tv_split, training_share=opt.tv_split_perc,
                             by_samples=opt.tv_split_by_samples)
    splits, left_out = integrity.checked(splits, decode=opt.check_images, skip=opt.on_bad_image == "skip")
    splits = cache.attached(splits, opt.cache, limit=opt.cache_limit, short_side=opt.cache_size, folder=opt.cache_path, fast=opt.decoding == "fast")
    sampler = datasampler.select(opt.data_sampler, splits.training.labels, batch_size=opt.bs, samples_per_class=opt.samples_per_class,
                                 seed=opt.seed, internal_split=opt.internal_split, repeat_half=opt.data_ssl_set, pool_size=opt.data_batchmatch_bigbs,
                                 candidates=opt.data_batchmatch_ncomps, d2_lambda=opt.data_d2_coreset_lambda, projection_dim=opt.data_sampler_lowproj_dim)
    return SimpleNamespace(splits=splits, sampler=sampler, left_out=left_out)


def build_network(opt, splits, device, *, load_weights: bool) -> tuple[architectures.EmbeddingNetwork, SimpleNamespace]:
    """Trunk and head on the device, and the transforms that fit them; a checkpoint brings weights of its own."""
    network = architectures.select(opt.arch, embed_dim=opt.embed_dim, image_size=transforms.crop_size(opt.augmentation, opt.image_size),
                                   pretrained=load_weights and not opt.not_pretrained, weights_file=opt.arch_weights if load_weights else None)
    network.to(device, memory_format=torch.channels_last if opt.channels_last else torch.contiguous_format)
    image_format = (opt.augmentation, opt.image_size, network.mean, network.std)
    return network, SimpleNamespace(training=transforms.training(*image_format), evaluation=transforms.evaluation(*image_format))


def build_learner(opt, data, network, device) -> SimpleNamespace:
    """Objective, language guide and optimiser; `parts` is what a checkpoint holds."""
    training = data.splits.training
    miner = batchminer.select(opt.batch_mining, **parameters.hyperparameters(opt, "miner", opt.batch_mining))
    criterion = criteria.build(opt.loss, partial(parameters.hyperparameters, opt, "loss"), n_classes=len(training.class_texts),
                               embed_dim=opt.embed_dim, feature_dim=network.feature_dim, miner=miner).to(device)
    guide, texts = build_guide(opt, training, device) if opt.language_distill_w else (None, [])
    head_lr = opt.lr if opt.fc_lr < 0 else opt.fc_lr
    optimizer = torch.optim.Adam(network.parameter_groups(opt.lr, head_lr) + criterion.parameter_groups(opt.lr), weight_decay=opt.decay)
    scheduler = MultiStepLR(optimizer, opt.tau if opt.scheduler == "step" else [], opt.gamma)
    scaler = devices.gradient_scaler(device, opt.precision)
    parts = {"state_dict": network, "criterion": criterion, "optimizer": optimizer, "scaler": scaler} | ({"guide": guide} if guide else {})
    return SimpleNamespace(criterion=criterion, guide=guide, texts=texts, optimizer=optimizer, scheduler=scheduler, scaler=scaler, parts=parts)


def build_guide(opt, training, device) -> tuple[language_guidance.LanguageGuide, list[list[str]]]:
    """Text similarities of the training classes, by name or by the pseudolabels of a pretrained classifier."""
    weights = opt.language_pseudoclass_weights
    classifier = language_guidance.Classifier(
        identity=(opt.language_pseudoclass_arch, Path(weights) if weights else None),
        load=lambda: architectures.load_classifier(opt.language_pseudoclass_arch, weights),
        batches=lambda network: loading.evaluation_batches(training.with_transform(architectures.classifier_transform(network)),
                                                           batch_size=opt.bs, workers=opt.kernels))
    settings = language_guidance.GuidanceSettings(**{name: getattr(opt, f"language_{name}") for name in language_guidance.GuidanceSettings._fields})
    return language_guidance.build(settings, training.class_texts, training.files, torch.from_numpy(training.labels),
                                   cache=Path(opt.cache_path).expanduser(), device=device, classifier=classifier)


def train_epoch(opt, epoch: int, network, learner, sampler, loader, device) -> logger.Families:
    """One pass of the sampler; returns mean losses, the learning rate's step done. Raises NonFiniteLoss."""
    started = time.monotonic()
    epoch_seed = seeding.derive(opt.seed, epoch)
    seeding.seed_everything(epoch_seed)
    sampler.set_epoch(epoch)
    network.train()
    network.train_trunk(epoch >= opt.warmup)
    autocast, meter = devices.autocast(device, opt.precision), LossMeter(epoch)
    bar = tqdm(loading.Batches(loader, epoch_seed), desc=f"Epoch {epoch}", leave=False)
    for batch in bar:
        images, labels, indices = batch.to(device, opt.channels_last)
        learner.optimizer.zero_grad(set_to_none=True)
        with autocast:
            output = network(images)
        losses = {"objective": learner.criterion(output, labels)}
        if learner.guide:
            losses["guidance"] = learner.guide(output.embeddings, labels, indices)
        loss = losses["objective"] + opt.language_distill_w * losses.get("guidance", 0)
        learner.scaler.scale(loss).backward()
        learner.scaler.step(learner.optimizer)
        learner.scaler.update()
        meter.update(**losses, loss=loss)
        if meter.due():  # the only place where a step waits for the device, about once a second
            bar.set_postfix({name: f"{value:.4f}" for name, value in meter.means().items()})
    learner.scheduler.step()
    return {name: {name: value} for name, value in meter.means().items()} | {"time": {"time": time.monotonic() - started}}


def embed_training(opt, network, split, device) -> torch.Tensor:
    """Embeddings [N, D] of the training images as they are now, for the samplers that choose by them."""
    return evaluation.embed(network, loading.evaluation_batches(split, batch_size=opt.bs, workers=opt.kernels), count=len(split), evaltypes=["embeds"],
                            device=device, autocast=devices.autocast(device, opt.precision), channels_last=opt.channels_last, title="training images")["embeds"]


def evaluate_epoch(opt, network, evaluated, device) -> logger.Values:
    """Split -> "<evaltype>_<metric family>" -> metric -> value."""
    asked = [metrics.parse(name) for name in opt.evaluation_metrics]
    return {name: evaluation.evaluate(network, loading.evaluation_batches(split, batch_size=opt.bs, workers=opt.kernels), torch.from_numpy(split.labels), asked,
                                      evaltypes=opt.evaltypes, title=name, search_on_cpu=opt.evaluate_on_cpu, device=device,
                                      autocast=devices.autocast(device, opt.precision), channels_last=opt.channels_last) for name, split in evaluated.items()}


if __name__ == "__main__":
    sys.exit(main())
