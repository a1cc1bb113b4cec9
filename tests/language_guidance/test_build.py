"""From class texts or pseudolabels to the guide."""

import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import language_guidance
from datasets import class_text
from language_guidance import Classifier, GuidanceSettings, language_models, pseudolabels
from language_guidance.build import _commonest
from language_guidance.controls import shuffled_classes
from language_guidance.language_models import LanguageModel
from utilities.errors import UserError

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 0, 1, 1, 2])


class Letters:
    """An encoder that counts letters, and how often it was loaded."""

    loads = 0

    @staticmethod
    def load(device):
        Letters.loads += 1
        return lambda sentences: torch.tensor(
            [
                [sentence.count(letter) + 0.1 for letter in "abcdefghijklmnopqrstuvwxyz"]
                for sentence in sentences
            ]
        )


@pytest.fixture(autouse=True)
def letters(monkeypatch):
    monkeypatch.setattr(Letters, "loads", 0)
    monkeypatch.setattr(
        language_models,
        "select",
        lambda name, weights: LanguageModel(f"{name} {weights}", Letters.load),
    )


@pytest.fixture
def files(tmp_path) -> list[str]:
    for number in range(5):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    return [str(tmp_path / f"{number}.jpg") for number in range(5)]


def logits() -> torch.Tensor:
    return torch.randn(5, 1000, generator=torch.Generator().manual_seed(0))


def build(cache, classifier=None, texts=("robin", "jay", "owl"), **settings):
    return language_guidance.build(
        GuidanceSettings(**settings),
        [(text,) if isinstance(text, str) else text for text in texts],
        LABELS,
        cache=cache,
        device=CPU,
        classifier=classifier,
        embed_dim=8,
    )


def of_all_classes(guide) -> torch.Tensor:
    return guide.batch_similarities(torch.arange(3), LABELS)


def counted_classifier(monkeypatch, files) -> tuple[Classifier, list]:
    seen = []

    def classify(network, batches, *, count, device):
        seen.append((network, batches, count))
        return logits()

    monkeypatch.setattr(pseudolabels, "classify", classify)
    # Names stand for the network and its batches: nothing looks at them.
    loaded: Any = "network"

    def batches(network) -> Any:
        return ["batches of", network]

    classifier = Classifier(
        identity=("resnet", None), files=files, boxes=None, load=lambda: loaded, batches=batches
    )
    return classifier, seen


def vectors_of(texts: list[str], primer: str) -> torch.Tensor:
    return Letters.load(CPU)([primer.replace("{}", text) for text in texts])


def test_expert_names(tmp_path):
    guide, texts, *_ = build(
        tmp_path / "cache",
        primer=["see {}"],
        distill_dir="forward",
        shift=0.5,
        temp=2,
        delay=7,
    )
    expected = torch.nn.functional.normalize(vectors_of(["robin", "jay", "owl"], "see {}"), dim=1)
    torch.testing.assert_close(of_all_classes(guide), expected @ expected.T)
    assert texts == [["robin"], ["jay"], ["owl"]]
    assert (guide.direction, guide.shift, guide.temperature, guide.delay) == ("forward", 0.5, 2, 7)


def test_texts_are_encoded_once(tmp_path):
    for _ in range(2):
        build(tmp_path / "cache")
    assert Letters.loads == 1
    for changed in (
        {"primer": ["{}"]},
        {"model": "bert"},
        {"weights": "file"},
        {"texts": ("robin", "jay", "eagle")},
    ):
        before = Letters.loads
        build(tmp_path / "cache", **changed)
        assert Letters.loads == before + 1, changed


def test_several_captions_are_normalised_and_averaged(tmp_path):
    guide, texts, *_ = build(
        tmp_path / "cache", texts=(("robin", "a red breast, a grey back"), "jay", "owl")
    )
    units = torch.nn.functional.normalize(
        vectors_of(["robin", "a red breast, a grey back", "jay", "owl"], "a photo of a {}"), dim=1
    )
    expected = torch.nn.functional.normalize(
        torch.stack([(units[0] + units[1]) / 2, units[2], units[3]]), dim=1
    )
    torch.testing.assert_close(of_all_classes(guide), expected @ expected.T)
    assert texts == [["robin", "a red breast, a grey back"], ["jay"], ["owl"]]


