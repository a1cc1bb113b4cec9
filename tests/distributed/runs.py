"""Runs of main.py as one of several processes, to some of which something happens."""

import os
import signal
import sys
from unittest import mock

import main
from training import Learner

TINY = """
    --dataset birds --arch test_resnet_frozen_normalize --not_pretrained --image_size 32
    --embed_dim 8 --loss margin --batch_mining distance --bs 8 --lr 1e-3 --kernels 0
    --device cpu --n_epochs 3 --evaluate_every 2 --savename r --no_train_metrics
    --evaluation_metrics e_recall@1 mAP_1000 nmi --resume auto
    --language_distill_w 1 --language_model minilm --no_figures
"""


def run(argv: list[str]) -> int:
    return main.main(argv)


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


def program(words: list[str]) -> int:
    """python -m programs.compare."""
    from programs import compare

    sys.argv[1:] = words
    return compare.main(words)
