"""Networks of any trunk, with random weights."""

import architectures


def untrained(
    arch: str,
    *,
    embed_dim: int = 8,
    image_size: int = 32,
    adapters: architectures.LowRank | None = None,
) -> architectures.EmbeddingNetwork:
    return architectures.select(
        arch,
        embed_dim=embed_dim,
        image_size=image_size,
        pretrained=False,
        weights_file=None,
        adapters=adapters,
    )