def test_a_hierarchy_as_several_texts_of_a_class(tmp_path):
    """Classes are the nearer the more of their ancestors they share."""
    (tmp_path / "kinds.json").write_text(
        """{
            "robin": ["a robin", "a thrush", "a songbird"],
            "jay": ["a jay", "a crow", "a songbird"],
            "owl": ["an owl", "a bird of prey"]
        }"""
    )
    captions = class_text.read(str(tmp_path / "kinds.json"))
    texts = [captions[name] for name in ("robin", "jay", "owl")]
    plain, *_ = build(tmp_path / "cache", texts=("a robin", "a jay", "an owl"), primer=["{}"])
    guide, read, *_ = build(tmp_path / "cache", texts=texts, primer=["{}"])
    means = []
    for group in texts:
        units = [
            vector / vector.norm() for vector in (vectors_of([text], "{}")[0] for text in group)
        ]
        means.append(sum(units) / len(units))
    found = of_all_classes(guide)
    for one in range(3):
        for other in range(3):
            cosine = torch.nn.functional.cosine_similarity(means[one], means[other], dim=0)
            assert found[one, other].item() == pytest.approx(cosine.item(), abs=1e-6)
    assert read == [list(group) for group in texts]
    assert found[0, 1] > of_all_classes(plain)[0, 1]


def test_the_largest_vocabularies_are_counted_by_what_there_is(tmp_path):
    """A table of all classes and all words would take many gigabytes."""
    labels = torch.arange(60_000) % 11_318
    words = torch.stack([labels * 3, labels * 3 + 1], dim=1) % 50_000
    words[0] = torch.tensor([7, 7])  # two classes of one name
    rows, times = _commonest(words, labels, 10**9)
    assert len(rows) == len(times) == 11_318
    assert rows[1] == [3, 4] and times[1] == [6, 6]
    assert rows[0] == [0, 1, 7] and times[0] == [5, 5, 1]


def test_classes_that_read_alike_share_a_row(tmp_path):
    guide, texts, *_ = build(tmp_path / "cache", texts=("bicycle", "chair", "bicycle"))
    indices = torch.tensor([4, 0, 2])
    units = torch.nn.functional.normalize(
        vectors_of(["bicycle", "bicycle", "chair"], "a photo of a {}"), dim=1
    )
    torch.testing.assert_close(guide.batch_similarities(LABELS[indices], indices), units @ units.T)
    assert guide.source.units.shape == (2, 26) and texts == [["bicycle"], ["chair"], ["bicycle"]]


def test_pseudolabels_of_classes(tmp_path, files, monkeypatch):
    classifier, seen = counted_classifier(monkeypatch, files)
    guide, texts, *_ = build(tmp_path / "cache", classifier, pseudoclass=True, pseudoclass_topk=3)
    names = pseudolabels.class_names()
    expected = [
        [names[index] for index in logits()[c == LABELS].mean(0).argsort(descending=True)[:3]]
        for c in range(3)
    ]
    assert texts == expected
    for c in range(3):
        for d in range(3):
            pairs = zip(
                vectors_of(expected[c], "a photo of a {}"),
                vectors_of(expected[d], "a photo of a {}"),
            )
            cosine = sum(torch.nn.functional.cosine_similarity(a, b, dim=0) for a, b in pairs) / 3
            assert of_all_classes(guide)[c, d].item() == pytest.approx(cosine.item(), abs=1e-5)
    assert seen == [("network", ["batches of", "network"], 5)]


