"""The texts of classes or images as vectors."""

from typing import NamedTuple

import torch


class TextBank(NamedTuple):
    """Vectors of different texts, and which of them each class or each image has.

    A batch contracts the rows of its own samples, so that memory grows with the texts and not
    with the pairs of classes.
    """

    vectors: torch.Tensor  # [T, E], a row for each text; of any norm
    assignment: torch.Tensor  # [C, k] or [N, k] long: the row of `vectors` at each of k ranks
    by_image: bool = False  # whether a row of `assignment` is an image; else it is a class
    # Of `assignment`'s shape: the share of each rank, 1 in all for a row; None: the same of each.
    shares: torch.Tensor | None = None
