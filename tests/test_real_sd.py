"""The real Stable Diffusion's folder, cache layout and size, with random weights: the promise
"change one line" proved where its weights cannot be had.

The shrunken model has SD 1.5's shape of configuration (four blocks, two layers each, 77 tokens,
PNDM, half precision file names) and other sizes.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import claims
import fake_sd
import lesson
import nbformat
import numpy as np
import pytest
import torch

from sdlearn import hub, memory, models, sampling
from sdlearn.chapters import cascade
from sdlearn.training import race

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted(p.name for p in (ROOT / "notebooks").glob("0*.ipynb"))


@pytest.fixture(scope="session")
def shrunken(tmp_path_factory):
    return fake_sd.folder(tmp_path_factory.mktemp("sd") / "shrunken")


@pytest.fixture
def spoilt(shrunken, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(shrunken, tmp_path / "model"))


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """An empty hub cache: ``cached(hub_id, folder)`` puts a model in."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return lambda hub_id, folder, commit=fake_sd.COMMIT: fake_sd.cache(
        tmp_path / "cache", hub_id, folder, commit
    )


def free(monkeypatch, gb):
    monkeypatch.setattr(memory, "free", lambda device: gb)


def library(pipe, sampler="ddim", **changes):
    return models.build_pipeline(
        pipe.vae,
        pipe.text_encoder,
        pipe.tokenizer,
        pipe.unet,
        models.build_scheduler(sampler, **changes),
    )


def largest_difference(ours, theirs):
    return max(
        np.abs(np.asarray(a, int) - np.asarray(b, int)).max()
        for a, b in zip(ours, theirs, strict=True)
    )


# ----------------------------------------------------------------------------------- shape and size


def test_full_size_has_the_published_number_of_parameters():
    """859,520,964 in the U-Net, 123,060,480 in the text encoder, 83,653,863 in the autoencoder: on
    the meta device, which takes no memory."""
    pipe = models.random_sd15()
    counts = [
        sum(p.numel() for p in part.parameters())
        for part in (pipe.unet, pipe.text_encoder, pipe.vae)
    ]
    assert counts == list(fake_sd.PUBLISHED.values())
    assert pipe.text_encoder.dtype == pipe.unet.dtype == torch.float16
    for gb, count in zip(
        hub.MODELS["sd15"].parts_gb, (counts[1], counts[0], counts[2]), strict=True
    ):
        assert gb == round(2e-9 * count, 2), "the table's sizes are those of the weights"


def test_shrunken_model_differs_from_both_in_every_size(shrunken):
    pipe = hub.load_pipeline(shrunken, device="cpu")
    sizes = {
        pipe.unet.config.sample_size,
        pipe.vae.config.sample_size,
        pipe.unet.config.cross_attention_dim,
        pipe.vae.config.scaling_factor,
    }
    tiny = {
        models.TINY_UNET["sample_size"],
        models.TINY_VAE["sample_size"],
        models.TINY_UNET["cross_attention_dim"],
    }
    real = {
        models.SD15_UNET["sample_size"],
        models.SD15_VAE["sample_size"],
        models.SD15_UNET["cross_attention_dim"],
        models.SD15_VAE["scaling_factor"],
    }
    assert len(sizes) == 4 and not sizes & (tiny | real)
    assert (
        len(pipe.unet.config.down_block_types) == 4
        and pipe.unet.config.layers_per_block == 2
        and pipe.tokenizer.model_max_length == 77
    )
    assert type(pipe.scheduler).__name__ == "PNDMScheduler" and pipe.safety_checker is None
    assert {p.dtype for p in (pipe.unet, pipe.vae, pipe.text_encoder)} == {torch.float32}, (
        "half precision on disk, one precision in memory"
    )


# --------------------------------------------------------------------------------- found and loaded


