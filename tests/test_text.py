"""Chapter 04: what the notebook builds by hand is what the library does. The lesson's own cells are
run here, so that what the reader sees is what is proved."""

import ast
import random
import re
import threading
import unicodedata
import warnings
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import regex
import torch
import torch.nn.functional as F

from sdlearn import compression, hub, models, sampling, text, world

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "04_text_embedding.ipynb"


def lesson(names: str, **given) -> dict:
    """Run the notebook's cells that begin to define the named functions or variables, in the
    notebook's order, and return what they leave."""
    cells = [c.source for c in nbformat.read(NOTEBOOK, as_version=4).cells if c.cell_type == "code"]
    space = {
        "torch": torch,
        "F": F,
        "np": np,
        "pairwise": pairwise,
        "regex": regex,
        "unicodedata": unicodedata,
        "hub": hub,
        "models": models,
        "text": text,
        "world": world,
        **given,
    }
    for name in names.split():
        found = [c for c in cells if f"def {name}(" in c or f"\n{name} = " in f"\n{c}"]
        assert found, f"the notebook no longer defines {name}"
        exec(found[0], space)
    return space


def lesson_function(name: str, **given):
    """One function of the notebook, without the rest of its cell."""
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code" and f"def {name}(" in cell.source:
            node = next(
                n
                for n in ast.parse(cell.source).body
                if isinstance(n, ast.FunctionDef) and n.name == name
            )
            space = {"torch": torch, "F": F, "hub": hub, "models": models, **given}
            exec(compile(ast.Module([node], []), name, "exec"), space)
            return space[name]
    raise AssertionError(f"the notebook no longer defines {name}")


@pytest.fixture(scope="module")
def clip():
    """A small random CLIP, both towers, for Tiny SD's tokenizer."""
    torch.manual_seed(0)
    small = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 16,
    }
    tokenizer = hub.load_tokenizer()
    return models.build_clip(
        tokenizer, small, {**small, "image_size": 32, "patch_size": 8}
    ).eval(), tokenizer


# ------------------------------------------------------------------------------------------- tokens

ODD = "😀🦓🏠🚀👍🏽👩‍🚀❄️🇬🇧"
LONG = ["x" * 2000, "house " * 5000, "🦓" * 500]
EDGES = [
    "",
    " ",
    "\n\t",
    "a",
    "'s",
    "it's we'll I'd",
    "e\u0301 é",
    "ΣΑΣ İ ſ ß ﬁ",
    "½²3.14",
    "\u00a0\u2003a\x00b",
    "A RED HOUSE!!!",
    "co-operate_now",
    "雪の中の赤い家",
]


def strings(count: int) -> list[str]:
    """Captions, keyboard mash, letters of every script, emoji, accents apart and joined; blank to
    very long.

    Only characters that were assigned in Unicode 3.2 (and emoji): tables of newer ones differ
    between any two libraries. A prompt that spells out "<|endoftext|>" is left out too: tokenizers
    read it as the mark itself.
    """
    rng, numbers = random.Random(0), np.random.default_rng(0)
    old = [
        chr(c)
        for c in range(0x110000)
        if not 0xD800 <= c < 0xE000 and unicodedata.ucd_3_2_0.category(chr(c)) != "Cn"
    ]
    mash = "aeionrst hw'sTtREldvm,.é☃ \t\n0123½²ßİΣς'ſ_-" + ODD
    words = [
        "house",
        "it's",
        "HOUSE",
        "zebra",
        "👍🏽",
        "co-operate",
        "3.14",
        "naïve",
        "e\u0301te\u0301",
        "rocket!!!",
        "''s",
        "<b>",
        "|>",
    ]
    made = []
    for i in range(count):
        kind, length = i % 4, rng.randrange(60)
        if kind == 0:
            made.append(world.caption(world.sample_scene(numbers), numbers))
        elif kind == 1:
            made.append("".join(rng.choices(old, k=length)))
        elif kind == 2:
            made.append("".join(rng.choices(mash, k=length)))
        else:
            made.append(" ".join(rng.choices(words, k=rng.choice([length, 4 * length]))))
    return made


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_byte_pair_encoding_gives_the_librarys_ids(pipe, count):
    to_ids = lesson("symbols merges cut_word to_ids", pipe=pipe)["to_ids"]
    texts = [*EDGES, *LONG, *strings(count)]
    library = pipe.tokenizer(
        texts, truncation=True, max_length=pipe.tokenizer.model_max_length
    ).input_ids
    different = [t for t, ids in zip(texts, library, strict=True) if to_ids(t) != ids]
    assert different == []
    lengths = [len(ids) for ids in library]
    assert min(lengths) == 2 and lengths.count(pipe.tokenizer.model_max_length) > 100, (
        "the strings must reach both ends"
    )


