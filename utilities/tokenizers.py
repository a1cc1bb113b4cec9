"""Tokenizers of transformers."""

from typing import Any

SPACE = "\N{LOWER ONE EIGHTH BLOCK} "  # as SentencePiece writes it


def require_words(tokenizer: Any) -> None:
    """Raises ValueError for one that knows no word: transformers makes it where files are missing.

    Every word would be the same to it.
    """
    words = tokenizer.get_vocab().keys() - tokenizer.all_special_tokens
    if not any(word.strip(SPACE) for word in words):
        raise ValueError("the tokenizer's files are missing")