def test_pseudolabels_of_samples(tmp_path, files, monkeypatch):
    classifier, _ = counted_classifier(monkeypatch, files)
    guide, texts, times, *_ = build(
        tmp_path / "cache",
        classifier,
        pseudoclass=True,
        pseudoclass_topk=2,
        pseudoclass_level="sample",
    )
    names, indices = pseudolabels.class_names(), torch.tensor([4, 1, 1])
    found = guide.batch_similarities(LABELS[indices], indices)
    own = [[names[index] for index in logits()[i].argsort(descending=True)[:2]] for i in indices]
    for i in range(3):
        for j in range(3):
            pairs = zip(
                vectors_of(own[i], "a photo of a {}"), vectors_of(own[j], "a photo of a {}")
            )
            cosine = sum(torch.nn.functional.cosine_similarity(a, b, dim=0) for a, b in pairs) / 2
            assert found[i, j].item() == pytest.approx(cosine.item(), abs=1e-5)
    rows = logits().argsort(dim=1, descending=True)[:, :2]
    for c in range(3):
        counts = Counter(names[index] for row in rows[c == LABELS] for index in row)
        assert dict(zip(texts[c], times[c])) == counts
        assert times[c] == sorted(times[c], reverse=True)


@pytest.mark.parametrize("level", ["class", "sample"])
def test_what_word_vectors_have_no_word_of_is_no_pseudolabel(
    tmp_path, files, monkeypatch, caplog, level
):
    """GloVe lacks 23 of ImageNet's 1000 names: none of them could be had beside it."""
    names = pseudolabels.class_names()
    lacking = {names[row] for row in logits()[0].argsort(descending=True)[:2].tolist()}
    lacking |= {names[row] for row in logits()[:2].mean(0).argsort(descending=True)[:1].tolist()}

    def load(device):
        return lambda texts: torch.tensor([[text not in lacking, 0.0] for text in texts])

    words = LanguageModel("words", load, knows_sentences=False)
    monkeypatch.setattr(language_models, "select", lambda *_: words)
    classifier, _ = counted_classifier(monkeypatch, files)
    flags: dict[str, Any] = {"pseudoclass": True, "pseudoclass_level": level}
    found = build(tmp_path / "cache", classifier, pseudoclass_topk=2, **flags)
    assert not lacking & {text for texts in found.texts for text in texts}
    rows = logits() if level == "sample" else logits()[:2].mean(0, keepdim=True)
    order = [names[row] for row in rows[0].argsort(descending=True).tolist()]
    expected = [name for name in order if name not in lacking][:2]
    assert set(expected) <= set(found.texts[0]) and "are never pseudolabels" in caplog.text
    with pytest.raises(UserError, match=r"topk 999 .* classifier that --language_model has words"):
        build(tmp_path / "cache", classifier, pseudoclass_topk=999, **flags)


def test_images_are_classified_once_and_again_when_they_change(tmp_path, files, monkeypatch):
    classifier, seen = counted_classifier(monkeypatch, files)
    for topk in (1, 5):
        build(tmp_path / "cache", classifier, pseudoclass=True, pseudoclass_topk=topk)
    assert len(seen) == 1
    with open(files[2], "ab") as file:
        file.write(b"more")
    build(tmp_path / "cache", classifier, pseudoclass=True)
    assert len(seen) == 2
    build(tmp_path / "cache", classifier._replace(identity=("vit", None)), pseudoclass=True)
    assert len(seen) == 3


@pytest.mark.parametrize("change", ["box", "no boxes", "file", "version", "weights"])
def test_logits_depend_on_all_that_made_them(tmp_path, files, monkeypatch, change):
    (tmp_path / "weights.pt").write_bytes(b"one")
    classifier, seen = counted_classifier(monkeypatch, files)
    boxes = np.tile([0, 0, 10, 10], (5, 1))
    classifier = classifier._replace(boxes=boxes, identity=("resnet", tmp_path / "weights.pt"))
    for _ in range(2):
        build(tmp_path / "cache", classifier, pseudoclass=True)
    assert len(seen) == 1
    if change == "box":
        changed = boxes.copy()
        changed[3, 2] = 11
        classifier = classifier._replace(boxes=changed)
    elif change == "no boxes":
        classifier = classifier._replace(boxes=None)
    elif change == "file":
        classifier = classifier._replace(files=files[::-1])
    elif change == "version":
        monkeypatch.setattr(pseudolabels, "LOGITS_VERSION", pseudolabels.LOGITS_VERSION + 1)
    else:
        (tmp_path / "weights.pt").write_bytes(b"two")
    build(tmp_path / "cache", classifier, pseudoclass=True)
    assert len(seen) == 2


