"""What all miners share: no gradient, fp32, and one way to draw from masks."""
import torch


class BatchMiner:
    """A subclass writes `mine(embeddings, labels)`.

    `generator` draws; None is torch's own, which a run seeds at the start of each epoch.
    """
    generator: torch.Generator | None = None

    @torch.no_grad()
    def __call__(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Triplets [T, 3] on the device of `embeddings` [B, D]; T = 0 if the batch has none."""
        wide = embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings
        return self.mine(wide, labels)

    def mine(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define mine(embeddings, labels)")

    def draw(self, weights: torch.Tensor) -> torch.Tensor:
        """One column per row with probability proportional to its weight, [B, B] -> [B]; rows without weight give 0."""
        empty = weights.sum(1, keepdim=True) <= 0
        return torch.multinomial(weights.masked_fill(empty, 1.0), 1, generator=self.generator).squeeze(1)
