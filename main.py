"""Train and evaluate a metric space, with or without language guidance (Roth et al., CVPR 2022).

    python main.py --config configs/demo.yaml
    python main.py --dataset cub200 --source_path DATA --loss multisimilarity \
        --language_distill_w 7.5 --language_pseudoclass
"""

import parameters
from utilities import processes, signals

if __name__ == "__main__":
    signals.end_quietly_until_answered()
    processes.leave_out_traces_of_torch()
    parameters.answer()  # --help, --list and wrong settings, before anything else is loaded

import logging
import os
import shlex
import sys
import time

import build
from datasampler.storage import StorageSampler
from datasets import ImageSplit, integrity, loading
from evaluation import Evaluator, SplitEvaluation
from training import TrainingEpoch
from utilities import checkpoints, costs, report, run_folder, seeding
from utilities.logger import RunLog, values_of_epoch
from utilities.meters import StepLosses
from utilities.runtime import hide_gpus

LOG = logging.getLogger("main")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a loss became non-finite, 2 wrong setting or file.

    130 interrupted by Ctrl-C, 143 told to stop by SIGTERM or SIGUSR1, 129 by SIGHUP.
    """
    opt = parameters.parse(argv)
    if opt.list:
        print(parameters.listing())
        return 0
    report.configure_logging(quiet=opt.quiet)
    words = parameters.without_secrets(sys.argv[1:] if argv is None else argv)
    if argv is None:
        sys.argv[1:] = words  # from where W&B takes the command line
        if opt.device == "cpu":
            hide_gpus()
    work = processes.together(evaluate_only if opt.evaluate_only else run)
    return report.exit_status(work, opt, shlex.join([*processes.starter(), "main.py", *words]))


def run(opt: parameters.Settings, command: str) -> None:
    """Build, then train -> evaluate -> log, epoch by epoch. `command` is kept in the records."""
    started = time.monotonic()
    if build.is_completed(opt):
        return
    resumed = build.find_checkpoint(opt)
    if resumed and build.is_finished(opt, resumed):
        return
    runtime = build.build_runtime(opt)
    for notice in parameters.notices(opt):
        LOG.info("%s", notice)
    build.require_boards(opt)
    settings = parameters.stored(opt)
    seeding.seed_everything(opt.seed)
    data = build.build_data(opt)
    identity, texts, measured = build.identities(opt, data.splits)
    if resumed:
        checkpoints.require_same_data(resumed, identity, texts, measured)
    network, transform = build.build_network(opt, runtime, load_weights=resumed is None)
    # The criterion comes before the language models: these may draw random numbers as they load.
    criterion = build.build_criterion(opt, data, network, runtime)
    evaluator = build.build_evaluator(opt, data.splits, transform, runtime)
    guidance = build.build_guidance(opt, data.splits.training, runtime)
    learner = build.build_learner(opt, data, network, criterion, guidance, runtime)
    loader = build.build_training_loader(opt, data, transform, runtime)
    embed_training = build.build_training_embedder(opt, data, transform, runtime)
    if resumed:
        learner.count(resumed.steps_of_run(len(loader)))
        checkpoints.restore(learner.parts, resumed)
        started -= resumed.seconds

    # The run folder is made last: whatever is wrong up to here has written nothing.
    with (
        build.build_records(opt, command, runtime, resumed, steps=len(loader)) as records,
        run_folder.resumable(records.folder),
    ):
        summary = build.summary(opt, data, learner, guidance, evaluator)
        report.print_summary(summary | {"run folder": str(records.folder)})
        keeper = checkpoints.Keeper(
            learner.state_dict,
            records,
            settings=settings,
            data=identity | texts | {"measured": measured},
            minutes=opt.checkpoint_every,
            started=started,
        )
        records.log_class_texts(build.class_texts(data.splits.training, guidance))
        processes.on_main(build.show_language, opt, data.splits.training, guidance, records.folder)
        evaluated: dict[str, SplitEvaluation] = {}
        first = resumed.epoch + 1 if resumed else 0
        if first == opt.n_epochs:  # ended before its results were written
            evaluated = evaluator.run(learner.evaluated)
        sampled = StepLosses(opt.log_steps, len(loader), records.log_steps)
        pace = costs.Pace(first, opt.n_epochs, opt.evaluate_every)
        for epoch in range(first, opt.n_epochs):
            training = TrainingEpoch(learner, epoch, seeding.derive(opt.seed, epoch), sampled)
            data.sampler.set_epoch(epoch)
            if resumed and resumed.within and epoch == first:
                checkpoints.restore_begun(resumed, training, data.sampler)
                pace.count(training.seconds)
            elif isinstance(data.sampler, StorageSampler):
                data.sampler.refresh(embed_training(network))
            is_last = epoch == opt.n_epochs - 1
            is_due = costs.is_evaluated(epoch, opt.n_epochs, opt.evaluate_every)
            batches = loading.Batches(loader, training.seed, first=training.steps)
            with keeper.within(training, data.sampler):
                losses = training.run(batches, keeper.keep_if_due)
                if is_due:
                    keeper.keep_begun()  # an evaluation may be killed
            evaluated = evaluator.run(learner.evaluated) if is_due else {}
            values = {split: evaluation.values for split, evaluation in evaluated.items()}
            learner.hear(losses, values.get("Val"))
            speed = training.images / losses["time"]
            spent = costs.Costs(training.rates, speed, costs.peak_memory(runtime.device))
            with signals.held():
                records.log(epoch, values_of_epoch(losses, values, spent.families()))
                improved = []
                if opt.store_improvements:
                    improved = records.improvements(values, opt.evaltypes, opt.storage_metrics)
                keeper.keep(epoch, improved)
            pace.end_epoch()
            report.print_epoch(epoch, opt.n_epochs, opt.evaltypes, losses, values, spent, pace)
            if not is_last:
                evaluated.clear()  # the embeddings, for which the next epoch has no room to spare
        facts = build.facts(opt, command, data.splits, data.left_out, runtime)
        facts |= {"weights": build.count_weights(learner)}
        processes.on_main(draw_figures, opt, records, evaluator, evaluated, data.splits.testing)
        records.finish(facts, time.monotonic() - started)  # the mark of a run that has everything
    report.print_results(records.summary(), records.folder)
    integrity.report(data.left_out)


def evaluate_only(opt: parameters.Settings, command: str) -> None:
    """`--evaluate_only`: the metrics of a stored network.

    They are of the dataset that the flags name, or of the network's own.
    """
    started, path = time.monotonic(), opt.evaluate_only
    checkpoint = checkpoints.load(run_folder.checkpoint_at(path), "--evaluate_only")
    opt = parameters.inherit(opt, checkpoint.settings)
    for notice in parameters.notices(opt):
        LOG.info("%s", notice)
    build.require_boards(opt)
    runtime = build.build_runtime(opt)
    processes.on_main(run_folder.require_place, opt.save_path, opt.dataset)
    seeding.seed_everything(opt.seed)
    splits, left_out = build.build_splits(opt)
    build.tell_other_data(opt, checkpoint, splits.training)
    network, transform = build.build_network(opt, runtime, load_weights=False)
    checkpoints.restore({checkpoint.evaluated: network}, checkpoint, "--evaluate_only")
    evaluator = build.build_evaluator(opt, splits, transform, runtime)
    evaluated = evaluator.run(network)
    values = {split: evaluation.values for split, evaluation in evaluated.items()}
    savename = f"{parameters.run_name_of(opt)}_evaluation"
    with build.build_records(opt, command, runtime, savename=savename) as records:
        records.log(checkpoint.epoch, values_of_epoch({}, values, {}))
        facts = build.facts(opt, command, splits, left_out, runtime)
        facts |= {"checkpoint": os.path.abspath(path)}  # which is read from other folders too
        processes.on_main(draw_figures, opt, records, evaluator, evaluated, splits.testing)
        facts |= {"peak_memory": costs.peak_memory(runtime.device)}  # of no epoch of a training
        records.finish(facts, time.monotonic() - started)
    evaluated_network = f"{path} of {opt.arch}, {checkpoint.stage()}, on {opt.dataset}"
    LOG.log(report.RESULT, "%s:", evaluated_network)
    report.print_values(opt.evaltypes, values, report.RESULT)
    LOG.log(report.RESULT, "%s", report.results_in(records.folder))
    integrity.report(left_out)


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
    records.log_figures("Test", drawn.files)
    records.log_table("Test: retrievals", [panel.row() for panel in drawn.panels])


if __name__ == "__main__":
    sys.exit(main())