def test_texts_depend_on_how_they_are_encoded(tmp_path, monkeypatch):
    build(tmp_path / "cache")
    monkeypatch.setattr(language_models, "ENCODING_VERSION", language_models.ENCODING_VERSION + 1)
    build(tmp_path / "cache")
    assert Letters.loads == 2


def test_what_took_no_second_is_not_said_to_take_none(tmp_path, caplog):
    with caplog.at_level("INFO"):
        build(tmp_path / "cache")
    assert "texts encoded, which took less than a second, loading the model included" in caplog.text


@pytest.mark.parametrize("kind, rows", [("text", 998), ("logits", 5)])
def test_a_foreign_tensor_in_the_cache_is_computed_anew(tmp_path, files, monkeypatch, kind, rows):
    classifier, seen = counted_classifier(monkeypatch, files)
    whole, *_ = build(tmp_path / "cache", classifier, pseudoclass=True)
    (path,) = (tmp_path / "cache").glob(f"{kind}-*.pt")
    assert len(torch.load(path)) == rows
    torch.save(torch.load(path)[:-1], path)
    again, *_ = build(tmp_path / "cache", classifier, pseudoclass=True)
    assert torch.equal(of_all_classes(again), of_all_classes(whole))
    assert (Letters.loads, len(seen)) == ((2, 1) if kind == "text" else (1, 2))


def test_memory_grows_with_the_texts_and_not_with_the_pairs(tmp_path, files, monkeypatch):
    """One layout for names and pseudolabels by class and by image."""
    classifier, _ = counted_classifier(monkeypatch, files)
    names, *_ = build(tmp_path / "cache", texts=[f"bird {'x' * number}" for number in range(60)])
    by_class, *_ = build(tmp_path / "cache", classifier, pseudoclass=True)
    by_image, *_ = build(
        tmp_path / "cache", classifier, pseudoclass=True, pseudoclass_level="sample"
    )
    assert names.source.units.shape == (60, 26) and names.source.assignment.shape == (60, 1)
    assert by_class.source.units.shape == (998, 26) and by_class.source.assignment.shape == (3, 5)
    assert by_image.source.units.shape == (998, 26) and by_image.source.assignment.shape == (5, 5)


def test_pseudolabels_without_a_classifier_are_refused(tmp_path):
    with pytest.raises(ValueError, match="classifier"):
        build(tmp_path / "cache", pseudoclass=True)


def test_vectors_of_classes(tmp_path):
    texts = [("robin", "a red breast"), ("jay",), ("robin", "a red breast")]
    found = language_guidance.class_vectors(
        GuidanceSettings(primer=["{}"]), texts, cache=tmp_path, device=CPU
    )
    units = torch.nn.functional.normalize(vectors_of(["robin", "a red breast", "jay"], "{}"), dim=1)
    mean = torch.nn.functional.normalize(units[:2].mean(0), dim=0)
    torch.testing.assert_close(found, torch.stack([mean, units[2], mean]))


def test_several_primers_are_normalised_and_averaged(tmp_path):
    primers = ["see {}", "a drawing of {}", "see {}"]
    guide, *_ = build(tmp_path / "cache", primer=primers)
    assert Letters.loads == 1  # for all of them
    normalize = torch.nn.functional.normalize
    units = [normalize(vectors_of(["robin", "jay", "owl"], p), dim=1) for p in primers[:2]]
    expected = normalize(units[0] + units[1], dim=1)
    torch.testing.assert_close(of_all_classes(guide), expected @ expected.T)


def test_the_templates_that_clip_was_tried_with():
    sentences = language_models.primers(["imagenet", "a bad photo of a {}.", "a {} in a zoo"])
    assert len(sentences) == 81 and all("{}" in sentence for sentence in sentences)
    assert "a bad photo of a {}." in sentences and sentences[-1] == "a {} in a zoo"


