"""The live page's own code in Node, against Python: words, noise, samplers, pictures, sentences."""

import base64
import json
import random
import re
import unicodedata
import warnings

import numpy as np
import pytest
import torch

from sdlearn import hub, judge, load_pipeline, sampling, text, world
from sdlearn.noising import Schedule
from tools import site, site_controls, web_model

STEPS = (1, 2, 5, 6, 25, 50)


@pytest.fixture(scope="module")
def page(live_page):
    return live_page


@pytest.fixture(scope="module")
def tiny(model_folder):
    return load_pipeline(model_folder)


def ask(page, **question):
    return web_model.ask_node(page, [question])[0]


# ------------------------------------------------------------------------------------- words


def strings(count: int) -> list[str]:
    """Prompts of the world, of mixtures, and of all letters that Unicode had in 2016: newer ones
    are unknown to one or another of the tables that this compares."""
    rng, numbers = random.Random(0), np.random.default_rng(0)
    old = unicodedata.ucd_3_2_0  # any assigned there is assigned in every table
    letters = [c for c in map(chr, range(1, 0x30000)) if old.category(c) not in ("Cn", "Cs", "Co")]
    said = ["", " ", "it's the dog's", "ΟΔΟΣ", "<|endoftext|> red", "x" * 300]
    said += ["a\u0085b\ufeffc"]
    while len(said) < count:
        words = world.caption(world.sample_scene(numbers), numbers).split()
        for _ in range(rng.randrange(4)):
            strange = "".join(rng.choices(letters, k=rng.randrange(1, 6)))
            words.insert(rng.randrange(len(words)), strange)
        said.append(rng.choice([" ", "  ", ", ", "-", ""]).join(words))
    return said[:count]


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_token_ids_are_the_tokenizers(page, tiny, count):
    said = strings(count)
    length = tiny.tokenizer.model_max_length
    options = {"padding": "max_length", "max_length": length, "truncation": True}
    ours = tiny.tokenizer(said, **options).input_ids
    theirs = ask(page, do="encode", prompts=said)
    wrong = [s for s, a, b in zip(said, ours, theirs, strict=True) if a != b]
    assert wrong == []


def test_each_word_knows_its_tokens(page, tiny):
    """What lights up when a word is pointed at."""
    prompt = "a red house, zebra's"
    pieces = text.tokens(tiny, prompt)
    for word in ask(page, do="words", prompts=[prompt])[0]:
        joined = "".join(pieces[i - 1] for i in word["tokens"]).replace("</w>", "")
        assert joined == word["text"]
        assert word["known"] == (len(word["tokens"]) == 1)


PROMPTS = [
    "",
    "  ",
    "a red house",
    "not a red house",
    "two cats",
    "a catt in the snow",
    "a housse and a zebra by the moon",
    "a ((red)) house",
    "a (red:1.3) house at night",
    "a cat, a tree and a house",
    "🎈 and ???",
    "hello",
    "I don't want a cat",
    "7 houses",
    "a cat " * 40,
    "a dog's house %& in the meadow",
    "wolves, ponies and buses",
    "a red, green or blue house",
    "a red house and a blue house and a green house",
    "shites and a whit tower",
    "Ünknown ΟΔΟΣ",
]


