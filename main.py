"""Train and evaluate a metric space, with or without language guidance (Roth et al., CVPR 2022).

python main.py --config configs/demo.yaml
python main.py --dataset cub200 --source_path DATA --loss multisimilarity --language_distill_w 7.5
--language_pseudoclass
"""

import logging
import sys
import time
from pathlib import Path

import parameters

if __name__ == "__main__":
    # Here already, so that help, the list and wrong settings answer before torch is loaded.
    if parameters.parse().list:
        print(parameters.listing())
        sys.exit()

import torch
from tqdm import tqdm

import evaluation
from build import (
    build_class_vectors,
    build_data,
    build_evaluation,
    build_learner,
    build_network,
    build_splits,
)
from datasets import integrity, loading
from evaluation import figures
from evaluation.embedding import embed
from utilities import checkpoints, devices, logger, report, run_folder, seeding
from utilities.errors import UserError
from utilities.meters import LossMeter

LOG = logging.getLogger("main")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a loss became non-finite, 2 wrong setting or file, 130 interrupted."""
    opt = parameters.parse(argv)
    report.configure_logging()
    if opt.evaluate_only:
        return report.exit_status(evaluate_only, opt.evaluate_only, argv)
    return report.exit_status(list_components if opt.list else run, opt)


def list_components(opt: parameters.Settings) -> None:
    """`--list`: what there is, with a line each."""
    print(parameters.listing())


def run(opt) -> None:
    """Build, then train -> evaluate -> log, epoch by epoch."""
    started = time.monotonic()
    if opt.completed and (
        finished := run_folder.finished_run(opt.save_path, opt.dataset, opt.savename)
    ):
        return LOG.info("--completed: %s is finished; nothing to do.", finished)
    for notice in parameters.notices(opt):
        LOG.info("%s", notice)
    if opt.log_online:
        logger.OnlineRun.require_possible()
    settings = parameters.stored(opt)
    resumed = (
        checkpoints.find(opt.resume, opt.save_path, opt.dataset, opt.savename, settings)
        if opt.resume
        else None
    )
    device = devices.select(opt.device, opt.gpu)
    seeding.seed_everything(opt.seed)

    data = build_data(opt)
    network, transform = build_network(opt, device, load_weights=resumed is None)
    evaluation_of = build_evaluation(opt, data.splits, transform, device)
    learner = build_learner(opt, data, network, device)
    if resumed:
        checkpoints.restore(learner.parts, learner.scheduler, resumed)
    training_loader = loading.training_loader(
        data.splits.training.with_transform(transform.training), data.sampler, workers=opt.kernels
    )

    # The run folder is made last: whatever is wrong up to here has written nothing.
    folder = (
        resumed.path.parent
        if resumed
        else run_folder.create(opt.save_path, opt.dataset, opt.savename)
    )
    online = start_online(opt, folder, resumed)
    run_folder.write_settings(folder, settings)
    records = logger.RunLog(folder, resumed.history if resumed else None, online)
    report.print_summary(
        settings,
        data.splits,
        mined=learner.criterion.is_mined(),
        weights=sum(p.numel() for p in network.parameters()),
        device=f"{devices.describe(device)}, {opt.precision}; search with {evaluation_of.backend}",
        texts=learner.texts,
        folder=folder,
    )
    earlier, shown = resumed.seconds if resumed else 0.0, {}
    with records:  # whatever ends the run ends its W&B run too
        try:
            for epoch in range(resumed.epoch + 1 if resumed else 0, opt.n_epochs):
                if data.sampler.NEEDS_EMBEDDINGS:
                    data.sampler.refresh(
                        embed_training(
                            opt,
                            network,
                            data.splits.training.with_transform(transform.evaluation),
                            device,
                        )
                    )
                losses = train_epoch(
                    opt, epoch, network, learner, data.sampler, training_loader, device
                )
                is_due = (epoch + 1) % opt.evaluate_every == 0 or epoch == opt.n_epochs - 1
                values = (
                    evaluate(
                        opt,
                        network,
                        evaluation_of,
                        device,
                        shown if epoch == opt.n_epochs - 1 else None,
                    )
                    if is_due
                    else {}
                )
                records.log(
                    epoch, report.merge({"Train": {"epochs": {"epochs": epoch}} | losses}, values)
                )
                state = checkpoints.snapshot(
                    learner.parts,
                    learner.scheduler,
                    settings=settings,
                    epoch=epoch,
                    history=records.history,
                    seconds=earlier + time.monotonic() - started,
                    wandb_id=online.run_id if online else None,
                )
                improved = (
                    records.improvements(values, opt.evaltypes, opt.storage_metrics)
                    if opt.store_improvements
                    else []
                )
                for path in [*improved, folder / run_folder.LAST_CHECKPOINT]:
                    checkpoints.save(path, state)
                report.print_epoch(epoch, opt.n_epochs, opt.evaltypes, losses, values)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(run_folder.how_to_resume(folder)) from None
        records.finish(
            {
                "dataset": opt.dataset,
                "run": str(folder),
                "settings": settings,
                "images_left_out": data.left_out,
            },
            earlier + time.monotonic() - started,
        )
        drawn = draw_figures(opt, evaluation_of, shown, folder, device)
        if online and drawn:
            online.log_figures(opt.n_epochs - 1, "Test", drawn)
    report.print_results(records.summary(), folder)
    integrity.report(data.left_out)


def evaluate_only(path: str, argv: list[str] | None) -> None:
    """`--evaluate_only`: the metrics of a stored network, on the dataset that the flags name, or on its own."""
    started = time.monotonic()
    checkpoint = checkpoints.load(run_folder.checkpoint_at(path), "--evaluate_only")
    opt = parameters.parse(argv, checkpoint.settings)
    if opt.log_online:
        logger.OnlineRun.require_possible()
    device = devices.select(opt.device, opt.gpu)
    seeding.seed_everything(opt.seed)
    splits, left_out = build_splits(opt)
    network, transform = build_network(opt, device, load_weights=False)
    checkpoints.restore_parts({"state_dict": network}, checkpoint, "--evaluate_only")
    evaluation_of = build_evaluation(opt, splits, transform, device)
    values = evaluate(opt, network, evaluation_of, device, shown := {})
    folder = run_folder.create(opt.save_path, opt.dataset, f"{opt.savename}_evaluation")
    run_folder.write_settings(folder, parameters.stored(opt))
    online = start_online(opt, folder)
    with logger.RunLog(folder, online=online) as records:
        records.log(
            checkpoint.epoch,
            report.merge({"Train": {"epochs": {"epochs": checkpoint.epoch}}}, values),
        )
        records.finish(
            {
                "dataset": opt.dataset,
                "run": str(folder),
                "checkpoint": path,
                "settings": parameters.stored(opt),
                "images_left_out": left_out,
            },
            time.monotonic() - started,
        )
        drawn = draw_figures(opt, evaluation_of, shown, folder, device)
        if online and drawn:
            online.log_figures(checkpoint.epoch, "Test", drawn)
    LOG.info("%s of %s, epoch %d, on %s:", path, opt.arch, checkpoint.epoch, opt.dataset)
    report.print_values(opt.evaltypes, values)
    LOG.info("Results: %s", folder)
    integrity.report(left_out)


def start_online(
    opt, folder: Path, resumed: checkpoints.Checkpoint | None = None
) -> logger.OnlineRun | None:
    """The W&B run of `--log_online`; a resumed run goes on with its own."""
    return (
        logger.OnlineRun(
            project=opt.project,
            group=opt.group,
            name=folder.name,
            settings=parameters.stored(opt),
            folder=folder,
            run_id=resumed.wandb_id if resumed else None,
        )
        if opt.log_online
        else None
    )


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
    return {name: {name: value} for name, value in meter.means().items()} | {
        "time": {"time": time.monotonic() - started}
    }


def embed_training(opt, network, split, device) -> torch.Tensor:
    """Embeddings [N, D] of the training images as they are now, for the samplers that choose by them."""
    batches = loading.evaluation_batches(split, batch_size=opt.bs, workers=opt.kernels)
    return embed(
        network,
        batches,
        count=len(split),
        evaltypes=["embeds"],
        device=device,
        autocast=devices.autocast(device, opt.precision),
        channels_last=opt.channels_last,
        title="training images",
    )["embeds"]


def evaluate(opt, network, evaluation_of, device, shown: dict | None = None) -> logger.Values:
    """Split -> "<evaltype>_<metric family>" -> metric -> value. `shown` is filled with the test embeddings by evaltype."""
    where = torch.device("cpu") if opt.evaluate_on_cpu else device
    return {
        name: evaluation.evaluate(
            network,
            loading.evaluation_batches(split, batch_size=opt.bs, workers=opt.kernels),
            evaluation_of.protocols[name],
            evaluation_of.metrics,
            evaltypes=opt.evaltypes,
            text_vectors=evaluation_of.texts[name],
            use_faiss=evaluation_of.backend != "torch",
            memory=devices.memory(opt.evaluation_memory, where),
            search_on_cpu=opt.evaluate_on_cpu,
            device=device,
            title=name,
            autocast=devices.autocast(device, opt.precision),
            channels_last=opt.channels_last,
            keep=shown if name == "Test" else None,
        )
        for name, split in evaluation_of.splits.items()
    }


def draw_figures(
    opt, evaluation_of, embeddings: dict[str, torch.Tensor], folder: Path, device
) -> dict[str, Path]:
    """Figures of the test split by its embeddings, name -> file in `<run>/Figures`; none if it was not evaluated or with --no_figures."""
    if opt.no_figures or not embeddings:
        return {}
    split, protocol = evaluation_of.splits["Test"], evaluation_of.protocols["Test"]
    images, rows = split.with_transform(lambda image: image), embeddings[opt.evaltypes[0]]
    captions = [split.captions[label] for label in figures.shown_classes(protocol.labels).tolist()]
    try:
        texts = build_class_vectors(opt, captions, device) if opt.language_distill_w else None
    except UserError as error:  # of a checkpoint from a machine that had the language model: no reason to lose its evaluation
        LOG.warning("Classes are not compared with language: %s", error)
        texts = None
    return figures.draw(
        folder / "Figures",
        rows,
        protocol,
        split.class_texts,
        lambda row: images[row][0],
        text_vectors=texts,
        memory=devices.memory(opt.evaluation_memory, rows.device),
    )


if __name__ == "__main__":
    sys.exit(main())
