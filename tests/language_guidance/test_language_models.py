"""Text encoders from installed packages and local folders; nothing is downloaded."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity

from language_guidance import language_models
from utilities.errors import UserError

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "a", "photo", "of", "dog", "cat", "red", "triangle"]
TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No hub client waits for a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def encode(name: str, texts: list[str], primer: str = "{}", weights=None) -> torch.Tensor:
    return language_models.encode(
        language_models.select(name, weights and str(weights)), texts, primer, CPU
    )


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """A folder with a tiny BERT and its tokenizer."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizer(
        vocab_file=str(folder / "vocab.txt"), vocab=str(folder / "vocab.txt"), model_max_length=32
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A folder with a tiny CLIP."""
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY_CLIP)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY_CLIP}))
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


# The encoder that is installed.


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip(language_models.MINILM_PACKAGE)
    return language_models.select("minilm").load(CPU)


def test_minilm_knows_what_words_mean(minilm):
    with torch.inference_mode():
        vectors = minilm(["dark red triangle", "light red triangle", "a truck"])
    assert vectors.shape == (3, 384)
    near = cosine_similarity(vectors[0], vectors[1], dim=0)
    far = cosine_similarity(vectors[0], vectors[2], dim=0)
    assert near > far + 0.2


def test_minilm_does_not_see_padding(minilm):
    long = "a photo of a dark red dotted triangle on a very long and winding road"
    texts = ["a", long, "two words"]
    with torch.inference_mode():
        together, alone = minilm(texts), torch.cat([minilm([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_another_minilm_file_is_refused(monkeypatch):
    pytest.importorskip(language_models.MINILM_PACKAGE)
    monkeypatch.setattr(language_models, "MINILM_SHA256", "0" * 64)
    with pytest.raises(UserError, match="minilm.*sha256"):
        language_models.select("minilm")


# Local folders.


@pytest.mark.parametrize(
    "name, by_weights", [("bert", True), ("roberta_l", True), ("minilm", True), ("hf:", False)]
)
def test_a_folder_of_transformers(bert, name, by_weights):
    texts = ["dog", "red triangle"]
    found = encode(name, texts, weights=bert) if by_weights else encode(f"hf:{bert}", texts)
    assert (
        found.shape == (2, 16)
        and found.dtype == torch.float32
        and not found.requires_grad
        and not found.is_inference()
    )


def test_mean_of_the_last_states_over_the_tokens(bert):
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()
    texts = ["dog", "a photo of a red triangle", "cat dog"]
    found = encode("bert", texts, weights=bert)
    with torch.no_grad():
        for row, text in zip(found, texts):
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            torch.testing.assert_close(row, sum(states) / len(states), atol=1e-5, rtol=0)


def test_the_primer_goes_around_each_text(bert):
    assert torch.equal(
        encode("bert", ["dog", "cat"], "a photo of a {}", bert),
        encode("bert", ["a photo of a dog", "a photo of a cat"], weights=bert),
    )


def test_names_of_bytes_that_are_no_text_are_read_in_escapes(bert, clip):
    for name, folder in (("bert", bert), ("clip", clip)):
        found = encode(name, ["dog \udcff", "caf\udce9"], weights=folder)
        assert torch.equal(found, encode(name, ["dog \\udcff", "caf\\udce9"], weights=folder))


@pytest.mark.parametrize(
    "text", ["cafe\u0301", " caf\u00e9\n"], ids=["accent that stands apart", "space around it"]
)
def test_what_is_not_seen_of_a_text_changes_no_vector(text):
    """File systems part accents in the names of folders; answers of a model end in a new line."""
    seen: list[str] = []

    def encoder(sentences: list[str]) -> torch.Tensor:
        seen.extend(sentences)
        return torch.ones(len(sentences), 2)

    model = language_models.LanguageModel("", lambda device: encoder)
    language_models.encode(model, [text, "caf\u00e9"], "a {}", CPU)
    assert seen == ["a caf\u00e9", "a caf\u00e9"]


def test_many_texts_come_in_order(bert, monkeypatch):
    texts = [WORDS[5 + number % 7] for number in range(20)]
    whole = encode("bert", texts, weights=bert)
    monkeypatch.setattr(language_models, "SENTENCES_AT_ONCE", 3)
    torch.testing.assert_close(encode("bert", texts, weights=bert), whole)


def test_a_folder_of_open_clip(clip):
    import open_clip

    texts = ["a dog", "a red triangle"]
    found = encode("clip", texts, weights=clip)
    model = open_clip.CLIP(**TINY_CLIP).eval()
    model.load_state_dict(
        open_clip.factory.load_state_dict(str(clip / "open_clip_model.safetensors"))
    )
    with torch.no_grad():
        torch.testing.assert_close(found, model.encode_text(open_clip.tokenize(texts)))
    assert found.shape == (2, 16)


def test_a_file_of_open_clip(clip, tmp_path, monkeypatch):
    import open_clip

    (tmp_path / "tiny-clip.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    monkeypatch.setattr(language_models, "CLIP_ARCH", "tiny-clip")
    found = encode("clip", ["a dog"], weights=clip / "open_clip_model.safetensors")
    assert torch.equal(found, encode("clip", ["a dog"], weights=clip))


def test_the_torchscript_file_that_openai_publishes(clip, tmp_path, monkeypatch):
    """Half precision, and beside the weights three numbers that open_clip's model has not."""
    import open_clip

    model = open_clip.CLIP(**TINY_CLIP).eval()
    state = open_clip.factory.load_state_dict(str(clip / "open_clip_model.safetensors"))
    model.load_state_dict({name: value.half().float() for name, value in state.items()})
    published = tree_of({name: value.half() for name, value in model.state_dict().items()})
    for name in ("input_resolution", "context_length", "vocab_size"):
        published.register_buffer(name, torch.tensor(7))
    torch.jit.script(published).save(str(tmp_path / "ViT-B-32.pt"))
    (tmp_path / "tiny-clip.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    monkeypatch.setattr(language_models, "CLIP_ARCH", "tiny-clip")
    found = encode("clip", ["a dog"], weights=tmp_path / "ViT-B-32.pt")
    with torch.no_grad():
        torch.testing.assert_close(found, model.encode_text(open_clip.tokenize(["a dog"])))


def tree_of(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Modules that hold these tensors by their names, and do nothing."""
    root = torch.nn.Module()
    for name, value in state.items():
        *path, last = name.split(".")
        place = root
        for part in path:
            if part not in dict(place.named_children()):
                place.add_module(part, torch.nn.Module())
            place = place.get_submodule(part)
        place.register_buffer(last, value.clone())
    return root


# What is not there, or is something else.


@pytest.mark.parametrize("name", ["clip", "bert", "roberta_l", "hf:some/model"])
def test_without_a_network_the_message_says_what_to_do(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="--language_weights"):
        language_models.select(name).load(CPU)


def test_a_folder_that_is_not_there_is_told_without_asking_the_hub(tmp_path, monkeypatch):
    asked: list[int] = []
    monkeypatch.setattr(language_models, "offline_unless_reachable", lambda: asked.append(1))
    (tmp_path / "bert_base").mkdir()
    with pytest.raises(UserError, match="bert_bas is not there: .*did you mean bert_base"):
        language_models.select(f"hf:{tmp_path}/bert_bas").load(CPU)
    assert not asked


@pytest.mark.parametrize(
    "more, is_told",
    [
        ([], False),
        (["snapshots/1/modules.json"], True),
        ([".no_exist/1/modules.json"], True),
        (["snapshots/1/.gitattributes"], True),
    ],
    ids=["parts", "sentence model", "known to be none", "whole"],
)
def test_parts_of_a_repository_do_not_say_whether_it_is_a_sentence_model(
    tmp_path, monkeypatch, caplog, more, is_told
):
    """Nor are vectors kept as those of the model, which the hub may say to be read otherwise."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    language_models.select("hf:some/model")
    assert not caplog.records  # nothing is there: it is told as it is loaded
    for file in ["refs/main", "snapshots/1/config.json", *more]:
        path = tmp_path / "models--some--model" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    identity = language_models.select("hf:some/model").identity
    assert ("nothing says whether it is a sentence model" in caplog.text) != is_told
    assert identity.endswith("without modules.json") != is_told


def test_a_pipe_is_no_weights(pipe):
    model = language_models.select(f"clip:ViT-B-32/{pipe}", None)
    with pytest.raises(UserError, match="a pipe or a device"):
        language_models.encode(model, ["owl"], "a {}", torch.device("cpu"))


def test_a_clip_folder_without_weights_is_refused(clip, tmp_path):
    (tmp_path / "open_clip_config.json").write_text((clip / "open_clip_config.json").read_text())
    with pytest.raises(UserError, match="--language_weights"):
        encode("clip", ["dog"], weights=tmp_path)


@pytest.mark.parametrize("name", ["clip", "bert"])
@pytest.mark.parametrize("content", ["empty folder", "text", "foreign tensors"])
def test_foreign_weights_are_named(tmp_path, name, content):
    path = tmp_path / "weights.pt"
    if content == "empty folder":
        path.mkdir()
    elif content == "text":
        path.write_text("no weights")
    else:
        torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="--language_weights") as error:
        encode(name, ["dog"], weights=path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["hf:", "clip:ViT-B-32/"])
def test_weights_that_come_with_the_name_are_named_as_they_were_given(tmp_path, name):
    place = tmp_path / "weights.pt"
    if name == "hf:":
        place.mkdir()
    else:
        place.write_text("no weights")
    with pytest.raises(UserError, match=rf"^--language_model {name}{place} cannot be loaded"):
        encode(f"{name}{place}", ["dog"])


@pytest.mark.parametrize("name", ["gone.pt", "weights.pt"])
def test_clip_weights_without_their_model_are_told_apart(tmp_path, monkeypatch, name):
    (tmp_path / "weights.pt").write_text("no weights")
    monkeypatch.chdir(tmp_path.parent)
    for place in (tmp_path / name, f"{tmp_path.name}/weights.pt"):
        with pytest.raises(UserError, match=rf"clip:{place} has no .* clip:<model>/{place},"):
            language_models.select(f"clip:{place}")


@pytest.mark.parametrize("name", ["hf:", "clip:ViT-B-32/"])
def test_weights_at_two_places_are_refused(tmp_path, name):
    named, given = tmp_path / "named", tmp_path / "given"
    named.mkdir()
    given.mkdir()
    with pytest.raises(UserError, match=rf"^--language_model {name}{named} says where .* not both"):
        language_models.select(f"{name}{named}", str(given))


def test_a_bert_folder_without_weights_of_the_model_is_refused(bert, tmp_path):
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(
        {"unrelated": torch.zeros(3)}, tmp_path / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(UserError, match="--language_weights"):
        encode("bert", ["dog"], weights=tmp_path)


def test_a_bert_folder_without_a_pooler_passes(bert, tmp_path):
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(bert / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "pooler" not in name},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    assert torch.equal(
        encode("bert", ["dog"], weights=tmp_path), encode("bert", ["dog"], weights=bert)
    )


def test_identity_changes_with_the_weights(bert, tmp_path):
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    first = language_models.select("bert", str(tmp_path)).identity
    assert first == language_models.select("bert", str(tmp_path)).identity
    assert first != language_models.select("bert").identity
    os.utime(tmp_path / "model.safetensors", (1, 1))
    assert language_models.select("bert", str(tmp_path)).identity != first


def test_identity_tells_models_apart_that_read_one_file(clip):
    """Of an activation the weights say nothing."""
    file = clip / "open_clip_model.safetensors"
    names = [f"clip:{arch}/{file}" for arch in ("ViT-B-32", "ViT-B-32-quickgelu")]
    assert len({language_models.select(name).identity for name in names}) == 2


def test_published_weights_get_the_activation_that_they_were_trained_with(clip, tmp_path):
    """open_clip gives the plain model another one, and no more than a warning."""
    identities = {
        language_models.select(name).identity for name in ("clip", "clip:ViT-B-32/openai")
    }
    assert len(identities) == 1
    file = str(clip / "open_clip_model.safetensors")
    tower = language_models.select("clip:ViT-L-14/metaclip_400m", file)
    assert "ViT-L-14-quickgelu" in tower.identity
    torch.jit.script(tree_of({"weight": torch.ones(1)})).save(str(tmp_path / "ViT-B-32.pt"))
    assert (
        "ViT-B-32-quickgelu" in language_models.select(f"clip:ViT-B-32/{tmp_path}/ViT-B-32.pt")[0]
    )
    plain = language_models.select("clip:ViT-B-32/laion2b_s34b_b79k")
    assert plain.identity.startswith("clip ViT-B-32 laion2b_s34b_b79k")


def test_the_folder_called_datasets_does_not_break_transformers():
    """A package of that name exists too, and transformers looks for it."""
    from transformers import AutoModel, AutoTokenizer

    import datasets

    assert Path(datasets.__file__).parent == ROOT / "datasets"
    assert AutoModel is not None and AutoTokenizer is not None


# Texts that are longer than what a model reads.


@pytest.mark.parametrize("name, words", [("bert", 30), ("clip", 75)])
def test_texts_that_are_not_read_to_their_end_are_told(request, name, words, caplog):
    """Between the two marks around a text there is room for so many words."""
    folder = request.getfixturevalue(name)
    whole, longer = "cat " * words, "cat " * words + "dog"
    with caplog.at_level("WARNING"):  # open_clip says more below
        found = encode(name, [whole, "red"], weights=folder)
        assert not caplog.messages
        assert torch.equal(encode(name, [longer, "red"], weights=folder), found)
    (said,) = caplog.messages
    assert f"1 of 2 texts are longer than the {words + 2} tokens that the text encoder" in said
    assert "as that of 'cat cat cat" in said and len(said) < 260


def test_an_encoder_tells_of_each_primer_its_own(bert, caplog):
    encoder = language_models.select("bert", str(bert)).load(torch.device("cpu"))
    model = language_models.LanguageModel("bert", lambda device: encoder)
    for primer in ("{} {}", "{} cat {}", "{}"):
        language_models.encode(model, ["cat " * 20], primer, torch.device("cpu"))
    assert [said.split(" texts")[0] for said in caplog.messages] == ["1 of 1", "1 of 1"]


def test_a_sentence_model_reads_as_many_tokens_as_its_file_says(caplog):
    """MiniLM has places for 512 and was made to read 256, as sentence_bert_config.json says."""
    pytest.importorskip(language_models.MINILM_PACKAGE)
    found = encode("minilm", ["cat " * 254 + "dog " * 9])
    assert "256 tokens" in caplog.text
    torch.testing.assert_close(found, encode("minilm", ["cat " * 254]), atol=1e-6, rtol=0)