def test_names_and_pseudolabels_together(tmp_path, files, monkeypatch):
    classifier, _ = counted_classifier(monkeypatch, files)
    of_names, names, *_ = build(tmp_path / "cache")
    of_images, labels, *_ = build(tmp_path / "cache", classifier, pseudoclass=True)
    both, texts, times, *_ = build(
        tmp_path / "cache", classifier, pseudoclass=True, pseudoclass_share=0.25
    )
    expected = 0.75 * of_all_classes(of_names) + 0.25 * of_all_classes(of_images)
    torch.testing.assert_close(of_all_classes(both), expected)
    assert texts == [own + seen for own, seen in zip(names, labels)] and times is None
    nothing, texts, *_ = build(
        tmp_path / "cache", classifier, pseudoclass=True, pseudoclass_share=0.0
    )
    assert torch.equal(of_all_classes(nothing), of_all_classes(of_names)) and texts == names


@pytest.mark.parametrize("ranks", ["equal", "probability"])
@pytest.mark.parametrize("control", ["none", "shuffle"])
def test_a_person_reads_probabilities_and_shares(tmp_path, files, monkeypatch, ranks, control):
    classifier, _ = counted_classifier(monkeypatch, files)
    settings = {"pseudoclass": True, "pseudoclass_topk": 2, "pseudoclass_ranks": ranks}
    found = build(tmp_path / "cache", classifier, control=control, **settings)
    means = torch.stack([logits()[c == LABELS].mean(0) for c in range(3)])
    ranked = means.softmax(1).topk(2, dim=1).values
    order = shuffled_classes(3, 0) if control == "shuffle" else torch.arange(3)
    torch.testing.assert_close(torch.tensor(found.probabilities), ranked[order])
    expected = (ranked / ranked.sum(1, keepdim=True))[order]
    if ranks == "equal":
        expected = torch.full((3, 2), 0.5)
        assert found.shares is None
    else:
        torch.testing.assert_close(torch.tensor(found.shares), expected)
    both = build(tmp_path / "cache", classifier, control=control, pseudoclass_share=0.4, **settings)
    assert both.probabilities == [[None, *seen] for seen in found.probabilities]
    names = torch.full((3, 1), 0.6)
    torch.testing.assert_close(torch.tensor(both.shares), torch.cat([names, 0.4 * expected], 1))


def test_names_beside_pseudolabels_of_images(tmp_path, files, monkeypatch):
    classifier, _ = counted_classifier(monkeypatch, files)
    by_image = {"pseudoclass": True, "pseudoclass_level": "sample", "pseudoclass_topk": 1}
    both, texts, times, *_ = build(
        tmp_path / "cache", classifier, pseudoclass_share=0.5, **by_image
    )
    assert [own[0] for own in texts] == ["robin", "jay", "owl"]
    assert times is not None and [counts[0] for counts in times] == [2, 2, 1]
    assert [sum(counts[1:]) for counts in times] == [2, 2, 1]
    vectors = both.source.vectors(LABELS, torch.arange(5))
    assert vectors.shape == (5, 26)


def test_pseudolabels_by_their_probabilities(tmp_path, files, monkeypatch):
    classifier, _ = counted_classifier(monkeypatch, files)
    settings = {"pseudoclass": True, "pseudoclass_topk": 3, "pseudoclass_ranks": "probability"}
    guide, *_ = build(tmp_path / "cache", classifier, **settings)
    names, found = pseudolabels.class_names(), of_all_classes(guide)
    means = torch.stack([logits()[c == LABELS].mean(0) for c in range(3)])
    for c in range(3):
        for d in range(3):
            expected = 0.0
            for rank in range(3):
                shares, vectors = [], []
                for row in (c, d):
                    chosen = means[row].argsort(descending=True)[:3]
                    shares.append(means[row][chosen].softmax(0)[rank].item())
                    vectors.append(vectors_of([names[chosen[rank]]], "a photo of a {}")[0])
                cosine = torch.nn.functional.cosine_similarity(*vectors, dim=0).item()
                expected += (shares[0] * shares[1]) ** 0.5 * cosine
            assert found[c, d].item() == pytest.approx(expected, abs=1e-5)
    assert found.diagonal().tolist() == pytest.approx([1, 1, 1], abs=1e-6)


