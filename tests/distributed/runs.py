"""Runs of main.py as one of several processes, to some of which something happens."""

import os
import signal
import sys
from unittest import mock

import main
from training import Learner
from utilities import processes
from utilities.checkpoints import Keeper

AN_HOUR = 3600.0
TINY = """
    --dataset birds --arch test_resnet_frozen_normalize --not_pretrained --image_size 32
    --embed_dim 8 --loss margin --batch_mining distance --bs 8 --lr 1e-3 --kernels 0
    --device cpu --n_epochs 3 --evaluate_every 2 --savename r --no_train_metrics
    --evaluation_metrics e_recall@1 mAP_1000 nmi --resume auto
    --language_distill_w 1 --language_model minilm --no_figures
"""


def run(argv: list[str]) -> int:
    return main.main(argv)


def with_own_images(argv: list[str], places: list[str]) -> int:
    """The images of each process lie at its own place, as on machines of their own."""
    return main.main([*argv, "--source_path", places[int(os.environ["RANK"])]])


def signalled(argv: list[str], rank: int, step: int, number: int) -> int:
    """A signal comes to one process in the middle of a step, counted from 1 over all epochs."""
    original, calls = Learner.step, []

    def step_and_signal(self, *arguments):
        calls.append(1)
        if len(calls) == step and os.environ["RANK"] == str(rank):
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    with mock.patch.object(Learner, "step", step_and_signal):
        return main.main(argv)


def killed(argv: list[str], rank: int, step: int) -> int:
    return signalled(argv, rank, step, signal.SIGKILL)


def interrupted_at_the_start(argv: list[str], rank: int) -> int:
    """Ctrl-C comes to one process before the third epoch, of which the others make a step."""
    original = Learner.start_epoch

    def start_and_signal(self, epoch):
        original(self, epoch)
        if epoch == 2 and os.environ["RANK"] == str(rank):
            os.kill(os.getpid(), signal.SIGINT)

    with (
        mock.patch.object(Learner, "start_epoch", start_and_signal),
        mock.patch.object(processes, "KEPT_WITHIN", AN_HOUR),
    ):
        return main.main(argv)


def interrupted_twice(argv: list[str]) -> int:
    """The second Ctrl-C comes to the first process while it writes its last checkpoint."""
    with (
        mock.patch.object(Keeper, "keep_begun", side_effect=KeyboardInterrupt),
        mock.patch.object(processes, "KEPT_WITHIN", AN_HOUR),
    ):
        return signalled([*argv, "--evaluate_every", "3"], 1, 2, signal.SIGINT)


def program(words: list[str]) -> int:
    """python -m programs.compare."""
    from programs import compare

    sys.argv[1:] = words
    return compare.main(words)
