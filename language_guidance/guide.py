"""Distilling text similarities into image similarities (Roth et al., CVPR 2022, eqs. 4-6)."""

import torch
from torch import nn
from torch.nn.functional import normalize

from utilities.functional import rowwise_kl


def text_similarities(vectors: torch.Tensor) -> torch.Tensor:
    """G = (1/k) sum_r <hat l(., r), hat l(., r)>: text vectors [C, k, E] -> similarities [C, C]."""
    vectors = normalize(vectors, dim=-1)
    return torch.einsum("crd,srd->cs", vectors, vectors) / vectors.shape[1]


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
    text = (similarities.to(embeddings.dtype) + shift).masked_fill(
        same, 1 + shift
    ).detach() / temperature
    divergence = rowwise_kl(image, text) if direction == "backward" else rowwise_kl(text, image)
    return temperature**2 * divergence.mean()


class LanguageGuide(nn.Module):
    """`guide(embeddings, labels, indices)` -> scalar: the distillation loss from iteration `delay` on, before it 0.

    Args:
        vectors: [C, k, E] text vectors of classes, or of unique texts where `assignment` is given.
        assignment: [N, k] long, for guidance per sample: the row of `vectors` [T, 1, E] for each
            sample and rank.
        direction, shift, temperature: as in `distillation_loss`.
        delay: number of the first call (counted from 1) that returns the loss; 0 and 1 begin at
            once.
    """

    def __init__(
        self,
        vectors: torch.Tensor,
        assignment: torch.Tensor | None = None,
        *,
        direction: str = "backward",
        shift: float = 1.0,
        temperature: float = 1.0,
        delay: int = 0,
    ):
        super().__init__()
        self.direction, self.shift, self.temperature, self.delay = (
            direction,
            shift,
            temperature,
            delay,
        )
        # Similarities are of classes (or unique texts) only, hence computed once.
        self.register_buffer("similarities", text_similarities(vectors), persistent=False)
        self.register_buffer("assignment", assignment, persistent=False)
        self.calls = 0

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor
    ) -> torch.Tensor:
        self.calls += 1
        if self.calls < self.delay:
            return embeddings.new_zeros(())
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = (
                embeddings.float()
                if embeddings.dtype in (torch.float16, torch.bfloat16)
                else embeddings
            )
            return distillation_loss(
                embeddings,
                labels,
                self.batch_similarities(labels, indices),
                direction=self.direction,
                shift=self.shift,
                temperature=self.temperature,
            )

    def batch_similarities(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """[B, B] text similarities of the samples: by class, or by sample as the mean over equal ranks."""
        if self.assignment is None:
            return self.similarities[labels[:, None], labels[None, :]]
        texts = self.assignment[indices]  # [B, k]
        return self.similarities[texts[:, None, :], texts[None, :, :]].mean(-1)

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor(self.calls)

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.calls = int(state)
