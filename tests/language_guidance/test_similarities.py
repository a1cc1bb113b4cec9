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


@pytest.mark.parametrize("shares", [[1.0, 1.0], [-1.0, 2.0], [0.5, 0.4], [float("nan"), 1.0]])
def test_shares_of_ranks_sum_to_one(shares):
    bank = TextBank(torch.randn(2, 5), torch.zeros(3, 2).long(), shares=torch.tensor([shares] * 3))
    with pytest.raises(ValueError, match="sum to 1 in each row"):
        BankSimilarities(bank)
    for dtype in (torch.float16, torch.float64):
        BankSimilarities(bank._replace(shares=torch.full((3, 2), 0.5, dtype=dtype)))


@pytest.mark.parametrize("row", [-1, 3])
def test_an_assignment_of_texts_that_there_are_not_is_refused(row):
    with pytest.raises(ValueError, match="assignment of texts from 0 to 2"):
        BankSimilarities(TextBank(torch.randn(3, 5), torch.tensor([[0], [row]])))


def test_a_bank_of_arrays_is_refused():
    bank = TextBank(torch.randn(3, 5), torch.arange(3)[:, None])
    with pytest.raises(TypeError, match="vectors must be a torch"):
        BankSimilarities(bank._replace(vectors=bank.vectors.numpy()))
    with pytest.raises(TypeError, match="assignment must be a torch"):
        BankSimilarities(bank._replace(assignment=[[0], [1], [2]]))


@pytest.mark.parametrize("rows", [None, torch.tensor([1, 1, 0])])
def test_labels_that_a_matrix_lacks_are_refused(rows):
    source = MatrixSimilarities(torch.rand(3, 3), rows)
    for shift in (-1, 1):
        with pytest.raises(ValueError, match="labels from 0 to 2"):
            source(LABELS + shift, ROWS)
