"""Train and evaluate a metric space, with or without language guidance (Roth et al., CVPR 2022).

    python main.py --config configs/demo.yaml
    python main.py --dataset cub200 --source_path DATA --loss multisimilarity \
        --language_distill_w 7.5 --language_pseudoclass
"""

import logging
import sys
import time
from pathlib import Path

import parameters

if __name__ == "__main__":
    parameters.answer()  # --help, --list and wrong settings, before torch is loaded

import build
from datasampler.storage import StorageSampler
from datasets import ImageSplit, integrity, loading
from evaluation import Evaluator, SplitEvaluation
from training import train_epoch
from utilities import checkpoints, report, run_folder, seeding
from utilities.checkpoints import Checkpoint
from utilities.logger import RunLog, values_of_epoch
from utilities.online import OnlineRun

LOG = logging.getLogger("main")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a loss became non-finite, 2 wrong setting or file, 130 interrupted."""
    opt = parameters.parse(argv)
    if opt.list:
        print(parameters.listing())
        return 0
    report.configure_logging()
    return report.exit_status(evaluate_only if opt.evaluate_only else run, opt)


def run(opt: parameters.Settings) -> None:
    """Build, then train -> evaluate -> log, epoch by epoch."""
    started = time.monotonic()
    if is_completed(opt):
        return
    runtime = build.build_runtime(opt)
    resumed = find_checkpoint(opt)
    if resumed and is_finished(opt, resumed):
        return
    for notice in parameters.notices(opt):
        LOG.info("%s", notice)
    if opt.log_online:
        OnlineRun.require_possible()
    settings = parameters.stored(opt)
    seeding.seed_everything(opt.seed)
    data = build.build_data(opt)
    identity = data.fingerprint()
    if resumed:
        checkpoints.require_same_data(resumed, identity)
    network, transform = build.build_network(opt, runtime, load_weights=resumed is None)
    # The criterion comes before the language models: these may draw random numbers as they load.
    criterion = build.build_criterion(opt, data, network, runtime)
    evaluator = build.build_evaluator(opt, data.splits, transform, runtime)
    guidance = build.build_guidance(opt, data.splits.training, runtime)
    learner = build.build_learner(opt, network, criterion, guidance, runtime)
    loader = build.build_training_loader(opt, data, transform)
    embed_training = build.build_training_embedder(opt, data, transform, runtime)
    if resumed:
        checkpoints.restore(learner.parts, resumed)
        started -= resumed.seconds

    # The run folder is made last: whatever is wrong up to here has written nothing.
    with open_records(opt, resumed) as records, run_folder.resumable(records.folder):
        summary = build.summary(opt, data, learner, guidance, evaluator)
        report.print_summary(summary | {"run folder": str(records.folder)})
        evaluated: dict[str, SplitEvaluation] = {}
        first = resumed.epoch + 1 if resumed else 0
        if first == opt.n_epochs:  # ended before its results were written
            evaluated = evaluator.run(network)
        for epoch in range(first, opt.n_epochs):
            if isinstance(data.sampler, StorageSampler):
                data.sampler.refresh(embed_training(network))
            data.sampler.set_epoch(epoch)
            seed = seeding.derive(opt.seed, epoch)
            losses = train_epoch(learner, loading.Batches(loader, seed), epoch=epoch, seed=seed)
            is_last = epoch == opt.n_epochs - 1
            is_due = is_last or (epoch + 1) % opt.evaluate_every == 0
            evaluated = evaluator.run(network) if is_due else {}
            values = {split: evaluation.values for split, evaluation in evaluated.items()}
            records.log(epoch, values_of_epoch(epoch, losses, values))
            state = checkpoints.snapshot(
                learner.state_dict(),
                settings=settings,
                epoch=epoch,
                history=records.history,
                seconds=time.monotonic() - started,
                wandb_id=records.online_id,
                data=identity,
            )
            improved = []
            if opt.store_improvements:
                improved = records.improvements(values, opt.evaltypes, opt.storage_metrics)
            for path in [*improved, records.folder / run_folder.LAST_CHECKPOINT]:
                checkpoints.save(path, state)
            report.print_epoch(epoch, opt.n_epochs, opt.evaltypes, losses, values)
        facts = {"dataset": opt.dataset, "settings": settings, "images_left_out": data.left_out}
        records.finish(facts, time.monotonic() - started)
        draw_figures(opt, records, evaluator, evaluated, data.splits.testing)
    report.print_results(records.summary(), records.folder)
    integrity.report(data.left_out)


def evaluate_only(opt: parameters.Settings) -> None:
    """`--evaluate_only`: the metrics of a stored network.

    They are of the dataset that the flags name, or of the network's own.
    """
    started, path = time.monotonic(), opt.evaluate_only
    checkpoint = checkpoints.load(run_folder.checkpoint_at(path), "--evaluate_only")
    opt = parameters.inherit(opt, checkpoint.settings)
    for notice in parameters.notices(opt):
        LOG.info("%s", notice)
    if opt.log_online:
        OnlineRun.require_possible()
    runtime = build.build_runtime(opt)
    seeding.seed_everything(opt.seed)
    splits, left_out = build.build_splits(opt)
    network, transform = build.build_network(opt, runtime, load_weights=False)
    checkpoints.restore({"state_dict": network}, checkpoint, "--evaluate_only")
    evaluator = build.build_evaluator(opt, splits, transform, runtime)
    evaluated = evaluator.run(network)
    values = {split: evaluation.values for split, evaluation in evaluated.items()}
    settings = parameters.stored(opt)
    savename = f"{parameters.run_name_of(opt)}_evaluation"
    with open_records(opt, savename=savename) as records:
        records.log(checkpoint.epoch, values_of_epoch(checkpoint.epoch, {}, values))
        facts = {"dataset": opt.dataset, "settings": settings, "images_left_out": left_out}
        records.finish(facts | {"checkpoint": path}, time.monotonic() - started)
        draw_figures(opt, records, evaluator, evaluated, splits.testing)
    LOG.info("%s of %s, epoch %d, on %s:", path, opt.arch, checkpoint.epoch, opt.dataset)
    report.print_values(opt.evaltypes, values)
    LOG.info("Results: %s", records.folder)
    integrity.report(left_out)


def is_completed(opt: parameters.Settings) -> bool:
    """Whether `--completed` has nothing to do, which is told.

    A finished run of that name with other settings is none of it; what differs is told.
    """
    if not opt.completed:
        return False
    settings = parameters.stored(opt)
    for folder in run_folder.finished_runs(opt.save_path, opt.dataset, parameters.run_name_of(opt)):
        stored = run_folder.results(folder).get("settings", {})
        changed = checkpoints.changes(stored, settings)
        other = [change for name, change in changed.items() if parameters.matters(name, opt)]
        if not other:
            LOG.info("--completed: %s is finished; nothing to do.", folder)
            return True
        LOG.info("--completed: %s is finished under other settings: %s.", folder, ", ".join(other))
    return False


def find_checkpoint(opt: parameters.Settings) -> Checkpoint | None:
    """That of `--resume`; None where auto finds none, which is a run from the beginning.

    Raises UserError if there is none, or if it is of another setting.
    """
    if not opt.resume:
        return None
    name, settings = parameters.run_name_of(opt), parameters.stored(opt)
    checkpoint = checkpoints.find(opt.resume, opt.save_path, opt.dataset, name)
    if checkpoint is None:
        LOG.info(
            "--resume auto: no run in %s named %s has a checkpoint; starting anew.",
            Path(opt.save_path) / opt.dataset,
            name,
        )
        opt.resume = None
        return None
    checkpoints.require_fitting(checkpoint, settings, parameters.FREE)
    for sentence in parameters.keep_beginning(opt, checkpoint.settings):
        LOG.info("%s", sentence)
    return checkpoint


def is_finished(opt: parameters.Settings, resumed: Checkpoint) -> bool:
    """Whether a checkpoint has all epochs and its run all results, which is told.

    What of it is left to do is told otherwise.
    """
    done, path = resumed.epoch + 1, resumed.path
    folder = run_folder.home(path, resumed.losses())
    lacks_results = folder is not None and not (folder / run_folder.RESULTS).is_file()
    if done < opt.n_epochs or (done == opt.n_epochs and lacks_results):
        LOG.info("Resuming %s: %d of %d epochs are done.", path, done, opt.n_epochs)
        return False
    LOG.info(
        "--resume %s: all %d epochs are done; nothing to do (a larger --n_epochs goes on).",
        path,
        opt.n_epochs,
    )
    return True


def open_records(
    opt: parameters.Settings, resumed: Checkpoint | None = None, savename: str | None = None
) -> RunLog:
    """The records in a new run folder, or in the resumed run's, with its settings written.

    A checkpoint that its run has gone beyond, or that lies elsewhere, goes on in a new folder.
    """
    folder = run_folder.home(resumed.path, resumed.losses()) if resumed else None
    goes_on = folder is not None
    if folder is None:
        name = savename or parameters.run_name_of(opt)
        folder = run_folder.create(opt.save_path, opt.dataset, name)
    if resumed and not goes_on:
        LOG.info(
            "%s is not the end of the records beside it: this run goes on in %s.",
            resumed.path,
            folder,
        )
    settings, online = parameters.stored(opt), None
    if opt.log_online:
        online = OnlineRun(
            project=opt.project,
            group=opt.group,
            name=folder.name,
            settings=settings,
            folder=folder,
            run_id=resumed.wandb_id if resumed and goes_on else None,
        )
    run_folder.write_settings(folder, settings)
    return RunLog(folder, resumed.history if resumed else None, online)


def draw_figures(
    opt: parameters.Settings,
    records: RunLog,
    evaluator: Evaluator,
    evaluated: dict[str, SplitEvaluation],
    testing: ImageSplit,
) -> None:
    """Figures of the test split, unless it was not evaluated or with `--no_figures`."""
    if opt.no_figures or "Test" not in evaluated:
        return
    embeddings = evaluated["Test"].embeddings
    drawn = build.draw_figures(opt, testing, evaluator, embeddings, records.folder)
    records.log_figures("Test", drawn)


if __name__ == "__main__":
    sys.exit(main())
