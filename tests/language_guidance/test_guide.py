"""The distillation loss against plain loops, and the guide around it."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from language_guidance import (
    ContrastiveGuide,
    LanguageGuide,
    SquaredGuide,
    TextBank,
    distillation_loss,
)
from language_guidance.similarities import Unrelated, text_similarities

LABELS = torch.tensor([0, 2, 0, 1, 2, 3])
NOBODY = torch.zeros(6, dtype=torch.long)


def rows(count: int = 6, dim: int = 4, seed: int = 0) -> torch.Tensor:
    return normalize(
        torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)),
        dim=-1,
    )


def vectors(classes: int = 4, ranks: int = 1, seed: int = 7) -> torch.Tensor:
    return torch.randn(
        classes, ranks, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def class_bank(texts: torch.Tensor) -> TextBank:
    """Of texts [C, k, E], none of which two classes share."""
    classes, ranks, _ = texts.shape
    return TextBank(texts.flatten(0, 1), torch.arange(classes * ranks).view(classes, ranks))


def naive_similarity(a: list[list[float]], b: list[list[float]]) -> float:
    """Mean over ranks of the cosine of two classes' texts."""

    def cosine(u, v):
        return sum(x * y for x, y in zip(u, v)) / math.hypot(*u) / math.hypot(*v)

    return sum(cosine(u, v) for u, v in zip(a, b)) / len(a)


def naive_loss(x, labels, similarities, direction, shift, temperature) -> float:
    count, total = len(labels), 0.0
    for i in range(count):
        image, text = [], []
        for j in range(count):
            same = labels[i] == labels[j]
            image.append(
                (1 + shift if same else sum(a * b for a, b in zip(x[i], x[j]))) / temperature
            )
            text.append((1 + shift if same else similarities[i][j] + shift) / temperature)
        p = [math.exp(v) / sum(map(math.exp, image)) for v in image]
        q = [math.exp(v) / sum(map(math.exp, text)) for v in text]
        first, second = (p, q) if direction == "backward" else (q, p)
        total += sum(a * math.log(a / b) for a, b in zip(first, second))
    return temperature**2 * total / count


@pytest.mark.parametrize("ranks", [1, 3])
def test_text_similarities(ranks):
    texts = vectors(ranks=ranks)
    found = text_similarities(normalize(texts, dim=-1))
    for c in range(4):
        for d in range(4):
            assert found[c, d].item() == pytest.approx(
                naive_similarity(texts[c].tolist(), texts[d].tolist())
            )


@pytest.mark.parametrize("direction", ["backward", "forward"])
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("temperature", [1.0, 0.3, 4.0])
def test_value(direction, shift, temperature):
    similarities = rows(seed=3) @ rows(seed=3).T
    found = distillation_loss(
        rows(), LABELS, similarities, direction=direction, shift=shift, temperature=temperature
    )
    expected = naive_loss(
        rows().tolist(), LABELS.tolist(), similarities.tolist(), direction, shift, temperature
    )
    assert found.item() == pytest.approx(expected, rel=1e-10)


def test_the_directions_differ():
    similarities = rows(seed=3) @ rows(seed=3).T
    found = [
        distillation_loss(rows(), LABELS, similarities, direction=direction).item()
        for direction in ("backward", "forward")
    ]
    assert abs(found[0] - found[1]) > 1e-4


@pytest.mark.parametrize("direction", ["backward", "forward"])
def test_gradient_of_the_embeddings_only(direction):
    x, similarities = rows().requires_grad_(), (rows(seed=3) @ rows(seed=3).T).requires_grad_()
    distillation_loss(x, LABELS, similarities, direction=direction).backward()
    assert x.grad.abs().sum() > 0 and similarities.grad is None
    fixed = similarities.detach()
    assert torch.autograd.gradcheck(
        lambda x: distillation_loss(
            x, LABELS, fixed, direction=direction, shift=0.5, temperature=0.7
        ),
        x,
    )


@pytest.mark.parametrize("labels", [[1] * 6, [5], [3, 3]])
def test_one_class_has_nothing_to_learn(labels):
    x = rows(len(labels)).requires_grad_()
    loss = distillation_loss(x, torch.tensor(labels), torch.rand(len(labels), len(labels)))
    loss.backward()
    assert abs(loss.item()) < 1e-12 and x.grad.abs().max() < 1e-12