def test_by_path_by_environment_and_by_hub_id_offline(shrunken, cached, monkeypatch):
    cached("somebody/a-model", shrunken)
    a = hub.load_pipeline(shrunken, device="cpu")
    monkeypatch.setenv("SDLEARN_MODEL", str(shrunken))
    b = hub.load_pipeline(device="cpu")
    monkeypatch.setenv("SDLEARN_MODEL", "somebody/a-model")
    c = hub.load_pipeline(device="cpu")
    for other in (b, c):
        for part in ("unet", "vae", "text_encoder"):
            assert all(
                torch.equal(x, y)
                for x, y in zip(
                    getattr(a, part).parameters(), getattr(other, part).parameters(), strict=True
                )
            )


def test_short_name_takes_the_pinned_commit_then_main_then_the_mirror(shrunken, cached, tmp_path):
    first, mirror = hub.MODELS["sd15"].hub_ids
    cached(mirror, shrunken)
    assert mirror.replace("/", "--") in str(hub._from_hub((first, mirror), hub.MODELS["sd15"])), (
        "the mirror, if nothing else is there"
    )
    main = cached(first, shrunken)
    assert hub._from_hub((first, mirror), hub.MODELS["sd15"]) == main, (
        "what main pointed to when it was fetched"
    )
    shutil.rmtree(tmp_path / "cache" / f"models--{first.replace('/', '--')}")
    pinned = cached(first, shrunken, hub.MODELS["sd15"].revisions[0])
    assert hub._from_hub((first, mirror), hub.MODELS["sd15"]) == pinned


def test_nothing_is_said_of_fetching_what_is_in_the_cache(shrunken, cached, monkeypatch, capsys):
    cached(hub.MODELS["sd15"].hub_ids[0], shrunken)
    free(monkeypatch, 24)
    hub.load_pipeline("sd15", device="cpu")
    assert "Fetching" not in capsys.readouterr().out