def test_cut_names_the_tokens(pipe):
    cut = lesson("symbols merges cut_word to_ids", pipe=pipe)["cut"]
    for prompt in ("a red house in the snow", "a zebra 🦓", ""):
        assert cut(prompt) == text.tokens(pipe, prompt)


def test_merges_are_those_of_the_file(pipe):
    lines = (hub.TINY_SD / "tokenizer" / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert [" ".join(pair) for pair in text.merges(pipe)] == lines

    old = SimpleNamespace(
        tokenizer=SimpleNamespace(bpe_ranks={("b", "c"): 1, ("a", "b"): 0})
    )  # transformers 4 keeps a dictionary
    assert text.merges(old) == [("a", "b"), ("b", "c")]


def test_tokens_and_unknown_words(pipe):
    assert text.tokens(pipe, "a red house") == ["a</w>", "red</w>", "house</w>"]
    assert text.tokens(pipe, "") == []
    assert text.unknown_words(pipe, "a red zebra and a Red hause") == ["zebra", "hause"]
    assert all(
        text.unknown_words(pipe, world.caption(world.sample_scene(rng), rng)) == []
        for rng in [np.random.default_rng(1)]
        for _ in range(300)
    )


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a red house", None),
        (" ", "empty"),
        ("a red hause", r"'hause' \(did you mean 'house'\?\)"),
        ("house " * 80, "80 tokens long and the model reads 75"),
        ("a 🦓", "understands no thing, color, place or time.* for example, house, tree"),
        ("a red cat 🦓", "words only; it has never seen '🦓'"),
        ("???", "understands no thing"),
        ("a (red:1.5) house", r"weights such as '\(red:1.5\)' are not read here"),
        ("not a red house", "'not' takes nothing away: .* negative_prompt"),
        ("a house without a tree", "'without' takes nothing away"),
        ("it isn't a house by day", "'it'"),
        ("two houses", "no numbers and will not count 'two'"),
        ("blue trees", r"has never seen 'trees': say 'tree'\."),
        ("a red house, a blue car and a green tree", "one or two things: 'tree' or another"),
        ("a huge red house", r"never seen the word 'huge': it will guess\."),
        ("a red moon", r"never seen the word 'moon': it will guess\."),
        ("hello house", r"never seen the word 'hello': it will guess\."),
        ("a red house now", r"never seen the word 'now': it will guess\."),
        ("a blue set and a house", r"never seen the word 'set': it will guess\."),
    ],
)
def test_check_prompt_warns_in_one_sentence(pipe, prompt, words):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        text.check_prompt(pipe, prompt)
    said = [str(w.message) for w in caught]
    assert all("\n" not in sentence and sentence.endswith(".") for sentence in said)
    assert (said == []) if words is None else any(re.search(words, sentence) for sentence in said)


def test_notes_are_one_a_kind_and_suggest_only_words_of_the_world(pipe):
    """Words from a keyboard, from the tokenizer's own pieces and from the world with a letter
    changed: whatever is suggested is a word that captions hold."""
    rng, known = random.Random(0), text.known_words(pipe)
    pieces = [t.removesuffix("</w>") for t in pipe.tokenizer.get_vocab()]
    letters = "abcdefghijklmnopqrstuvwxyz"
    mash = ["".join(rng.choices(letters, k=rng.randrange(1, 9))) for _ in range(300)]
    wrong = [w[:i] + rng.choice(letters) + w[i + 1 :] for w in known for i in range(len(w))]
    assert {*world.KINDS} & known and {*world.COLOURS, *world.PLACES, *world.TIMES} <= known
    for word in [*pieces, *mash, *wrong]:
        for note in text.prompt_notes(pipe, word):
            assert note.suggestion in known | {""}
            assert note.suggestion == "" or note.suggestion[:1] == word[:1] or len(word) > 3
    notes = text.prompt_notes(pipe, "two red hauses and a zeppelin without a tree")
    assert [(n.word, n.kind) for n in notes] == [
        ("two", "number"), ("hauses", "unknown"), ("zeppelin", "unknown"), ("without", "negation"),
    ]  # fmt: skip