def test_images_that_agree_with_the_texts_up_to_the_shift_cost_nothing():
    x = rows()
    assert distillation_loss(x, torch.arange(6), x @ x.T, shift=0.0).item() == pytest.approx(
        0, abs=1e-12
    )


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures_are_finite(temperature):
    x = rows().float().requires_grad_()
    for direction in ("backward", "forward"):
        loss = distillation_loss(
            x, LABELS, torch.rand(6, 6), direction=direction, temperature=temperature
        )
        loss.backward()
        assert loss.isfinite() and x.grad.isfinite().all()


# The guide.


@pytest.mark.parametrize("ranks", [1, 3])
def test_class_level_guide(ranks):
    texts = vectors(ranks=ranks)
    guide = LanguageGuide(class_bank(texts), direction="forward", shift=0.5, temperature=0.7)
    found = guide(rows(), LABELS, NOBODY)
    similarities = [
        [naive_similarity(texts[c].tolist(), texts[d].tolist()) for d in LABELS] for c in LABELS
    ]
    assert found.item() == pytest.approx(
        naive_loss(rows().tolist(), LABELS.tolist(), similarities, "forward", 0.5, 0.7), rel=1e-6
    )


def test_sample_level_guide():
    texts = vectors(9)
    assignment = torch.randint(9, (20, 3), generator=torch.Generator().manual_seed(1))
    indices = torch.tensor([3, 19, 0, 7, 7, 12])
    guide = LanguageGuide(TextBank(texts[:, 0], assignment, by_image=True))
    found = guide.batch_similarities(LABELS, indices)
    for i, a in enumerate(indices):
        for j, b in enumerate(indices):
            expected = naive_similarity(
                texts[assignment[a], 0].tolist(), texts[assignment[b], 0].tolist()
            )
            assert found[i, j].item() == pytest.approx(expected)


def test_levels_agree_where_the_samples_of_a_class_share_their_texts():
    vocabulary, of_class = vectors(9)[:, 0], torch.tensor([[0, 4], [8, 1], [2, 2], [5, 0]])
    labels_of_samples = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 2])
    by_class = LanguageGuide(TextBank(vocabulary, of_class))
    by_sample = LanguageGuide(TextBank(vocabulary, of_class[labels_of_samples], by_image=True))
    indices = torch.tensor([9, 4, 1, 3, 0, 2])
    labels = labels_of_samples[indices]
    torch.testing.assert_close(
        by_class(rows(), labels, indices), by_sample(rows(), labels, indices)
    )


def test_memory_is_that_of_the_texts():
    guide = LanguageGuide(class_bank(vectors(21, ranks=2)))
    texts = guide.source.units.numel()
    assert sum(buffer.numel() for buffer in guide.buffers()) == texts + 21 * 2


def test_the_norm_of_texts_does_not_matter():
    texts = vectors(21)
    torch.testing.assert_close(
        LanguageGuide(class_bank(texts))(rows(), LABELS, NOBODY),
        LanguageGuide(class_bank(3 * texts))(rows(), LABELS, NOBODY),
    )


@pytest.mark.parametrize("delay, silent", [(0, 0), (1, 0), (2, 1), (5, 4)])
def test_delay(delay, silent):
    guide = LanguageGuide(class_bank(vectors()), delay=delay)
    found = [guide(rows(), LABELS, NOBODY).item() for _ in range(silent + 2)]
    assert [value == 0 for value in found] == [True] * silent + [False] * 2


def test_the_call_counter_is_stored_and_nothing_else(tmp_path):
    guide = LanguageGuide(class_bank(vectors()), delay=4)
    for _ in range(3):
        guide(rows(), LABELS, NOBODY)
    assert set(guide.state_dict()) == {"_extra_state"}
    torch.save(guide.state_dict(), tmp_path / "guide.pt")
    other = LanguageGuide(class_bank(vectors(seed=8)), delay=4)
    other.load_state_dict(torch.load(tmp_path / "guide.pt", weights_only=True))
    assert other.calls == 3 and other(rows(), LABELS, NOBODY) > 0


