"""Vectors of sentences from each kind of model, as it was trained to give them."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from language_guidance import language_models, pooling
from utilities import open_clip_models
from utilities.errors import UserError

CPU = torch.device("cpu")
WORDS = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "a", "photo", "of", "dog", "cat", "red"]
TEXTS = ["dog", "a photo of a red cat", "red dog"]
SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}


def tokenizer(folder: Path) -> None:
    """A tokenizer of whole words, with an end after each sentence."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(WORDS)}
    plain = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[BOS]",
        eos_token="[EOS]",
        model_max_length=16,
    ).save_pretrained(folder)


def saved(folder: Path, model) -> Path:
    model.save_pretrained(folder)
    tokenizer(folder)
    return folder


def bert(folder: Path) -> Path:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=10, num_hidden_layers=1, max_position_embeddings=32, **SIZES)
    return saved(folder, BertModel(config))


def towers(kind: str, folder: Path) -> Path:
    import transformers

    torch.manual_seed(0)
    text = {"vocab_size": 10, "num_hidden_layers": 1, "max_position_embeddings": 16, **SIZES}
    text |= {"eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0}
    vision = {"image_size": 32, "patch_size": 16, "num_hidden_layers": 1, **SIZES}
    config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=vision)
    if kind == "CLIP":
        config.projection_dim = config.text_config.projection_dim = 12
    return saved(folder, getattr(transformers, f"{kind}Model")(config))


def decoder(folder: Path) -> Path:
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    sizes = {"vocab_size": 10, "n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2}
    # Within the vocabulary, or transformers warns of them.
    ends = {"bos_token_id": 1, "eos_token_id": 1}
    return saved(folder, GPT2Model(GPT2Config(**sizes, **ends)))


def t5(folder: Path) -> Path:
    from transformers import T5Config, T5Model

    torch.manual_seed(0)
    config = T5Config(vocab_size=10, d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2)
    return saved(folder, T5Model(config))


def translator(kind: str, folder: Path) -> Path:
    """An encoder beside a decoder, of one layer each."""
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 10, "d_model": 16, "max_position_embeddings": 32, "pad_token_id": 0}
    sizes |= {f"{side}_layers": 1 for side in ("encoder", "decoder")}
    sizes |= {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    sizes |= {f"{side}_ffn_dim": 16 for side in ("encoder", "decoder")}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2}
    config = getattr(transformers, f"{kind}Config")(**sizes, **ends, forced_eos_token_id=3)
    return saved(folder, getattr(transformers, f"{kind}Model")(config))


def found(folder: Path, texts: list[str] = TEXTS) -> torch.Tensor:
    return language_models.encode(language_models.select(f"hf:{folder}"), texts, "{}", CPU)