def test_a_model_trained_on_the_web_gets_no_notes_on_words(pipe, monkeypatch):
    monkeypatch.setattr(hub, "WORLD_TOKENIZER", 10)
    assert text.prompt_notes(pipe, "two zeppelins without a (moon:1.5)") == []
    assert text.unknown_words(pipe, "a zeppelin") == []


def test_notes_on_a_prompt_cut_off_are_readable(pipe):
    (note,) = [n for n in text.prompt_notes(pipe, "дом " * 200) if n.kind == "long"]
    assert note.word.strip("дом ") == "" and note.word


@pytest.mark.parametrize("prompt", ["a red \ud83c house", "\udfff"])
def test_half_a_character_gets_a_sentence(pipe, prompt):
    for act in (text.check_prompt, text.encode_prompt, text.tokens):
        with pytest.raises(ValueError, match="half a character at place"):
            act(pipe, prompt)


def test_threads_encode_whole_prompts(pipe):
    """Truncation and padding are a state of the tokenizer: while one thread cuts words, another
    encodes, and each row has all its places."""
    shapes, stop = [], threading.Event()

    def cut():
        while not stop.is_set():
            text.tokens(pipe, "a red house in the snow")

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        for _ in range(150):
            shapes.append(text.encode_prompt(pipe, ["a red house"]).shape[1])
    finally:
        stop.set()
        cutter.join()
    assert set(shapes) == {pipe.tokenizer.model_max_length}


def test_check_prompt_wants_a_string(pipe):
    with pytest.raises(TypeError, match="A prompt is a string"):
        text.check_prompt(pipe, 3)


# --------------------------------------------------------------------------------- the text encoder

ENCODER = "symbols merges cut_word to_ids weights causal_attention quick_gelu padded"


def test_embedding_is_token_plus_position(pipe):
    """x_i = E[id_i] + P[i]: exactly the library's embedding layer."""
    embed = lesson("symbols merges cut_word to_ids weights", pipe=pipe)["embed"]
    ids = torch.tensor(pipe.tokenizer("a red house").input_ids)
    modules = dict(pipe.text_encoder.named_modules())
    layer = modules.get("embeddings") or modules["text_model.embeddings"]
    torch.testing.assert_close(embed(ids), layer(input_ids=ids[None])[0].detach(), rtol=0, atol=0)