def test_offline_in_a_process_of_its_own(shrunken, tmp_path):
    """As a learner would: HF_HOME, HF_HUB_OFFLINE=1, a network that answers nothing, the command
    line."""
    fake_sd.cache(tmp_path / "hf" / "hub", "somebody/a-model", shrunken)
    log = tmp_path / "network.log"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SDLEARN_", "HF_"))}
    env |= {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "offline"), str(ROOT)]),
        "SDLEARN_NETWORK_LOG": str(log),
    }
    command = [
        sys.executable,
        "-m",
        "sdlearn",
        "a cat",
        "--model",
        "somebody/a-model",
        "--steps",
        "2",
        "--seed",
        "1",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a-cat_1.png").exists() and "ms a step" in done.stdout
    assert not log.exists(), f"tried to reach {log.read_text()}"


def test_sample_equals_the_library_on_it(shrunken):
    """The whole loop, for two prompts and a negative one, on SD 1.5's shape of configuration: at
    most one level of 255 apart."""
    pipe = hub.load_pipeline(shrunken, device="cpu")
    prompts = ["a red house in the snow", "a cat"]
    options = dict(num_inference_steps=4, guidance_scale=5.0, sampler="ddim", seed=3)
    ours = sampling.sample(pipe, prompts, negative_prompt="at night", **options)
    theirs = library(pipe)(
        prompts,
        negative_prompt=["at night"] * 2,
        num_inference_steps=4,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(3),
    ).images
    assert ours[0].size == (pipe.vae.config.sample_size,) * 2
    assert largest_difference(ours, theirs) <= 1


def test_sd_turbo_one_step(shrunken):
    """The setting that the table advises for sd-turbo is the library's single Euler step with
    trailing timesteps, without guidance."""
    assert all(
        word in hub.MODELS["sd-turbo"].note
        for word in ("num_inference_steps=1", 'sampler="euler"', "guidance_scale=1")
    )
    pipe = hub.load_pipeline(shrunken, device="cpu")
    ours = sampling.sample(
        pipe, "a cat", num_inference_steps=1, sampler="euler", guidance_scale=1.0, seed=3
    )
    theirs = library(pipe, "euler", timestep_spacing="trailing")(
        "a cat",
        num_inference_steps=1,
        guidance_scale=0.0,
        generator=torch.Generator().manual_seed(3),
    ).images
    assert largest_difference(ours, theirs) <= 1


def test_inpainting_model_says_what_drives_it(pipe):
    """Its U-Net reads nine channels: our samplers refuse in a sentence, the library's inpainting
    pipeline runs."""
    from PIL import Image

    unet = models.build_unet(
        sample_size=8,
        in_channels=9,
        block_out_channels=(16, 32, 32),
        attention_head_dim=2,
        norm_num_groups=8,
        cross_attention_dim=32,
    ).eval()
    nine = models.build_pipeline(pipe.vae, pipe.text_encoder, pipe.tokenizer, unet)
    with pytest.raises(ValueError, match=r"models\.as_pipeline\(\"inpaint\", pipe\)"):
        sampling.sample(nine, "a cat")
    picture = Image.new("RGB", (64, 64), "red")
    made = models.as_pipeline("inpaint", nine)(
        "a cat",
        image=picture,
        mask_image=picture.convert("L").point(lambda _: 255),
        height=64,
        width=64,
        num_inference_steps=1,
    ).images[0]
    assert made.size == (64, 64)


# ----------------------------------------------------------------------------------------- fetching


@pytest.fixture
def shop(monkeypatch, cached, shrunken, tmp_path):
    """A hub that is not there: ``shop[hub_id] = folder`` (or an exception) offers a model;
    ``shop.fetched`` lists what was taken."""
    import huggingface_hub

    class Shop(dict):
        fetched = ()

    offers = Shop()

    def model_info(self, hub_id, revision=None, files_metadata=False):
        if isinstance(offers.get(hub_id), Path):
            names = [f for f in offers[hub_id].rglob("*") if f.is_file()]
            siblings = [
                type(
                    "File",
                    (),
                    {
                        "rfilename": f.relative_to(offers[hub_id]).as_posix(),
                        "size": f.stat().st_size,
                    },
                )
                for f in names
            ]
            return type("Info", (), {"siblings": siblings})
        raise offers.get(hub_id) or ConnectionError("no route to the hub")

    in_the_cache = huggingface_hub.snapshot_download

    def snapshot_download(hub_id, revision=None, allow_patterns=(), local_files_only=False):
        if local_files_only:
            return in_the_cache(hub_id, revision=revision, local_files_only=True)
        offers.fetched = sorted(allow_patterns)
        taken = tmp_path / "taken"
        for name in allow_patterns:
            (taken / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(offers[hub_id] / name, taken / name)
        return str(cached(hub_id, taken, revision or fake_sd.COMMIT))

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)

    def hf_hub_download(hub_id, filename, revision=None):
        return str(offers[hub_id] / filename)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return offers


def test_what_is_fetched_is_said_before_and_is_no_more_than_needed(
    shop, spoilt, monkeypatch, capsys
):
    """Half precision and safetensors only; no pickles, no code, no second precision, no safety
    checker. The second time nothing is fetched."""
    for extra in (
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.bin",
        "v1-5-pruned.ckpt",
        "pipeline.py",
        "safety_checker/model.fp16.safetensors",
        "README.md",
    ):
        (spoilt / extra).parent.mkdir(exist_ok=True)
        (spoilt / extra).write_bytes(b"x")
    card = hub.MODELS["sd15"]
    shop[card.hub_ids[0]] = spoilt
    free(monkeypatch, 24)
    hub.load_pipeline("sd15", device="cpu")
    said = capsys.readouterr().out
    assert said.startswith(
        f"Fetching {card.about} ({card.licence}) from huggingface.co/{card.hub_ids[0]}: 0.0 GB, "
        "once; it is kept in "
    )
    assert [f for f in shop.fetched if not f.endswith((".json", "merges.txt"))] == [
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]
    assert not any("safety" in f for f in shop.fetched)
    hub.load_pipeline("sd15", device="cpu")
    assert "Fetching" not in capsys.readouterr().out


def test_plain_files_are_taken_where_there_is_no_half_precision(shop, tmp_path):
    shop["somebody/plain"] = fake_sd.folder(tmp_path / "plain", variant=None)
    pipe = hub.load_pipeline("somebody/plain", device="cpu")
    assert (
        pipe.unet.dtype == torch.float32
        and "unet/diffusion_pytorch_model.safetensors" in shop.fetched
    )


def test_mixed_precisions_of_the_parts(spoilt):
    """As BK-SDM-Small comes: the U-Net in half precision, the other parts plain."""
    for part in ("vae", "text_encoder"):
        (file,) = (spoilt / part).glob("*.safetensors")
        file.rename(file.with_name(file.name.replace(".fp16", "")))
    assert sampling.sample(
        hub.load_pipeline(spoilt, device="cpu"), "a cat", num_inference_steps=1, seed=0
    )


def test_mirror_is_asked_when_the_first_is_silent(shop, shrunken, monkeypatch, capsys):
    mirror = hub.MODELS["sd15"].hub_ids[1]
    shop[mirror] = shrunken
    free(monkeypatch, 24)
    hub.load_pipeline("sd15", device="cpu")
    assert f"huggingface.co/{mirror}" in capsys.readouterr().out


# -------------------------------------------------------------------------------- one sentence each


def sentence(call, *words, error=FileNotFoundError):
    with pytest.raises(error) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said and all(word in said for word in words), said


def test_unknown_id_offline(cached):
    sentence(
        lambda: hub.load_pipeline("nobody/nothing"),
        "nobody/nothing: it is not in the cache, and HF_HUB_OFFLINE forbids to fetch it",
        "pass a local folder",
    )


def test_every_mirror_is_named_when_none_answers(cached, monkeypatch):
    free(monkeypatch, 24)
    sentence(
        lambda: hub.load_pipeline("sd15"),
        *hub.MODELS["sd15"].hub_ids,
        "check the name and the network",
    )


def test_hub_that_cannot_be_reached_refuses_or_asks_for_a_login(shop, monkeypatch):
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    sentence(lambda: hub.load_pipeline("a/b"), "a/b: it cannot be reached (ConnectionError)")
    shop["a/b"] = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    sentence(lambda: hub.load_pipeline("a/b"), "the hub has no public model of this name")
    shop["a/b"] = GatedRepoError.__new__(GatedRepoError)
    sentence(lambda: hub.load_pipeline("a/b"), "accept its licence on its page", "hf auth login")


def test_disk_that_is_full(shop, shrunken, monkeypatch):
    import huggingface_hub

    shop["a/b"] = shrunken

    def full(*args, local_files_only=False, **kwargs):
        raise OSError(28, "No space left on device") if not local_files_only else OSError("none")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    sentence(lambda: hub.load_pipeline("a/b"), "a/b: [Errno 28] No space left on device")


def test_half_a_download(cached, spoilt):
    (file,) = (spoilt / "unet").glob("*.safetensors")
    content = file.read_bytes()
    file.unlink()
    snapshot = cached("a/b", spoilt)
    (snapshot.parents[1] / "blobs" / "cafe.incomplete").write_bytes(content[:1000])
    sentence(
        lambda: hub.load_pipeline("a/b"),
        "a/b: ",
        "unet has no weights (*.safetensors): the model is incomplete; fetch it again",
    )


@pytest.mark.skipif(os.name == "nt", reason="a cache with links")
def test_blob_that_is_gone(cached, shrunken):
    snapshot = cached("a/b", shrunken)
    (link,) = (snapshot / "vae").glob("*.safetensors")
    link.resolve().unlink()
    sentence(lambda: hub.load_pipeline("a/b"), "is damaged", "fetch it again")


def test_damaged_safetensors_in_the_cache(cached, shrunken):
    snapshot = cached("a/b", shrunken)
    (file,) = (snapshot / "unet").glob("*.safetensors")
    file.resolve().write_bytes(file.read_bytes()[:5000])
    sentence(
        lambda: hub.load_pipeline("a/b"),
        "diffusion_pytorch_model.fp16.safetensors is damaged",
        "delete it and fetch it again",
    )


@pytest.mark.parametrize("where", ["cache", "hub"])
def test_pickles_only(cached, shop, spoilt, where):
    (file,) = (spoilt / "unet").glob("*.safetensors")
    file.rename(file.with_name("diffusion_pytorch_model.fp16.bin"))
    if where == "cache":
        cached("a/b", spoilt)
        words = ["holds only diffusion_pytorch_model.fp16.bin, a pickle, which can run any code"]
    else:
        shop["a/b"] = spoilt
        words = ["its unet does not come as safetensors, and pickles", "are refused"]
    sentence(lambda: hub.load_pipeline("a/b"), *words)
    assert not any(f.endswith(".bin") for f in shop.fetched)


@pytest.mark.parametrize(
    "change", [{"unet": ["evil_module", "Net"]}, {"_class_name": ["evil_module", "Pipeline"]}]
)
def test_code_that_comes_with_a_model_is_not_run(spoilt, change):
    index = json.loads((spoilt / "model_index.json").read_text())
    (spoilt / "model_index.json").write_text(json.dumps(index | change))
    trace = spoilt / "trace"
    for place in (spoilt, spoilt / "unet"):
        (place / "evil_module.py").write_text(f"open({str(trace)!r}, 'w')")
    sentence(
        lambda: hub.load_pipeline(spoilt),
        "asks to run code that comes with the model",
        error=ValueError,
    )
    assert not trace.exists()


@pytest.mark.skipif(
    not (hub.TINY_SD / "model_index.json").exists(), reason="Tiny SD is not trained yet"
)
def test_too_little_memory_gives_tiny_sd_and_says_why(shop, shrunken, monkeypatch, capsys):
    free(monkeypatch, 1.0)
    pipe = hub.load_pipeline("sd15", device="cpu")
    said = capsys.readouterr().out
    assert pipe.unet.config.sample_size == models.TINY_UNET["sample_size"]
    assert (
        "Tiny SD instead of it: it needs" in said
        and "1.0 GB are free" in said
        and "Fetching" not in said
    ), "nothing is fetched in vain"
    free(monkeypatch, 0.01)
    assert (
        hub.load_pipeline(shrunken, device="cpu").unet.config.sample_size
        == models.TINY_UNET["sample_size"]
    )


SD15 = hub.MODELS["sd15"]


# ------------------------------------------------------------------------------------ the full size


def room():
    import psutil

    return shutil.disk_usage(ROOT).free > 8e9 and psutil.virtual_memory().available > 12e9


@pytest.mark.slow
@pytest.mark.skipif(not room(), reason="needs 8 GB of disk and 12 GB of memory")
def test_full_size_is_written_found_and_sampled(tmp_path, monkeypatch, capsys):
    """1,066 million random weights in half precision, 2.1 GB on disk: by path and by hub id
    offline; one guided step equals the library's."""
    from huggingface_hub import constants

    folder = fake_sd.folder(tmp_path / "sd15", shrink={})
    assert 2.1e9 < sum(f.stat().st_size for f in folder.rglob("*.safetensors")) < 2.2e9
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    fake_sd.cache(tmp_path / "cache", SD15.hub_ids[0], folder, SD15.revisions[0])
    shutil.rmtree(folder)
    pipe = hub.load_pipeline("sd15", device="cpu")
    assert (
        sum(
            p.numel()
            for part in (pipe.unet, pipe.text_encoder, pipe.vae)
            for p in part.parameters()
        )
        == 1_066_235_307
    )
    assert pipe.unet.dtype == torch.float32 and pipe.unet.config.sample_size == 64
    options = dict(num_inference_steps=1, guidance_scale=5.0, sampler="ddim", seed=3)
    ours = sampling.sample(pipe, "a cat", **options)
    theirs = library(pipe)(
        "a cat",
        num_inference_steps=1,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(3),
    ).images
    assert ours[0].size == (512, 512) and largest_difference(ours, theirs) <= 1


# ------------------------------------------------------------------------------------ the notebooks


SIZES = (512, 64, 768, 77, 0.18215)
OTHER = {  # the same numbers, counting something else
    "pictures[:64]": "drawn scenes to learn from",
    "pictures[64:]": "drawn scenes to measure on",
    "scenes[64:71]": "drawn scenes that are shown",
    "[1, 2, 4, 8, 16, 32, 64]": "principal components kept",
    ".mean(2) / 64": "a difference of brightness, four times enlarged",
}


def literals(source: str, before: str = "") -> list[str]:
    """Stable Diffusion's sizes that stand as numbers in a cell's code, unless the cell's own texts
    and comments, or the paragraph before, speak of the number."""
    from IPython.core.inputtransformer2 import TransformerManager

    for other in OTHER:
        source = source.replace(other, other.replace("64", "65"))
    nodes = list(ast.walk(ast.parse(TransformerManager().transform_cell(source))))
    browser = {
        id(k.value) for n in nodes if isinstance(n, ast.Call) for k in n.keywords if k.arg == "size"
    }  # how wide a control shows its pictures, not how large they are
    told = " ".join(
        [
            before,
            *(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)),
            *re.findall(r"#.*", source),
        ]
    )
    numbers = [
        n
        for n in nodes
        if isinstance(n, ast.Constant)
        and type(n.value) in (int, float)
        and n.value in SIZES
        and id(n) not in browser
    ]
    return [
        f"line {n.lineno}: {n.value}"
        for n in numbers
        if not re.search(rf"(?<![\w.]){n.value}(?![\w])", told)
    ]


