"""Batch miners: (embeddings [B, D], labels [B]) -> triplets, a LongTensor [T, 3] of (anchor, positive, negative)."""