def test_causal_attention_formula(pipe):
    """softmax(Q K^T / sqrt(d) + M) V against torch's own causal attention, 1e-6; rows sum to 1;
    nothing looks ahead."""
    space = lesson("weights causal_attention", pipe=pipe, prompt="a red house")
    x, heads = (
        torch.randn(
            9, pipe.text_encoder.config.hidden_size, generator=torch.Generator().manual_seed(0)
        ),
        space["config"].num_attention_heads,
    )
    name = "encoder.layers.0"
    got, looks = space["causal_attention"](x, name)
    q, k, v = (
        space["linear"](x, f"{name}.self_attn.{p}_proj")
        .unflatten(-1, (heads, -1))
        .transpose(0, 1)[None]
        for p in "qkv"
    )
    want = F.scaled_dot_product_attention(q, k, v, is_causal=True)[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(
        got, space["linear"](want, f"{name}.self_attn.out_proj"), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(looks.sum(-1), torch.ones(heads, 9), rtol=0, atol=1e-6)
    assert looks.triu(1).count_nonzero() == 0 and looks.tril().count_nonzero() == heads * 45


def test_quick_gelu_formula(pipe):
    """x sigmoid(1.702 x), exactly the library's."""
    from transformers.activations import ACT2FN

    x = torch.linspace(-8, 8, 101)
    torch.testing.assert_close(
        lesson("weights causal_attention quick_gelu", pipe=pipe, prompt="")["quick_gelu"](x),
        ACT2FN["quick_gelu"](x),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("prompt", ["a red house in the snow at night", "", "🦓 " * 200])
def test_text_encoder_from_scratch(pipe, prompt):
    """All padded states within 1e-5 of the library's."""
    space = lesson(ENCODER, pipe=pipe, prompt=prompt)
    torch.testing.assert_close(
        space["ours"], text.encode_prompt(pipe, prompt)[0], rtol=0, atol=1e-5
    )


def test_states_before_a_swapped_word_do_not_change(pipe):
    a, b = text.encode_prompt(
        pipe, ["a red house in the snow at night", "a red house in the desert at night"]
    )
    change = (a - b).abs().amax(-1)
    assert change[:6].max() == 0 and change[6:].min() > 1e-4


def test_encode_prompt_is_what_the_pipeline_feeds_the_unet(pipe):
    want, negative = pipe.encode_prompt("a red house", "cpu", 1, True, negative_prompt="")
    got = text.encode_prompt(pipe, ["a red house", ""])
    assert got.dtype == torch.float32 and got.shape == (
        2,
        pipe.tokenizer.model_max_length,
        pipe.text_encoder.config.hidden_size,
    )
    torch.testing.assert_close(got, torch.cat([want, negative]), rtol=0, atol=1e-6)
    assert not torch.equal(got[0], got[1]) and got[1].abs().max() > 0.1, (
        "the empty prompt is not nothing"
    )


# --------------------------------------------------------------------------------------------- CLIP


def test_clip_loss_formula(clip):
    """The symmetric cross-entropy against the library's loss, 1e-5; knowing nothing costs log N; a
    perfect match costs nothing."""
    model, tokenizer = clip
    captions = [
        "a red house",
        "a blue boat at night",
        "a cat",
        "two trees in the snow",
        "a pink car",
    ]
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ids = tokenizer(captions, padding=True, return_tensors="pt").input_ids
    with torch.inference_mode():
        out = model(input_ids=ids, pixel_values=pixels, return_loss=True)
    clip_loss = lesson_function("clip_loss")
    torch.testing.assert_close(clip_loss(out.logits_per_text), out.loss, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        clip_loss(torch.zeros(8, 8)), torch.tensor(8.0).log(), rtol=0, atol=1e-6
    )
    assert clip_loss(1000 * torch.eye(8)) < 1e-6
    lopsided = torch.tensor(
        [[5.0, 0.0], [5.0, 0.0]]
    )  # one caption is sure and wrong: rows and columns disagree
    assert not torch.isclose(clip_loss(lopsided), F.cross_entropy(lopsided, torch.arange(2)))


def test_clip_features_are_the_librarys(clip):
    """Unit length, and the cosine of the library's own logits, 1e-6."""
    model, tokenizer = clip
    captions, scenes = (
        ["a red house", "a blue boat at night"],
        [world.sample_scene(np.random.default_rng(i)) for i in range(2)],
    )
    pictures = [world.draw(scene, 32) for scene in scenes]
    given = {"clip": model, "clip_tokenizer": tokenizer, "compression": compression}
    words = lesson_function("text_features", **given)(captions)
    images = lesson_function("picture_features", **given)(pictures)
    ids = tokenizer(
        captions, padding="max_length", return_tensors="pt"
    ).input_ids  # padding must not matter: attention is causal
    with torch.inference_mode():
        out = model(input_ids=ids, pixel_values=compression.to_tensor(pictures))
    torch.testing.assert_close(
        words @ images.T * model.logit_scale.exp(), out.logits_per_text, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(words.norm(dim=-1), torch.ones(2), rtol=0, atol=1e-6)


def test_sums_of_meanings_formula():
    """thing - colour + colour: all right where meaning is a sum; stays at home where the words know
    no colours; lands wrong where they name them wrong."""
    landing = lesson_function("landing")
    generator = torch.Generator().manual_seed(0)
    things, colours = (
        torch.randn(5, 1, 32, generator=generator),
        torch.randn(1, 4, 32, generator=generator),
    )
    meanings = F.normalize(things + colours, dim=-1)
    assert landing(meanings, meanings) == [1, 1]
    assert landing(meanings, torch.zeros_like(meanings)) == [0, 1]
    assert landing(meanings, meanings.roll(1, dims=1))[0] < 0.5
    assert landing(meanings, meanings.roll(1, dims=0)) == [1, 1], (
        "a colour is the mean over things: their order is free"
    )


# ---------------------------------------------------------------------------------------- attention


def cross_layers(pipe):
    return {name: part for name, part in pipe.unet.named_modules() if name.endswith("attn2")}


def test_cross_attention_formula(pipe):
    """softmax(Q K^T / sqrt(d)) V in every layer of the U-Net, 1e-5; each pixel shares out exactly
    1."""
    cross_attention = lesson_function("cross_attention")
    words = text.encode_prompt(pipe, "a red house")[0]
    for layer in cross_layers(pipe).values():
        pixels = torch.randn(30, layer.to_q.in_features, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            got, listens = cross_attention(pixels, words, layer)
            torch.testing.assert_close(
                got, layer(pixels[None], encoder_hidden_states=words[None])[0], rtol=0, atol=1e-5
            )
        torch.testing.assert_close(listens.sum(-1), torch.ones(layer.heads, 30), rtol=0, atol=1e-5)


def unet_output(pipe, batch: int = 2) -> torch.Tensor:
    latents = sampling.start_latents(pipe, batch, seed=0)
    states = text.encode_prompt(pipe, ["", "a red house in the snow"][-batch:])
    with torch.inference_mode():
        return pipe.unet(latents, 500, encoder_hidden_states=states).sample


def test_recording_leaves_the_output_unchanged(pipe):
    """The whole U-Net with recording processors, within 1e-5 of without; afterwards the very same
    processors as before."""
    before, plain = pipe.unet.attn_processors, unet_output(pipe)
    with text.record_attention(pipe) as recorder:
        recorded = unet_output(pipe)
    torch.testing.assert_close(recorded, plain, rtol=0, atol=1e-5)
    torch.testing.assert_close(unet_output(pipe), plain, rtol=0, atol=0)
    assert pipe.unet.attn_processors == before
    assert len(recorder.maps) == len(cross_layers(pipe)), "self-attention is not recorded"


def test_recorded_pictures_are_the_same(pipe):
    options = {"num_inference_steps": 3, "seed": 1}
    plain = [s.prev_latents for s in sampling.sample_steps(pipe, "a red house", **options)]
    with text.record_attention(pipe) as recorder:
        recorded = [
            (s.prev_latents, recorder.take())
            for s in sampling.sample_steps(pipe, "a red house", **options)
        ]
    for a, (b, maps) in zip(plain, recorded, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)
        assert len(maps) == len(cross_layers(pipe)) and recorder.take() == []


def test_recorded_rows_sum_to_one(pipe):
    with text.record_attention(pipe) as recorder:
        unet_output(pipe)
    tokens = pipe.tokenizer.model_max_length
    assert {m.shape[0] for m in recorder.maps} == {2} and {m.shape[2] for m in recorder.maps} == {
        tokens
    }
    for m in recorder.maps:
        torch.testing.assert_close(m.sum(-1), torch.ones(m.shape[:2]), rtol=0, atol=1e-5)


def test_processors_come_back_after_an_error(pipe):
    before = pipe.unet.attn_processors
    with pytest.raises(KeyError), text.record_attention(pipe):
        raise KeyError
    assert pipe.unet.attn_processors == before


def test_other_threads_wait_while_attention_is_recorded(pipe):
    """A control that draws in another thread must not mix its maps into ours."""
    began, done = threading.Event(), threading.Event()

    def other():
        began.set()
        list(sampling.sample_steps(pipe, "a blue boat", num_inference_steps=1, seed=0))
        done.set()

    with text.record_attention(pipe) as recorder:
        thread = threading.Thread(target=other)
        thread.start()
        began.wait()
        assert not done.wait(0.3)
        unet_output(pipe)
        assert len(recorder.maps) == len(cross_layers(pipe))
    thread.join(30)
    assert done.is_set()


def test_average_maps(pipe):
    with text.record_attention(pipe) as recorder:
        unet_output(pipe)
    maps, side = recorder.take(), pipe.unet.config.sample_size
    heat = text.average_maps(maps)
    assert heat.shape == (2, pipe.tokenizer.model_max_length, side, side)
    torch.testing.assert_close(
        heat.sum(1), torch.ones(2, side, side), rtol=0, atol=1e-5
    )  # means of shares are shares
    only = [m for m in maps if m.shape[1] == (side // 4) ** 2]
    coarse = text.average_maps(only, side // 4)
    torch.testing.assert_close(
        coarse, torch.stack([m.mT.unflatten(-1, (side // 4, side // 4)) for m in only]).mean(0)
    )
    with pytest.raises(ValueError, match="No layer attends at 5 x 5; recorded"):
        text.average_maps(maps, 5)
    with pytest.raises(ValueError, match="nothing"):
        text.average_maps([])


def test_average_maps_puts_each_pixel_in_its_place():
    """Row by row, one layer at 16 x 16 and one at 8 x 8; 64 x 64 and 4 x 4 are left out."""
    fine, coarse = torch.zeros(1, 256, 3), torch.zeros(1, 64, 3)
    fine[0, 16 * 2 + 5, 1] = 1  # row 2, column 5
    coarse[0, 8 * 6 + 1, 2] = 1
    heat = text.average_maps(
        [torch.full((1, 4096, 3), 9.0), fine, coarse, torch.full((1, 16, 3), 9.0)]
    )[0]
    assert heat.shape == (3, 16, 16) and heat[1, 2, 5] == 0.5 and heat[1].sum() == 0.5
    assert divmod(int(heat[2].argmax()), 16) in {(r, c) for r in (12, 13) for c in (2, 3)}