def test_probabilities_are_averaged_on_request():
    rows = torch.zeros(3, 1000)
    rows[0, 7], rows[1:, 5] = 50.0, 20.0  # a sure image outweighs two in the mean of logits
    labels = torch.zeros(3, dtype=torch.long)
    assert pseudolabels.top_classes(rows, labels, 1).tolist() == [[7]]
    assert pseudolabels.top_classes(rows, labels, 1, "probabilities").tolist() == [[5]]


@pytest.mark.parametrize("control", ["random", "onehot"])
def test_controls_without_texts_read_none(tmp_path, control):
    guide, texts, times, *_ = build(tmp_path / "cache", control=control)
    found = of_all_classes(guide)
    assert (Letters.loads, texts, times) == (0, [[], [], []], None)
    assert found.diagonal().tolist() == pytest.approx([1, 1, 1], abs=1e-6)
    off = found[~torch.eye(3, dtype=torch.bool)]
    assert (off == 0).all() if control == "onehot" else (off.abs() > 1e-4).all()
    again, *_ = build(tmp_path / "cache", control=control, control_seed=1)
    assert torch.equal(of_all_classes(again), found) == (control == "onehot")


def test_shuffled_texts(tmp_path, files, monkeypatch):
    guide, texts, *_ = build(tmp_path / "cache", control="shuffle")
    own, names, *_ = build(tmp_path / "cache")
    order = [names.index(text) for text in texts]
    assert sorted(order) == [0, 1, 2] and all(order[c] != c for c in range(3))
    torch.testing.assert_close(of_all_classes(guide), of_all_classes(own)[order][:, order])
    classifier, _ = counted_classifier(monkeypatch, files)
    seen, own_labels, *_ = build(tmp_path / "cache", classifier, pseudoclass=True)
    both, shuffled, *_ = build(
        tmp_path / "cache", classifier, pseudoclass=True, pseudoclass_share=0.5, control="shuffle"
    )
    assert shuffled == [names[row] + own_labels[row] for row in order]
    expected = (of_all_classes(own) + of_all_classes(seen)) / 2
    torch.testing.assert_close(of_all_classes(both), expected[order][:, order])


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_person_reads_what_images_have_of_others(tmp_path, files, monkeypatch, share):
    """Of a larger class only as many images as there are give their texts, of a smaller all."""
    classifier, _ = counted_classifier(monkeypatch, files)
    settings = {"pseudoclass": True, "pseudoclass_level": "sample", "pseudoclass_topk": 2}
    guide, texts, times, *_ = build(
        tmp_path / "cache", classifier, pseudoclass_share=share, control="shuffle", **settings
    )
    bank = guide.source if share == 1 else guide.source.shared[1][1]
    vocabulary = sorted(set(pseudolabels.class_names()))
    own = [] if share == 1 else [["robin"], ["jay"], ["owl"]]
    for label, donor in enumerate(shuffled_classes(3, 0).tolist()):
        rows = bank.assignment[label == LABELS]
        expected = Counter(vocabulary[row] for row in rows.ravel().tolist())
        if own:
            expected[own[donor][0]] = len(rows)
        assert dict(zip(texts[label], times[label])) == expected


@pytest.mark.parametrize("loss", ["kl", "squares", "contrastive"])
def test_every_loss_guides(tmp_path, loss):
    schedule = {"delay": 2, "rise": 3, "half_life": 4}
    guide, *_ = build(tmp_path / "cache", loss=loss, map_temp=0.5, **schedule)
    assert (guide.delay, guide.rise, guide.half_life) == (2, 3, 4)
    x = torch.randn(5, 8).requires_grad_()
    assert guide(x, LABELS, torch.arange(5)) == 0
    guide(x, LABELS, torch.arange(5)).backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    learned = [tuple(part.shape) for part in guide.parameters()]
    assert learned == ([(26, 8)] if loss == "contrastive" else [])


def test_a_contrastive_loss_needs_the_dimension_of_the_embeddings():
    with pytest.raises(ValueError, match="dimension"):
        language_guidance.build(
            GuidanceSettings(loss="contrastive", control="random"),
            [("robin",)],
            torch.zeros(2, dtype=torch.long),
            cache=Path(),
            device=CPU,
        )