def test_a_silent_guide_adds_to_a_loss_with_a_graph():
    x = rows().requires_grad_()
    (x.sum() + 3 * LanguageGuide(class_bank(vectors()), delay=10)(x, LABELS, NOBODY)).backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_fp32_under_autocast():
    guide = LanguageGuide(class_bank(vectors().float()))
    x = rows().to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = guide(x, LABELS, NOBODY)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, guide(x.float(), LABELS, NOBODY))
    found.backward()
    assert x.grad.isfinite().all()


def test_nothing_learns_in_the_guide():
    assert list(LanguageGuide(class_bank(vectors())).parameters()) == []


@pytest.mark.parametrize(
    "arguments", [{"direction": "sideways"}, {"temperature": 0.0}, {"temperature": -1.0}]
)
def test_a_guide_that_there_is_not_is_refused(arguments):
    with pytest.raises(ValueError, match="direction of backward and forward"):
        LanguageGuide(class_bank(vectors()), **arguments)


def test_other_shapes_are_refused():
    bank = class_bank(vectors())
    with pytest.raises(ValueError, match=r"assignment \[C, k\]"):
        LanguageGuide(bank._replace(assignment=bank.assignment[:, 0]))
    with pytest.raises(ValueError, match=r"labels \[B\]"):
        LanguageGuide(bank)(rows(), LABELS[:, None], NOBODY)


# Other ways to take language in.


def test_squares():
    texts, x = vectors(), rows().requires_grad_()
    found = SquaredGuide(class_bank(texts))(x, LABELS, NOBODY)
    total, pairs = 0.0, 0
    for i in range(6):
        for j in range(6):
            if LABELS[i] != LABELS[j]:
                text = naive_similarity(texts[LABELS[i]].tolist(), texts[LABELS[j]].tolist())
                image = sum(a * b for a, b in zip(rows()[i].tolist(), rows()[j].tolist()))
                total, pairs = total + (image - text) ** 2, pairs + 1
    assert found.item() == pytest.approx(total / pairs, rel=1e-10)
    assert torch.autograd.gradcheck(lambda x: SquaredGuide(class_bank(texts))(x, LABELS, NOBODY), x)


def test_squares_of_one_class_have_a_graph():
    x = rows().requires_grad_()
    loss = SquaredGuide(class_bank(vectors()))(x, torch.zeros_like(LABELS), NOBODY)
    loss.backward()
    assert loss.item() == 0 and x.grad.abs().sum() == 0


@pytest.mark.parametrize("ranks", [1, 3])
def test_contrastive(ranks):
    texts, temperature = vectors(ranks=ranks), 0.3
    guide = ContrastiveGuide(class_bank(texts), embed_dim=4, temperature=temperature).double()
    found = guide(rows(), LABELS, NOBODY).item()

    def unit(v):
        return [a / math.hypot(*v) for a in v]

    def dot(u, v):
        return sum(a * b for a, b in zip(u, v))

    of_class = []
    for ranked in texts.tolist():
        units = [unit(text) for text in ranked]
        of_class.append(unit([sum(parts) for parts in zip(*units)]))
    mapped = [unit([dot(row, x) for row in guide.map.tolist()]) for x in rows().tolist()]
    logits = [[dot(m, of_class[label]) / temperature for label in LABELS] for m in mapped]
    total = 0.0
    for matrix in (logits, [list(column) for column in zip(*logits)]):
        for i, row in enumerate(matrix):
            same = [j for j in range(6) if LABELS[j] == LABELS[i]]
            rest = math.log(sum(map(math.exp, row)))
            total += sum(rest - row[j] for j in same) / len(same)
    assert found == pytest.approx(total / 12, rel=1e-10)


def test_the_map_learns_and_is_stored():
    guide = ContrastiveGuide(class_bank(vectors().float()), embed_dim=4, seed=3)
    before = torch.get_rng_state()
    again = ContrastiveGuide(class_bank(vectors().float()), embed_dim=4, seed=3)
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(guide.map, again.map)
    guide(rows().float(), LABELS, NOBODY).backward()
    assert guide.map.grad is not None and guide.map.grad.abs().sum() > 0
    assert set(guide.state_dict()) == {"_extra_state", "map"}


