"""Language guidance of a batch: `guide(embeddings, labels, indices)` -> scalar.

`LanguageGuide` is the paper's: text similarities are distilled into image similarities (Roth et
al., CVPR 2022, eqs. 4-6). The others take the same texts in by other losses, for comparison.
"""

import torch
from torch import nn
from torch.nn.functional import normalize

from language_guidance.similarities import BankSimilarities, Source, TextSource
from language_guidance.text_bank import TextBank
from utilities.functional import require_real, rowwise_kl, whole_labels

HALF_PRECISION = (torch.float16, torch.bfloat16)
DIRECTIONS = ("backward", "forward")


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


def squared_loss(
    embeddings: torch.Tensor, labels: torch.Tensor, similarities: torch.Tensor
) -> torch.Tensor:
    """Mean squared difference of image and text similarities over pairs of different classes.

    0 with a graph where a batch has one class only. Arguments as of `distillation_loss`.
    """
    other = labels[:, None] != labels[None, :]
    difference = embeddings @ embeddings.T - similarities.to(embeddings.dtype).detach()
    return difference.masked_fill(~other, 0).square().sum() / other.sum().clamp(min=1)


def contrastive_loss(
    mapped: torch.Tensor, labels: torch.Tensor, texts: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """Cross-entropy between images and the texts of a batch, the mean of both directions.

    As CLIP is trained (Radford et al. 2021), except that all samples of a class are positives of
    each other (as in SupCon, Khosla et al. 2020, eq. 2).

    Args:
        mapped: [B, E] unit vectors of the images. texts: [B, E] unit vectors of their texts.
    """
    positives = (labels[:, None] == labels[None, :]).to(mapped.dtype)
    positives = positives / positives.sum(1, keepdim=True)
    logits = mapped @ texts.to(mapped.dtype).detach().T / temperature
    by_image = (positives * logits.log_softmax(1)).sum(1).mean()
    by_text = (positives * logits.log_softmax(0)).sum(0).mean()
    return -(by_image + by_text) / 2


class Guide(nn.Module):
    """What guides have in common: a source, and a factor that depends on the iteration.

    The factor is 0 before iteration `delay`, rises linearly over `rise` iterations to 1, and halves
    with each `half_life` iterations after that.

    Args:
        source: the texts of the classes or of the images of the training split; or where else their
            similarities come from.
        delay: number of the first call (counted from 1) that returns the loss; 0 and 1 begin at
            once.
        rise, half_life: iterations; 0: at once, and never.
    Raises:
        TypeError: another source. ValueError: a negative number of iterations.
    """

    source: Source

    def __init__(
        self,
        source: TextBank | Source,
        *,
        delay: int = 0,
        rise: int = 0,
        half_life: int = 0,
    ):
        super().__init__()
        if not isinstance(source, TextBank | Source):
            raise TypeError(f"expected a TextBank or a Source, got {type(source).__name__}")
        if min(delay, rise, half_life) < 0:
            raise ValueError(
                "expected a delay, a rise and a half_life of at least 0, "
                f"got {delay}, {rise} and {half_life}"
            )
        self.source = BankSimilarities(source) if isinstance(source, TextBank) else source
        self.delay, self.rise, self.half_life = delay, rise, half_life
        self.calls = 0  # also those before, where guidance begins as a run is resumed

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor
    ) -> torch.Tensor:
        require_real(embeddings)
        labels = whole_labels(labels)
        if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1] or len(labels) == 0:
            raise ValueError(
                "expected embeddings [B, D] and labels [B] with at least one row, got "
                f"{tuple(embeddings.shape)} and {tuple(labels.shape)}"
            )
        self.calls += 1
        if self.calls < self.delay:
            return embeddings.new_zeros(())
        with torch.autocast(embeddings.device.type, enabled=False):
            is_half = embeddings.dtype in HALF_PRECISION
            rows = embeddings.float() if is_half else embeddings
            loss = self.loss(rows, labels, indices)
        factor = self.factor()
        return loss if factor == 1 else factor * loss

    def loss(
        self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a batch at full weight, in single precision or better."""
        raise NotImplementedError

    def factor(self) -> float:
        """Of the iteration that `calls` counts, once guidance has begun."""
        done = self.calls - max(self.delay, 1)  # iterations with guidance before this one
        if done < self.rise:
            return (done + 1) / (self.rise + 1)
        return 0.5 ** ((done - self.rise) / self.half_life) if self.half_life else 1.0

    def batch_similarities(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """[B, B] text similarities of the samples."""
        return self.source(labels, indices)

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor(self.calls)

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.calls = int(state)


class LanguageGuide(Guide):
    """The distillation loss of a batch (Roth et al., CVPR 2022, eqs. 4-6).

    Args:
        source, schedule: as of `Guide`.
        direction, shift, temperature: as in `distillation_loss`.
    Raises:
        ValueError: a bank of other shapes, or a direction or temperature that there is not.
    """

    def __init__(
        self,
        source: TextBank | Source,
        *,
        direction: str = "backward",
        shift: float = 1.0,
        temperature: float = 1.0,
        **schedule: int,
    ):
        super().__init__(source, **schedule)
        if direction not in DIRECTIONS or not temperature > 0:
            raise ValueError(
                f"expected a direction of {' and '.join(DIRECTIONS)} and a temperature above 0, "
                f"got {direction!r} and {temperature}"
            )
        self.direction, self.shift, self.temperature = direction, shift, temperature

    def loss(
        self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor
    ) -> torch.Tensor:
        return distillation_loss(
            embeddings,
            labels,
            self.batch_similarities(labels, indices),
            direction=self.direction,
            shift=self.shift,
            temperature=self.temperature,
        )


class SquaredGuide(Guide):
    """Similarities matched by squares, which asks for their values instead of their order."""

    def loss(
        self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor
    ) -> torch.Tensor:
        return squared_loss(embeddings, labels, self.batch_similarities(labels, indices))


class ContrastiveGuide(Guide):
    """A linear map of the embedding learns to find the text of its class among those of the batch.

    Args:
        source: texts as vectors. embed_dim: D.
        temperature: of the softmax. seed: of the map's first weights, which have a generator of
            their own. schedule: as of `Guide`.
    Raises:
        ValueError: a source without vectors.
    """

    def __init__(
        self,
        source: TextBank | Source,
        *,
        embed_dim: int,
        temperature: float = 0.07,
        seed: int = 0,
        **schedule: int,
    ):
        super().__init__(source, **schedule)
        if not isinstance(self.source, TextSource):
            raise ValueError(f"{type(self.source).__name__} has no vectors of texts")
        if not temperature > 0:
            raise ValueError(f"expected a temperature above 0, got {temperature}")
        self.temperature, self.texts = temperature, self.source
        weight = torch.empty(self.source.text_dim, embed_dim)
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(weight, std=embed_dim**-0.5, generator=generator)
        self.map = nn.Parameter(weight)

    def loss(
        self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor
    ) -> torch.Tensor:
        mapped = normalize(embeddings @ self.map.T.to(embeddings.dtype), dim=1)
        texts = normalize(self.texts.vectors(labels, indices), dim=1)
        return contrastive_loss(mapped, labels, texts, temperature=self.temperature)
