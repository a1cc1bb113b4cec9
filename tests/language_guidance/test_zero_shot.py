"""A CLIP model as a classifier over the words of a file, through a tiny real checkpoint."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import normalize

import language_guidance
from language_guidance import Classifier, GuidanceSettings, language_models, zero_shot
from utilities.errors import UserError
from utilities.types import Batch

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 0, 1, 1, 2])
WORDS = ["seabird", "songbird", "owl", "fishing boat"]
TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Iterator[Path]:
    """A file with weights of a tiny CLIP, which open_clip knows as tiny-words."""
    import open_clip
    from open_clip import factory

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    torch.save(open_clip.CLIP(**TINY_CLIP).state_dict(), folder / "weights.pt")
    (folder / "tiny-words.json").write_text(json.dumps(TINY_CLIP))
    (folder / "tiny-words-quickgelu.json").write_text(json.dumps(TINY_CLIP | {"quick_gelu": True}))
    known = dict(factory._MODEL_CONFIGS)
    open_clip.add_model_config(folder)
    yield folder / "weights.pt"
    factory._MODEL_CONFIGS.clear()
    factory._MODEL_CONFIGS.update(known)


@pytest.fixture
def images(tmp_path) -> list[str]:
    random = np.random.default_rng(0)
    for number in range(5):
        pixels = random.integers(0, 255, (40 + number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return [str(tmp_path / f"{number}.png") for number in range(5)]


@pytest.fixture
def vocabulary(tmp_path) -> Path:
    (tmp_path / "words.txt").write_text("\n".join(WORDS), encoding="utf-8-sig")
    return tmp_path / "words.txt"


class Counted:
    """The classifier of some images, and how often they were looked at."""

    looks = 0

    def __init__(self, clip: Path, files: list[str], vocabulary: Path, arch: str = "tiny-words"):
        self.files = files
        self.zero_shot = zero_shot.select(f"clip:{arch}/{clip}", None, str(vocabulary))

    def batches(self, network: nn.Module) -> list[Batch]:
        self.looks += 1
        see = zero_shot.preprocessing(network)
        seen = torch.stack([see(Image.open(file)) for file in self.files])
        return [Batch(seen[rows], LABELS[rows], torch.tensor(rows)) for rows in ([3, 1, 0], [4, 2])]

    def build(self, cache: Path, **settings):
        by_texts = self.zero_shot
        return language_guidance.build(
            GuidanceSettings(pseudoclass=True, model="hf:letters", **settings),
            [("robin",), ("jay",), ("owl",)],
            LABELS,
            cache=cache,
            device=CPU,
            classifier=Classifier(
                identity=(by_texts.identity,),
                files=self.files,
                boxes=None,
                load=by_texts.load,
                batches=self.batches,
                names=by_texts.words,
                texts=by_texts.texts,
            ),
        )


@pytest.fixture(autouse=True)
def letters(monkeypatch):
    """What similarities come from: an encoder that counts letters."""

    def load(device):
        return lambda sentences: torch.tensor(
            [[text.count(letter) + 0.1 for letter in "abcdefghinorst"] for text in sentences]
        )

    model = language_models.LanguageModel("letters", load)
    monkeypatch.setattr(language_models, "select", lambda name, weights: model)


def by_hand(clip: Path, files: list[str], primers=("a photo of a {}",), quick=False):
    """[N, V] logits by the functions of open_clip."""
    import open_clip

    model, _, see = open_clip.create_model_and_transforms(
        f"tiny-words{'-quickgelu' if quick else ''}", pretrained=str(clip)
    )
    model.eval()
    rows = []
    with torch.no_grad():
        texts = sum(
            model.encode_text(
                open_clip.tokenize([primer.replace("{}", word) for word in WORDS]), normalize=True
            )
            for primer in primers
        )
        for file in files:
            image = model.encode_image(see(Image.open(file))[None])[0]
            cosines = [nn.functional.cosine_similarity(image, text, dim=0) for text in texts]
            rows.append(model.logit_scale.exp() * torch.stack(cosines))
    return torch.stack(rows)


def test_top_words_of_each_image(clip, images, vocabulary, tmp_path):
    classifier = Counted(clip, images, vocabulary)
    _, texts, times, *_ = classifier.build(
        tmp_path / "cache", pseudoclass_level="sample", pseudoclass_topk=1
    )
    best = [WORDS[row] for row in by_hand(clip, images).argmax(1)]
    for label in range(3):
        own = [word for word, of in zip(best, LABELS) if of == label]
        assert dict(zip(texts[label], times[label])) == {word: own.count(word) for word in own}


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
@pytest.mark.parametrize("primers", [["a photo of a {}"], ["{}", "a drawing of a {}"]])
def test_words_of_classes_and_their_shares(clip, images, vocabulary, tmp_path, mean, primers):
    guide, texts, *_ = Counted(clip, images, vocabulary).build(
        tmp_path / "cache",
        pseudoclass_topk=3,
        pseudoclass_ranks="probability",
        pseudoclass_mean=mean,
        primer=primers,
    )
    logits = by_hand(clip, images, primers)
    for label in range(3):
        own = logits[label == LABELS]
        score = own.softmax(1).mean(0).log() if mean == "probabilities" else own.mean(0)
        ranked = sorted(range(4), key=lambda place, score=score: -score[place].item())[:3]
        assert texts[label] == [WORDS[place] for place in ranked]
        torch.testing.assert_close(
            guide.source.shares[label], score[ranked].softmax(0), atol=1e-4, rtol=0
        )


def test_the_scale_of_the_logits_is_the_models(clip, images, vocabulary):
    network = zero_shot.select(f"clip:tiny-words/{clip}", None, str(vocabulary)).load()
    batch = torch.stack([network.preprocessing(Image.open(file)) for file in images])
    with torch.no_grad():
        found = network(batch)
    assert batch.shape == (5, 3, 32, 32)
    assert found.norm(dim=1).tolist() == pytest.approx([1 / 0.07] * 5, rel=1e-5)


def test_images_are_looked_at_once_whatever_the_words(clip, images, vocabulary, tmp_path):
    first = Counted(clip, images, vocabulary)
    first.build(tmp_path / "cache", pseudoclass_topk=2)
    first.build(tmp_path / "cache", pseudoclass_topk=1, pseudoclass_level="sample")
    vocabulary.write_text("bird\nboat\n")
    other = Counted(clip, images, vocabulary)
    _, texts, *_ = other.build(tmp_path / "cache", pseudoclass_topk=2, primer=["{}"])
    assert (first.looks, other.looks) == (1, 0)
    assert all(sorted(of_class) == ["bird", "boat"] for of_class in texts)
    Path(images[0]).write_bytes(Path(images[1]).read_bytes())
    other.build(tmp_path / "cache", pseudoclass_topk=2)
    assert other.looks == 1


def test_vectors_depend_on_the_model_that_a_file_is_read_into(clip, images, vocabulary, tmp_path):
    """Two models of one shape differ by an activation, of which the weights say nothing."""
    plain = Counted(clip, images, vocabulary)
    quick = Counted(clip, images, vocabulary, arch="tiny-words-quickgelu")
    settings = {"pseudoclass_topk": 4, "pseudoclass_ranks": "probability"}
    plain.build(tmp_path / "cache", **settings)
    guide, *_ = quick.build(tmp_path / "cache", **settings)
    assert quick.looks == 1
    score = by_hand(clip, images, quick=True)[LABELS == 0].mean(0).sort(descending=True).values
    torch.testing.assert_close(guide.source.shares[0], score.softmax(0), atol=1e-4, rtol=0)


def test_the_activation_is_that_of_the_weights(clip, vocabulary):
    for tag, arch in (("openai", "ViT-B-16-quickgelu"), ("laion2b_s34b_b88k", "ViT-B-16")):
        chosen = zero_shot.select(f"clip:ViT-B-16/{tag}", str(clip), str(vocabulary))
        assert chosen.source.arch == arch


def test_weights_may_stand_beside_the_name(clip, images, vocabulary):
    found = zero_shot.select("clip:tiny-words/openai", str(clip), str(vocabulary)).load()
    expected = zero_shot.select(f"clip:tiny-words/{clip}", None, str(vocabulary)).load()
    batch = torch.stack([found.preprocessing(Image.open(images[0]))])
    with torch.no_grad():
        assert torch.equal(found(batch), expected(batch))


def test_models_and_weights_that_there_are_not(clip, vocabulary, tmp_path):
    for arch in ("clip:tiny-wrds/x", "clip:tiny-words/laion", "clip:tiny-words"):
        with pytest.raises(UserError, match="--language_pseudoclass_arch clip:tiny-w"):
            zero_shot.select(arch, None, str(vocabulary))
    (tmp_path / "foreign.pt").write_text("no weights")
    by_texts = zero_shot.select("clip:tiny-words/x", str(tmp_path / "foreign.pt"), str(vocabulary))
    with pytest.raises(UserError, match="--language_pseudoclass_weights .* cannot be loaded"):
        by_texts.load()


def test_a_vocabulary_is_lines_each_once(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("\ufeff seabird \n\nfishing boat\nseabird\n", encoding="utf-8")
    assert zero_shot.read_vocabulary(str(file)) == ["seabird", "fishing boat"]
    for content in (b"", b"one\n", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(UserError, match="--language_pseudoclass_vocabulary .*word or phrase"):
            zero_shot.read_vocabulary(str(file))
    with pytest.raises(UserError, match="--language_pseudoclass_vocabulary"):
        zero_shot.read_vocabulary(str(tmp_path / "none.txt"))


def test_more_ranks_than_words_are_refused(clip, images, vocabulary, tmp_path):
    with pytest.raises(UserError, match="--language_pseudoclass_topk 5 is more than the 4 classes"):
        Counted(clip, images, vocabulary).build(tmp_path / "cache")


def test_similarities_come_from_the_language_model(clip, images, vocabulary, tmp_path):
    """CLIP tells which words an image shows, and no more."""
    guide, texts, *_ = Counted(clip, images, vocabulary).build(
        tmp_path / "cache", pseudoclass_topk=2, primer=["see {}"]
    )
    encode = language_models.select("", None).load(CPU)
    units = [normalize(encode([f"see {word}" for word in words]), dim=1) for words in texts]
    found = guide.batch_similarities(torch.arange(3), torch.tensor([0, 2, 4]))
    for one in range(3):
        for other in range(3):
            expected = sum(float(a @ b) for a, b in zip(units[one], units[other])) / 2
            assert found[one, other].item() == pytest.approx(expected, abs=1e-5)
