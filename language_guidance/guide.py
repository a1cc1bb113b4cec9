"""Distilling text similarities into image similarities (Roth et al., CVPR 2022, eqs. 4-6)."""

import torch
from torch import nn
from torch.nn.functional import embedding, normalize

from language_guidance.text_bank import TextBank
from utilities.functional import require_real, rowwise_kl, whole_labels

HALF_PRECISION = (torch.float16, torch.bfloat16)
DIRECTIONS = ("backward", "forward")


def text_similarities(units: torch.Tensor) -> torch.Tensor:
    """G = (1/k) sum_r <l(., r), l(., r)>: unit text vectors [B, k, E] -> similarities [B, B]."""
    rows = units.flatten(1)  # the sum over ranks is one product of longer rows
    return rows @ rows.T / units.shape[1]


def distillation_loss(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    similarities: torch.Tensor,
    *,
    direction: str = "backward",
    shift: float = 1.0,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Row-wise KL between image and text similarities of a batch, T^2 / B times its sum over rows.

    Pairs of one class, the diagonal included, count 1 + shift in both matrices, so that guidance
    acts between classes.

    Args:
        embeddings: [B, D], the only argument that gets a gradient.
        labels: [B] long.
        similarities: [B, B] text similarities of the samples.
        direction: `backward` is KL(image || text), `forward` KL(text || image).
    """
    same = labels[:, None] == labels[None, :]
    image = (embeddings @ embeddings.T).masked_fill(same, 1 + shift) / temperature
    shifted = similarities.to(embeddings.dtype) + shift
    text = shifted.masked_fill(same, 1 + shift).detach() / temperature
    divergence = rowwise_kl(image, text) if direction == "backward" else rowwise_kl(text, image)
    return temperature**2 * divergence.mean()


class LanguageGuide(nn.Module):
    """The distillation loss of a batch: `guide(embeddings, labels, indices)` -> scalar.

    It is 0 before iteration `delay`.

    Args:
        bank: the texts of the classes or of the images of the training split.
        direction, shift, temperature: as in `distillation_loss`.
        delay: number of the first call (counted from 1) that returns the loss; 0 and 1 begin at
            once.
    Raises:
        ValueError: a bank of other shapes, or a direction or temperature that there is not.
    """

    units: torch.Tensor  # [T, E], the unit vectors of the bank
    assignment: torch.Tensor  # [C, k] or [N, k]

    def __init__(
        self,
        bank: TextBank,
        *,
        direction: str = "backward",
        shift: float = 1.0,
        temperature: float = 1.0,
        delay: int = 0,
    ):
        super().__init__()
        if bank.vectors.ndim != 2 or bank.assignment.ndim != 2:
            raise ValueError(
                "expected vectors [T, E] and an assignment [C, k], got "
                f"{tuple(bank.vectors.shape)} and {tuple(bank.assignment.shape)}"
            )
        if direction not in DIRECTIONS or not temperature > 0:
            raise ValueError(
                f"expected a direction of {' and '.join(DIRECTIONS)} and a temperature above 0, "
                f"got {direction!r} and {temperature}"
            )
        self.direction = direction
        self.shift = shift
        self.temperature = temperature
        self.delay = delay
        self.by_image = bank.by_image
        # They are made anew from the texts, so that a checkpoint does without them.
        self.register_buffer("units", normalize(bank.vectors, dim=-1), persistent=False)
        self.register_buffer("assignment", bank.assignment, persistent=False)
        self.calls = 0

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor
    ) -> torch.Tensor:
        if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
            raise ValueError(
                "expected embeddings [B, D] and labels [B], got "
                f"{tuple(embeddings.shape)} and {tuple(labels.shape)}"
            )
        require_real(embeddings)
        labels = whole_labels(labels)
        self.calls += 1
        if self.calls < self.delay:
            return embeddings.new_zeros(())
        with torch.autocast(embeddings.device.type, enabled=False):
            is_half = embeddings.dtype in HALF_PRECISION
            return distillation_loss(
                embeddings.float() if is_half else embeddings,
                labels,
                self.batch_similarities(labels, indices),
                direction=self.direction,
                shift=self.shift,
                temperature=self.temperature,
            )

    def batch_similarities(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """[B, B] text similarities of the samples: the mean over ranks of their cosines."""
        rows = indices if self.by_image else labels
        return text_similarities(embedding(self.assignment[rows], self.units))

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor(self.calls)

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.calls = int(state)
