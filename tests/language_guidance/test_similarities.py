"""Sources of text similarities: given ones, none, several."""

import pytest
import torch

from language_guidance.similarities import BankSimilarities, Blend, MatrixSimilarities, Unrelated
from language_guidance.text_bank import TextBank

LABELS = torch.tensor([2, 0, 2, 1])
ROWS = torch.arange(4)


def texts() -> BankSimilarities:
    return BankSimilarities(TextBank(torch.randn(3, 5), torch.arange(3)[:, None]))


def test_given_similarities():
    matrix = torch.rand(3, 3)
    found = MatrixSimilarities(matrix)(LABELS, ROWS)
    assert all(found[i, j] == matrix[LABELS[i], LABELS[j]] for i in ROWS for j in ROWS)
    with pytest.raises(ValueError, match=r"\[C, C\]"):
        MatrixSimilarities(matrix[:2])


def test_unrelated_classes():
    found = Unrelated()(LABELS, ROWS)
    assert found.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("shares", [[0.5], [0.5, 0.6], [-0.5, 1.5]])
def test_shares_of_a_blend_sum_to_one(shares):
    with pytest.raises(ValueError, match="share of each source"):
        Blend([texts(), texts()], shares)


def test_shares_of_ranks_have_the_shape_of_the_assignment():
    bank = TextBank(torch.randn(3, 5), torch.arange(3)[:, None], shares=torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"shares \(3, 1\)"):
        BankSimilarities(bank)


def test_equal_shares_are_the_mean_over_ranks():
    vectors, assignment = torch.randn(6, 5), torch.arange(6).view(3, 2)
    plain = BankSimilarities(TextBank(vectors, assignment))
    shared = BankSimilarities(TextBank(vectors, assignment, shares=torch.full((3, 2), 0.5)))
    torch.testing.assert_close(plain(LABELS, ROWS), shared(LABELS, ROWS))
    torch.testing.assert_close(plain.vectors(LABELS, ROWS), shared.vectors(LABELS, ROWS))


def test_sources_follow_their_guide_and_are_not_stored():
    blend = Blend([texts(), texts()], [0.5, 0.5])
    assert blend.state_dict() == {}
    assert blend.double()(LABELS, ROWS).dtype == torch.float64