def test_the_map_of_a_contrastive_loss_begins_by_the_seed_of_the_run(tmp_path):
    def first_weights(seed: int, draws: int = 0) -> torch.Tensor:
        torch.manual_seed(seed)
        torch.rand(draws)
        settings = GuidanceSettings(loss="contrastive", control="random")
        labels, options = torch.tensor([0, 1]), {"cache": tmp_path, "device": CPU, "embed_dim": 4}
        read = language_guidance.build(settings, [("robin",), ("wren",)], labels, **options)
        return next(read.guide.parameters()).detach()

    assert torch.equal(first_weights(0), first_weights(0, draws=5))
    assert not torch.equal(first_weights(0), first_weights(1))


def test_what_encoding_and_classifying_took_is_told_once(tmp_path, files, monkeypatch, caplog):
    classifier, _ = counted_classifier(monkeypatch, files)
    settings = {"pseudoclass": True, "pseudoclass_share": 0.5, "primer": ("a {}", "the {}")}
    with caplog.at_level("INFO"):
        build(tmp_path, classifier, **settings)
    told = [line for line in caplog.messages if line.endswith("kept in --cache_path.")]
    assert [line.partition(", which took ")[0] for line in told] == [
        "3 texts encoded in 2 primers",
        "998 texts encoded in 2 primers",
        "5 images classified",
    ]
    caplog.clear()
    with caplog.at_level("INFO"):
        build(tmp_path, classifier, **settings)
    assert "kept in" not in caplog.text


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30, float("nan")])
def test_a_text_whose_vector_has_no_direction_is_refused(tmp_path, monkeypatch, scale):
    """Its similarities were 0, also to itself, without a word."""

    def load(device):
        scales = {"a photo of a jay": scale}
        return lambda texts: torch.tensor([[scales.get(text, 1.0), 0] for text in texts])

    monkeypatch.setattr(language_models, "select", lambda *_: LanguageModel("odd", load))
    with pytest.raises(UserError, match="--language_model: the vector of the text 'jay'"):
        build(tmp_path)


def test_classes_that_all_read_alike_are_told(tmp_path, caplog):
    build(tmp_path, texts=("owl", "owl", "owl"))
    assert "All classes have the text 'owl'" in caplog.text


@pytest.mark.parametrize("way", ["hf", "clip", "weights", "classifier"])
def test_other_weights_in_the_same_place_have_another_digest(tmp_path, way):
    """Whatever time they bear, and the same ones the same digest elsewhere."""

    def digests(place: Path) -> dict[str, str]:
        file = place / "model.safetensors"
        given = {"hf": f"hf:{place}", "clip": f"clip:ViT-B-32/{file}"}.get(way, "bert")
        settings = GuidanceSettings(
            model=given, weights=str(place) if way == "weights" else None, pseudoclass=True
        )
        classifier = file if way == "classifier" else None
        return language_guidance.digests_of_texts(settings, [("a",)], None, classifier)

    for name, content in (("here", "1 2 3"), ("there", "1 2 3")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text(content)
    found = digests(tmp_path / "here")
    whose = "classifier" if way == "classifier" else "language model"
    assert list(found) == [f"weights of the {whose}"]
    assert digests(tmp_path / "there") == found
    (tmp_path / "there" / "model.safetensors").write_text("1 2 4")
    assert digests(tmp_path / "there") != found


@pytest.mark.parametrize(
    "texts, told",
    [
        (("狗", "jay", "猫"), "2 of the 3 texts .*, 狗, 猫"),
        (("on", "no", "not", "ton", "owl"), "4 of the 5 texts .*, on, no, not, ton"),
        (("ЖУК", "жук", "jay"), None),  # capitals may be one
        (("robin", "jay", "owl"), None),
    ],
    ids=["unknown words", "several kinds", "capitals", "all known"],
)
def test_texts_that_a_model_does_not_tell_apart_are_told(tmp_path, caplog, texts, told):
    for _ in range(2):  # also where the vectors are kept
        caplog.clear()
        build(tmp_path, texts=texts)
        warned = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
        assert len(warned) == bool(told)
        assert all(re.search(told, message) for message in warned)