def test_a_map_needs_vectors_and_a_temperature():
    with pytest.raises(ValueError, match="Unrelated has no vectors"):
        ContrastiveGuide(Unrelated(), embed_dim=4)
    with pytest.raises(ValueError, match="temperature above 0"):
        ContrastiveGuide(class_bank(vectors()), embed_dim=4, temperature=0)


# The schedule of the weight.


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ({}, [1, 1, 1, 1, 1]),
        ({"rise": 3}, [0.25, 0.5, 0.75, 1, 1]),
        ({"half_life": 2}, [1, 0.5**0.5, 0.5, 0.5**1.5, 0.25]),
        ({"delay": 3, "rise": 1, "half_life": 1}, [0, 0, 0.5, 1, 0.5]),
    ],
)
def test_schedule(schedule, expected):
    guide = LanguageGuide(class_bank(vectors()), **schedule)
    whole = LanguageGuide(class_bank(vectors()))
    full = whole(rows(), LABELS, NOBODY).item()
    found = [guide(rows(), LABELS, NOBODY).item() / full for _ in expected]
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_resumed_schedule_goes_on():
    schedule = {"delay": 2, "rise": 4, "half_life": 3}
    whole = LanguageGuide(class_bank(vectors()), **schedule)
    values = [whole(rows(), LABELS, NOBODY).item() for _ in range(12)]
    first, second = (LanguageGuide(class_bank(vectors()), **schedule) for _ in range(2))
    found = [first(rows(), LABELS, NOBODY).item() for _ in range(5)]
    second.load_state_dict(first.state_dict())
    assert values == found + [second(rows(), LABELS, NOBODY).item() for _ in range(7)]


@pytest.mark.parametrize("schedule", ["delay", "rise", "half_life"])
def test_a_negative_schedule_is_refused(schedule):
    with pytest.raises(ValueError, match="half_life of at least 0"):
        LanguageGuide(class_bank(vectors()), **{schedule: -1})


GUIDES = {
    "language": LanguageGuide,
    "squares": SquaredGuide,
    "contrastive": lambda source: ContrastiveGuide(source, embed_dim=4),
}


@pytest.mark.parametrize("kind", GUIDES)
def test_a_guide_asks_for_tensors(kind):
    with pytest.raises(TypeError, match="TextBank or a Source, got Tensor"):
        GUIDES[kind](vectors())
    guide = GUIDES[kind](class_bank(vectors()))
    with pytest.raises(TypeError, match=r"labels must be a torch\.Tensor, not ndarray"):
        guide(rows(), LABELS.numpy(), NOBODY)
    with pytest.raises(TypeError, match=r"embeddings must be a torch\.Tensor, not list"):
        guide(rows().tolist(), LABELS, NOBODY)


@pytest.mark.parametrize("kind", GUIDES)
@pytest.mark.parametrize("by_image", [False, True], ids=["by class", "by image"])
@pytest.mark.parametrize("shift", [-1, 1])
def test_labels_and_positions_without_a_text_are_refused(kind, by_image, shift):
    """A negative one would read the text of another class, counted from the end."""
    bank = class_bank(vectors())._replace(by_image=by_image)
    places = LABELS + shift
    with pytest.raises(ValueError, match=f"from 0 to 3, got {0 + shift} to {3 + shift}"):
        GUIDES[kind](bank)(rows(), places, places)


@pytest.mark.parametrize("kind", GUIDES)
def test_positions_that_are_not_one_for_each_image_are_refused(kind):
    """A single one would be that of all."""
    guide = GUIDES[kind](class_bank(vectors())._replace(by_image=True))
    for positions in (NOBODY[:1], NOBODY[:3], NOBODY[:, None]):
        with pytest.raises(ValueError, match=r"positions of images \(6,\)"):
            guide(rows(), LABELS, positions)
    with pytest.raises(TypeError, match="positions of images must be a torch"):
        guide(rows(), LABELS, None)


@pytest.mark.parametrize("kind", GUIDES)
def test_a_guide_refuses_a_batch_without_a_row(kind):
    with pytest.raises(ValueError, match="at least one row"):
        GUIDES[kind](class_bank(vectors()))(rows()[:0], LABELS[:0], NOBODY[:0])