def test_sentences_about_a_prompt_are_the_notebooks(page, tiny):
    answers = ask(page, do="notes", prompts=PROMPTS)
    for prompt, theirs in zip(PROMPTS, answers, strict=True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            text.check_prompt(tiny, prompt)
        assert theirs == [str(w.message) for w in caught], prompt


# ------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("seed", [0, 1, 7, 123, 2**31, 2**32 - 1])
def test_noise_is_torchs(page, seed):
    generator = torch.Generator().manual_seed(seed)
    ours = [torch.randn(1024, generator=generator).numpy() for _ in range(2)]
    theirs = ask(page, do="noise", seed=seed, count=1024, times=2)
    np.testing.assert_allclose(theirs, ours, atol=2e-6)


def test_schedule_is_the_models(page, tiny):
    ours = Schedule.of(tiny).alphas_cumprod.numpy()
    np.testing.assert_allclose(ask(page, do="schedule"), ours, rtol=2e-4)


@pytest.mark.parametrize("sampler", sampling.SAMPLERS)
def test_samplers_take_the_same_path(page, tiny, sampler):
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    for steps in STEPS:
        generator = torch.Generator().manual_seed(5)
        options = (
            {"noise": lambda g=generator: torch.randn(start.shape, generator=g)}
            if sampler == "ddpm"
            else {}
        )
        times = sampling.timesteps_of(tiny, sampler, steps)
        ours = list(
            sampling.SAMPLERS[sampler](
                lambda x, t: 0.5 * x, start, Schedule.of(tiny), times, **options
            )
        )
        values = start.flatten().tolist()
        theirs = ask(page, do="path", sampler=sampler, steps=steps, start=values, seed=5)
        assert [step["t"] for step in theirs] == pytest.approx([u.timestep for u in ours])
        for a, b in zip(ours, theirs, strict=True):
            scale = float(a.pred_original_sample.abs().max())
            x0 = a.pred_original_sample.flatten()
            np.testing.assert_allclose(b["x0"], x0, atol=2e-4 * scale)
            np.testing.assert_allclose(b["prev"], a.prev_latents.flatten(), atol=1e-3)


def test_pictures_are_torchs_within_one_level(page, tiny):
    checks = [("a red house at night", seed, name) for seed, name in enumerate(sampling.SAMPLERS)]
    assert max(web_model.compare(page, tiny, checks, steps=6)) <= web_model.TOLERANCE


def test_attention_maps_are_torchs(page, tiny):
    prompt = "a red house in the snow"
    options = {"seed": 4, "steps": 1, "guidance": 2.0, "sampler": "ddim"}
    theirs = ask(page, do="picture", prompt=prompt, options=options)["maps"]
    with text.record_attention(tiny) as recorder:
        next(
            sampling.sample_steps(
                tiny, prompt, seed=4, num_inference_steps=1, guidance_scale=2.0, sampler="ddim"
            )
        )
        ours = text.average_maps(recorder.take())[-1]
    np.testing.assert_allclose(theirs, ours.flatten(), atol=1e-4)


# ------------------------------------------------------------------------------------- the folder


def test_the_page_holds_what_it_names(page, tiny):
    """Sizes and digests of the files, in both forms; no dead link but those to the chapters."""
    folder = page / web_model.FILES
    data = json.loads((folder / "page.json").read_text())
    for file in data["files"]:
        packed = (folder / f"{file['name']}.bin").read_bytes()
        assert len(packed) == file["bytes"]
        scripts = [(folder / f"{file['name']}.{i}.js").read_text() for i in range(file["scripts"])]
        pieces = [base64.b64decode(re.fullmatch(r'tinySD\("(.*)"\);\n', s)[1]) for s in scripts]
        assert b"".join(pieces) == packed and max(map(len, pieces)) <= web_model.SCRIPT_BYTES
    assert data["defaults"] == hub.defaults_of(tiny)._asdict()
    assert data["samplers"] == list(sampling.SAMPLERS)
    assert "Microsoft" in (folder / "LICENSE-onnxruntime.txt").read_text()


def test_a_site_without_npm_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(web_model.shutil, "which", lambda name: None)
    (tmp_path / "index.html").write_text("<h1>sdlearn</h1>")
    assert web_model.add_to_site(tmp_path, tmp_path / "cache") == []
    assert "The site has no live page: npm and node are not installed." in capsys.readouterr().out
    assert [p.name for p in tmp_path.glob("live*")] == []


def test_alone_the_page_leads_nowhere_else(page):
    """In a class kit it has no chapters beside it."""
    assert site.check(page) == []


def test_the_live_page_is_the_sites_first(monkeypatch, page, tmp_path, capsys):
    """It holds the way to every chapter and to the contents; old addresses lead to it."""
    monkeypatch.setattr(web_model, "cached", lambda cache: page)
    (tmp_path / "contents.html").write_text("<h1>sdlearn</h1><p>text</p>")
    (tmp_path / "index.html").write_text("<h1>sdlearn</h1><p>text</p>")
    (tmp_path / "notebooks").mkdir()
    chapters = web_model.chapter_links()
    assert all(about["question"].endswith("?") for about in chapters.values())
    for chapter in chapters.values():
        (tmp_path / chapter["address"]).write_text("")
    mark = site_controls.live_mark({"prompt": "a red cat", "seed": 3})
    (tmp_path / "notebooks" / "x.html").write_text(f"<p>{mark}</p>")
    assert web_model.add_to_site(tmp_path, tmp_path / "cache") == []
    first = site.Page(tmp_path / "index.html")
    wanted = {"contents.html", *(about["address"] for about in chapters.values())}
    assert wanted <= set(first.links) and "live/page.js" in first.loads
    assert 'href="index.html"' in (tmp_path / "contents.html").read_text()
    assert 'href="../index.html"' in (tmp_path / "live" / "index.html").read_text()
    address = "../index.html#prompt=a+red+cat&seed=3"
    assert f'href="{address}"' in (tmp_path / "notebooks" / "x.html").read_text()
    assert site.check(tmp_path) == []
    monkeypatch.setattr(web_model, "MAX_BYTES", 1000)
    assert "too much" in web_model.add_to_site(tmp_path, tmp_path / "cache")[0]


def test_the_page_stays_small():
    modules = [*web_model.WEB.glob("*.mjs"), web_model.WEB / "offline.js"]
    lines = [line for path in modules for line in path.read_text().splitlines()]
    assert len(lines) <= 1200
    assert [line for line in lines if len(line) > 100] == []


def test_asked_and_seen_as_the_judge_says(page):
    """Readings of sentences, and of pictures that show something else, as the judge has them."""
    rng = np.random.default_rng(1)
    scenes = [(world.sample_scene(rng), world.sample_scene(rng)) for _ in range(300)]
    cases, expected = [], []
    for k, (wanted, drawn) in enumerate(scenes):
        drawn = wanted if k % 3 == 0 else drawn
        prompt = world.caption(wanted, rng)
        things = [vars(thing) for thing in drawn.things]
        place, time = drawn.place, drawn.time
        cases.append({"prompt": prompt, "seen": {"things": things, "place": place, "time": time}})
        seen = judge.Seen(drawn.things, place, time, (1.0,) * (len(things) + 2), np.zeros(1))
        expected.append(judge.compare_readings(judge.read_prompt(prompt), seen))
    answers = ask(page, do="seen", cases=cases)
    for case, ours, theirs in zip(cases, expected, answers, strict=True):
        missing = [wish["text"] for wish in theirs["wishes"] if not wish["there"]]
        assert missing == list(ours.missing), case
        assert theirs["extra"] == list(ours.extra), case
        assert [wish["text"] for wish in theirs["wishes"]] == list(ours.asked.words), case