@pytest.mark.parametrize("name", CHAPTERS)
def test_cells_hold_no_literal_size(name):
    """512, 64, 768, 77 and 0.18215 are Stable Diffusion's sizes: cells read them from the model's
    configuration, or explain the number."""
    cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
    before = ["", *(c.source if c.cell_type == "markdown" else "" for c in cells)]
    found = {i: literals(c.source, before[i]) for i, c in enumerate(cells) if c.cell_type == "code"}
    assert {i: lines for i, lines in found.items() if lines} == {}


def test_literals_are_found():
    assert literals("x = 512\ny = 0.18215 * 77") == ["line 1: 512", "line 2: 0.18215", "line 2: 77"]
    assert literals("!ls 64\nx = 1512 + x64 + 64.5\nFrameScrubber(f, size=512)") == []
    assert (
        literals("x = 512", "A picture of 512 x 512 pixels") == literals("x = 512  # 512 px") == []
    )
    assert literals("x = 64", "A picture of 1640 pixels") == ["line 1: 64"]


FAST = ("00",)  # the other chapters under --all: they differ in what they draw, not in kind


def random_race(folder: Path) -> Path:
    """The rivals of chapter 07 with random weights, beside the measured file of those that ship."""
    for name in cascade.RACE_UNETS:
        race.keep(folder, name, race.build(name), {})
    for path in ("race.json", "equal_time.webp"):
        shutil.copy(cascade.RACE / path, folder)
    return folder


@pytest.mark.notebooks
@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize(
    "chapter",
    [pytest.param(c, marks=() if c[:2] in FAST else pytest.mark.slow) for c in CHAPTERS],
)
def test_chapter_runs_on_the_shrunken_model(chapter, shrunken, tmp_path):
    """Every cell runs with SDLEARN_MODEL set to Stable Diffusion 1.5's shape of configuration and
    other sizes: nothing depends on Tiny SD, or it says so. Its weights are random, so they refute
    every sentence about what Tiny SD's weights do: a claim that they bear out proves nothing."""
    wanted = [c for c in claims.of(chapter) if not c.measured and not c.long]
    path = ROOT / "notebooks" / chapter
    other = dict(SDLEARN_MODEL=str(shrunken), SDLEARN_RACE=str(random_race(tmp_path / "race")))
    ran = lesson.headless(path, tmp_path, wanted, **other)
    errors = [f"{c['id']}: {o['evalue']}" for c in ran.cells for o in c["outputs"] if "evalue" in o]
    assert errors == [] and all(cell["count"] for cell in ran.cells)
    false = {said.split()[1].rstrip(":") for said in lesson.refuted(ran, wanted)}
    assert [c.name for c in wanted if c.name not in false and not c.any_weights] == []