def states(folder: Path, text: str) -> torch.Tensor:
    """[L, E], of a sentence alone, without any padding."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    return states_of(
        model.get_encoder() if model.config.is_encoder_decoder else model, folder, text
    )


def states_of(model, folder: Path, text: str) -> torch.Tensor:
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        return model(**tokens).last_hidden_state[0]


@pytest.mark.parametrize(
    "make, place",
    [
        (bert, "mean"),
        (t5, "mean"),
        (decoder, "last"),
        *((partial(translator, kind), "mean") for kind in ("Bart", "Marian", "Pegasus")),
    ],
    ids=["bert", "t5", "decoder", "bart", "marian", "pegasus"],
)
def test_models_without_a_pooling_file(tmp_path, make, place):
    folder = make(folder=tmp_path / "model")
    for vector, text in zip(found(folder), TEXTS):
        alone = states(folder, text)
        expected = alone[-1] if place == "last" else sum(alone) / len(alone)
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind, dim", [("CLIP", 12), ("Siglip", 16)])
def test_towers_go_through_their_projection(tmp_path, kind, dim):
    import transformers

    folder = towers(kind, tmp_path / "model")
    model = getattr(transformers, f"{kind}Model").from_pretrained(folder).eval()
    read = transformers.AutoTokenizer.from_pretrained(folder)
    vectors = found(folder)
    assert vectors.shape == (3, dim)
    for vector, text in zip(vectors, TEXTS):
        filled = {"padding": "max_length", "max_length": 16} if kind == "Siglip" else {}
        tokens = read(text, return_tensors="pt", **filled)
        tokens.pop("token_type_ids", None)
        with torch.no_grad():
            pooled = model.text_model(**tokens).pooler_output
            expected = model.text_projection(pooled) if kind == "CLIP" else pooled
        torch.testing.assert_close(vector, expected[0], atol=1e-5, rtol=0)


def test_of_a_tower_that_gives_all_states_the_first_counts(tmp_path):
    import transformers

    folder = towers("Flava", tmp_path / "model")
    model = transformers.FlavaModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = [
            model.text_projection(states_of(model.text_model, folder, text)[0]) for text in TEXTS
        ]
    torch.testing.assert_close(found(folder), torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "kind", ["CLIPTextModel", "CLIPTextModelWithProjection", "SiglipTextModel"]
)
def test_a_side_of_texts_alone_gives_the_vectors_of_the_whole(tmp_path, kind):
    """People save it without the side of images, as a part of something else."""
    import transformers

    whole = towers(kind.partition("Text")[0], tmp_path / "whole")
    getattr(transformers, kind).from_pretrained(whole).save_pretrained(tmp_path / "side")
    tokenizer(tmp_path / "side")
    given = found(tmp_path / "side")
    if kind == "CLIPTextModel":  # which comes without its projection
        weight = transformers.CLIPModel.from_pretrained(whole).text_projection.weight
        given = given @ weight.detach().T
    torch.testing.assert_close(given, found(whole), atol=1e-5, rtol=0)


def test_an_encoder_without_its_decoder_gives_the_vectors_of_the_whole(tmp_path):
    """Sentence models of T5 are published so."""
    from transformers import T5EncoderModel

    whole = t5(tmp_path / "whole")
    T5EncoderModel.from_pretrained(whole).save_pretrained(tmp_path / "encoder")
    tokenizer(tmp_path / "encoder")
    torch.testing.assert_close(found(tmp_path / "encoder"), found(whole))


def sentence_model(folder: Path, modes: dict[str, Any]) -> Path:
    """BERT with the files that sentence-transformers writes beside it."""
    bert(folder)
    parts = [{"path": "", "type": "sentence_transformers.models.Transformer"}]
    parts.append({"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"})
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 16, **modes})
    )
    parts.append({"path": "3_Normalize", "type": "sentence_transformers.models.Normalize"})
    (folder / "modules.json").write_text(json.dumps(parts))
    return folder


@pytest.mark.parametrize("part", ["1_Pooling", "config_sentence_transformers.json"])
def test_a_sentence_model_without_the_list_of_its_parts_is_refused(tmp_path, part):
    """Its pooling would be passed over."""
    folder = sentence_model(tmp_path / "model", {"pooling_mode_cls_token": True})
    (folder / "1_Pooling").rename(folder / part)
    (folder / "modules.json").unlink()
    with pytest.raises(UserError, match=f"modules.json is missing, .* {part}"):
        found(folder)


@pytest.mark.parametrize("mode", ["cls_token", "mean_tokens", "max_tokens", "lasttoken"])
def test_sentence_models_pool_as_their_file_says(tmp_path, mode):
    folder = sentence_model(tmp_path / "model", {f"pooling_mode_{mode}": True})
    for vector, text in zip(found(folder), TEXTS):
        alone = states(folder, text)
        expected = {
            "cls_token": alone[0],
            "mean_tokens": alone.mean(0),
            "max_tokens": alone.max(0).values,
            "lasttoken": alone[-1],
        }[mode]
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=0)


def test_poolings_side_by_side_and_a_dense_layer(tmp_path):
    modes = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    folder = sentence_model(tmp_path / "both", modes)
    alone = states(folder, "dog")
    expected = torch.cat([alone[0], alone.mean(0)])
    torch.testing.assert_close(found(folder, ["dog"])[0], expected, atol=1e-5, rtol=0)
    folder = sentence_model(tmp_path / "dense", {"pooling_mode_mean_tokens": True})
    (weights,) = head_of(folder, dense(16, out_features=5), ("Normalize", {}))
    expected = through(weights, states(folder, "dog").mean(0))
    torch.testing.assert_close(found(folder, ["dog"])[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fault", ["pooling", "part", "no config"])
def test_parts_that_are_not_known_are_named(tmp_path, fault):
    modes = {"pooling_mode_weightedmean_tokens": True} if fault == "pooling" else {}
    folder = sentence_model(tmp_path / "model", modes)
    if fault == "part":
        parts = [{"path": "", "type": "sentence_transformers.models.LSTM"}]
        (folder / "modules.json").write_text(json.dumps(parts))
    if fault == "no config":
        (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(UserError, match="weightedmean|LSTM|1_Pooling/config.json"):
        found(folder)


def head_of(folder: Path, *layers: tuple[str, dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
    """Parts behind the pooling of a sentence model: (kind, config); weights of the dense ones."""
    parts = json.loads((folder / "modules.json").read_text())[:2]
    weights = []
    for number, (kind, config) in enumerate(layers, start=2):
        place = folder / f"{number}_{kind}"
        parts.append({"path": place.name, "type": f"sentence_transformers.models.{kind}"})
        place.mkdir()
        (place / "config.json").write_text(json.dumps(config))
        if kind == "Dense":
            shape = config["out_features"], config["in_features"]
            random = torch.Generator().manual_seed(number)
            linear = torch.randn(shape, generator=random)
            bias = torch.randn(shape[0], generator=random)
            weights.append({"linear.weight": linear, "linear.bias": bias})
            save_file(weights[-1], place / "model.safetensors")
    (folder / "modules.json").write_text(json.dumps(parts))
    return weights


def dense(wide: int, **more: object) -> tuple[str, dict[str, Any]]:
    activation = "torch.nn.modules.activation.Tanh"
    sizes = {"in_features": wide, "out_features": 16}
    return "Dense", {**sizes, "activation_function": activation, **more}


def through(weights: dict[str, torch.Tensor], vector: torch.Tensor) -> torch.Tensor:
    return torch.tanh(weights["linear.weight"] @ vector + weights["linear.bias"])


@pytest.mark.parametrize(
    "modes, order",
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, ["max", "mean"]),
        ({"pooling_mode": ["mean", "cls"]}, ["mean", "cls"]),
        ({"pooling_mode": ["lasttoken"]}, ["lasttoken"]),
        ({"pooling_mode": "max", "pooling_mode_mean_tokens": True}, ["max"]),
    ],
    ids=["switches", "list", "list of one", "mode over switches"],
)
def test_a_dense_layer_reads_the_poolings_in_the_order_of_sentence_transformers(
    tmp_path, modes, order
):
    folder = sentence_model(tmp_path / "model", modes)
    (weights,) = head_of(folder, dense(16 * len(order)))
    alone = states(folder, "red dog")
    pooled = {
        "cls": alone[0],
        "max": alone.max(0).values,
        "mean": alone.mean(0),
        "lasttoken": alone[-1],
    }
    expected = through(weights, torch.cat([pooled[mode] for mode in order]))
    torch.testing.assert_close(found(folder, ["red dog"])[0], expected, atol=1e-5, rtol=0)


def test_vectors_are_made_unit_vectors_where_the_files_say_so(tmp_path):
    folder = sentence_model(tmp_path / "model", {"pooling_mode": "mean"})
    (weights,) = head_of(folder, ("Normalize", {}), dense(16), ("Normalize", {}))
    unit = torch.nn.functional.normalize(states(folder, "red dog").mean(0), dim=0)
    expected = through(weights, unit)
    torch.testing.assert_close(found(folder, ["red dog"])[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "modes, more, said",
    [
        ({"pooling_mode": "weightedmean"}, {}, "a pooling weightedmean is not known"),
        ({"pooling_mode": ["cls", "other"]}, {}, "a pooling other is not known"),
        ({}, {"use_residual": True}, "a dense layer with use_residual is not known"),
        ({}, {"module_input_name": "token_embeddings"}, "module_input_name token_embeddings is"),
        ({}, {"module_output_name": "other"}, "module_output_name other is not known"),
    ],
    ids=["mode", "mode of a list", "residual", "input", "output"],
)
def test_what_a_head_does_beyond_what_is_known_is_refused(tmp_path, modes, more, said):
    folder = sentence_model(tmp_path / "model", modes)
    head_of(folder, dense(16, **more))
    with pytest.raises(UserError, match=said):
        found(folder)


@pytest.mark.parametrize("trunk", ["bert", "roberta", "xlm-roberta"])
def test_a_sentence_model_reads_its_texts_as_its_file_says(tmp_path, trunk, caplog):
    """Whatever trunk the file is called by."""
    folder = sentence_model(tmp_path / "model", {"pooling_mode": "mean"})
    config = {"max_seq_length": 4, "do_lower_case": True}
    (folder / f"sentence_{trunk}_config.json").write_text(json.dumps(config))
    plain = sentence_model(tmp_path / "plain", {"pooling_mode": "mean"})
    torch.testing.assert_close(found(folder, ["Red DOG of a"]), found(plain, ["red dog"]))
    assert "longer than the 4 tokens" in caplog.text


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_a_dense_layer_on_a_trunk_of_half_precision(tmp_path, precision):
    from transformers import BertModel

    folder = sentence_model(tmp_path / "model", {"pooling_mode": "mean"})
    head_of(folder, dense(16))
    whole = found(folder)
    BertModel.from_pretrained(folder).to(precision).save_pretrained(folder)
    torch.testing.assert_close(found(folder), whole, atol=0.05, rtol=0)


def roberta(folder: Path) -> Path:
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 10, "num_hidden_layers": 1, "pad_token_id": 0, **SIZES}
    return saved(folder, RobertaModel(RobertaConfig(max_position_embeddings=33, **sizes)))


@pytest.mark.parametrize("make", [bert, decoder, roberta])
def test_a_text_of_more_tokens_than_positions_is_cut_whatever_the_tokenizer_says(
    tmp_path, make, caplog
):
    """Each has positions for 32 tokens, two of which are the marks around a text."""
    folder = make(tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["model_max_length"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    whole = found(folder, ["dog " * 30])
    assert not caplog.messages
    if make is not decoder:  # of which the last token is the end of a text, or not
        torch.testing.assert_close(found(folder, ["dog " * 30 + "cat"]), whole)
    assert found(folder, ["red " * 90]).isfinite().all()
    assert "longer than the 32 tokens" in caplog.text


def test_padding_on_the_left_is_not_seen():
    rows = torch.randn(1, 4, 3)
    left, right = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[1, 1, 0, 0]])
    for name, pool in pooling.POOLINGS.items():
        moved = torch.cat([rows[:, 2:], rows[:, :2]], dim=1)
        torch.testing.assert_close(pool(rows, left), pool(moved, right), msg=name)


def test_a_folder_of_open_clip_without_the_vocabulary_of_its_tokenizer_is_refused(tmp_path):
    content = {"model_cfg": {"text_cfg": {"hf_tokenizer_name": "google/some"}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    wanted = open_clip_models.named("ViT-B-32/x", str(tmp_path))
    with pytest.raises(UserError, match=f"{tmp_path} cannot be loaded .*tokenizer's files"):
        open_clip_models.tokenizer(wanted)


@pytest.mark.parametrize(
    "make", [bert, decoder, partial(towers, "CLIP"), t5], ids=["bert", "decoder", "tower", "t5"]
)
def test_a_model_without_the_files_of_its_tokenizer_is_refused(tmp_path, make):
    """As where the model alone was saved; transformers makes a tokenizer that knows no word."""
    folder = make(folder=tmp_path / "model")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match=f"hf:{folder} cannot be loaded .*tokenizer's files"):
        found(folder)


@pytest.mark.parametrize(
    "make", [bert, decoder, partial(towers, "CLIP")], ids=["encoder", "decoder", "tower"]
)
def test_the_side_on_which_a_tokenizer_pads_changes_no_vector(tmp_path, make):
    folder = make(folder=tmp_path / "model")
    expected = found(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "left"}))
    torch.testing.assert_close(found(folder), expected)


# Models of open_clip.


def test_any_text_tower_of_open_clip(tmp_path):
    import open_clip

    size = {"width": 32, "layers": 1}
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "head_width": 16, "patch_size": 16, **size},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "heads": 2, **size},
    }
    (tmp_path / "tiny-tower.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-tower.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-tower").eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    for name, weights in (
        (f"clip:tiny-tower/{tmp_path / 'weights.pt'}", None),
        ("clip:tiny-tower", str(tmp_path / "weights.pt")),
    ):
        chosen = language_models.select(name, weights)
        vectors = language_models.encode(chosen, TEXTS, "{}", CPU)
        with torch.no_grad():
            torch.testing.assert_close(vectors, model.encode_text(open_clip.tokenize(TEXTS)))


@pytest.mark.parametrize(
    "name, hint",
    [
        ("clip:ViT-B-23", "did you mean ViT-B-32"),
        ("clip:ViT-B-32/laion", "laion400m_e32"),
        ("clip:ViT-B-32", "nothing is neither"),
        ("clip:ViT-B-32/no/such/file.pt", "neither a file nor weights"),
    ],
)
def test_models_and_weights_that_open_clip_does_not_know(name, hint):
    with pytest.raises(UserError, match=hint):
        language_models.select(name)
