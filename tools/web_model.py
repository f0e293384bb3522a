"""The live page, Tiny SD in a browser: ``python -m tools.web_model FOLDER``; ``run.py site`` makes
it the site's first page.

Each network becomes an ONNX file with its weights stored in half precision (as they ship, so
nothing is lost) and a Cast behind each: onnxruntime folds the casts when it opens the file and
computes in float32. Every file is written twice, as gzip for pages that come from a server, and
as scripts that hold the same in base64, the only thing that a page opened from a disk may load.
Before anything is handed out, Node runs the files and the pictures are compared with torch's.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sdlearn import compression, hub, load_pipeline, sampling, text, world
from sdlearn.judge import load_judge
from sdlearn.widgets import PromptPanel
from tools.notebooks import ROOT

WEB = ROOT / "web"
FILES = "live"  # the folder beside the page that holds what it loads, as in web/files.mjs
ORT = WEB / "node_modules" / "onnxruntime-web"
LEAST = 1024  # numbers in a weight that is worth storing in half precision
OPSET = 17
QUICK = {  # the notebook panel's, so that both draw the same while one types
    "num_inference_steps": PromptPanel.QUICK_STEPS,
    "guidance_scale": PromptPanel.QUICK_GUIDANCE,  # at most: see quickly() in web/page.mjs
    "sampler": "dpm++",
}
CHECKS = (
    ("a red house in the snow at night", 0, "ddim"),
    ("a yellow cat and a blue boat by the sea at sunset", 7, "dpm++"),
    ("an Ünknown zebra's 3 balloons", 2**32 - 1, "euler"),
)
MAX_BYTES = 26_000_000  # sent before the first picture
SCRIPT_BYTES = (
    3 << 18
)  # packed bytes in one script: small, because its text stays in memory a while
MADE_OF = (".py", ".json", ".safetensors")  # files of the package that the page depends on
TOLERANCE = 1  # levels of 255 by which a pixel may differ from the notebook's


class Missing(RuntimeError):
    """The live page cannot be built here; the message says what is missing."""


class Part(torch.nn.Module):
    """A network with plain tensors in and out, as ``torch.onnx`` wants it."""

    def __init__(self, net: torch.nn.Module, run: Callable):
        super().__init__()
        self.net, self.run = net, run

    def forward(self, *inputs: torch.Tensor):
        return self.run(self.net, *inputs)


# ------------------------------------------------------------------------------------- networks


def blocks(unet) -> list[tuple[str, torch.nn.Module]]:
    """The U-Net's blocks from the noisy latents down and up again, by name."""
    return [
        ("in", unet.conv_in),
        *((f"down_{i + 1}", block) for i, block in enumerate(unet.down_blocks)),
        ("middle", unet.mid_block),
        *((f"up_{i + 1}", block) for i, block in enumerate(unet.up_blocks)),
    ]


def unet_part(pipe) -> tuple[Part, list[dict]]:
    """The U-Net with what the page shows of its inside, and the sizes of its blocks.

    Outputs: noise (B, 4, h, w); maps (tokens, side, side), where each token was read in the last
    picture of the batch; and for each block the root mean square over its channels, (h, w).
    """
    unet, recorder, answers = pipe.unet, text.AttentionRecorder(), {}

    def keep(name: str):
        def hook(_module, _inputs, out):
            answers[name] = out[0] if isinstance(out, tuple) else out

        return hook

    for name, block in blocks(unet):
        block.register_forward_hook(keep(name))
    unet.set_attn_processor(
        {name: recorder if ".attn2." in name else old for name, old in unet.attn_processors.items()}
    )

    def run(net, latents, t, states):
        noise = net(latents, t, encoder_hidden_states=states).sample
        maps = text.average_maps(recorder.take())[-1]
        return noise, maps, *(a[-1].square().mean(0).sqrt() for a in answers.values())

    part = Part(unet, run)
    with torch.no_grad():
        part(*examples(pipe)["unet"])
    shapes = {name: answer.shape for name, answer in answers.items()}
    return part, [{"name": n, "channels": s[1], "side": s[2]} for n, s in shapes.items()]


def examples(pipe) -> dict[str, tuple[torch.Tensor, ...]]:
    """Inputs of each network, of the shapes that the page uses."""
    config, length = pipe.unet.config, pipe.tokenizer.model_max_length
    latents = torch.zeros(2, config.in_channels, config.sample_size, config.sample_size)
    side = compression.picture_size(pipe)
    return {
        "text_encoder": (torch.zeros(2, length, dtype=torch.int64),),
        "unet": (latents, torch.ones(1), torch.zeros(2, length, config.cross_attention_dim)),
        "vae_decoder": (latents[:1],),
        "judge": (torch.zeros(1, 3, side, side),),
    }


def half_weights(model):
    """The ONNX model with large weights in half precision, each with a Cast back to float32."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = list(model.graph.node)
    del model.graph.node[:]
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) >= LEAST:
            stored = f"{weight.name}.f16"
            cast = helper.make_node("Cast", [stored], [weight.name], to=TensorProto.FLOAT)
            model.graph.node.append(cast)
            values = numpy_helper.to_array(weight).astype(np.float16)
            weight.CopyFrom(numpy_helper.from_array(values, stored))
    model.graph.node.extend(nodes)
    return model


def swap_last(graph, x):
    """How ``tensor.mT`` is said in ONNX; the exporter has no word for it."""
    axes = list(range(x.type().dim()))
    return graph.op("Transpose", x, perm_i=[*axes[:-2], axes[-1], axes[-2]])


def to_onnx(part: Part, inputs: tuple, names: list[str], outputs: list[str]) -> bytes:
    """One network as the bytes of an .onnx file."""
    import onnx

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer speaks of branches that never change here
        path = Path(folder, "raw.onnx")
        torch.onnx.register_custom_op_symbolic("aten::mT", swap_last, OPSET)
        torch.onnx.export(
            part.eval(),
            inputs,
            path,
            input_names=names,
            output_names=outputs,
            dynamo=False,
            opset_version=OPSET,
        )
        return half_weights(onnx.load(path)).SerializeToString()


def networks(pipe, judge) -> tuple[dict[str, bytes], list[dict]]:
    """The .onnx files by name, and the sizes of the U-Net's blocks."""
    inputs, factor = examples(pipe), pipe.vae.config.scaling_factor
    encoder = Part(pipe.text_encoder, lambda net, ids: net(ids)[0])
    decoder = Part(pipe.vae, lambda net, x: net.decode(x / factor).sample)
    files = {
        "text_encoder": to_onnx(encoder, inputs["text_encoder"], ["ids"], ["states"]),
        "vae_decoder": to_onnx(decoder, inputs["vae_decoder"], ["latents"], ["pixels"]),
    }
    part, levels = unet_part(pipe)
    outputs = ["noise", "maps", *(level["name"] for level in levels)]
    files["unet"] = to_onnx(part, inputs["unet"], ["latents", "t", "text"], outputs)
    if judge is not None:
        heads = ["kind", "colour", "place", "time"]
        part = Part(judge, lambda net, x: [net(x)[h].softmax(-1) for h in heads])
        files["judge"] = to_onnx(part, inputs["judge"], ["pixels"], heads)
    return {f"{name}.onnx": data for name, data in files.items()}, levels


def find_judge(folder: Path):
    """The judge that belongs to this model, or None where it has none that fits this world."""
    try:
        return load_judge(folder)
    except (FileNotFoundError, ValueError):
        return None


# --------------------------------------------------------------------------------- the page's data


def said(pipe, prompt: str) -> dict[str, str]:
    """What the notebook says of a prompt, by the kind of note."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        text.check_prompt(pipe, prompt)
    kinds = dict.fromkeys(note.kind for note in text.prompt_notes(pipe, prompt))
    return dict(zip(kinds, (str(w.message) for w in caught), strict=True))


def templates(pipe) -> dict[str, str]:
    """Every sentence about a prompt, with names in braces where the words stand.

    Each is what Python says of an example, with the example's words taken out again, so there is
    one list of sentences; tests compare the page's sentences with Python's on other prompts.
    """
    thing, other, third = list(world.KINDS)[:3]
    red, green = world.COLOURS[:2]
    room = pipe.tokenizer.model_max_length - 2
    long = " ".join([thing] * (room + 2))
    lost = next(note.word for note in text.prompt_notes(pipe, long) if note.kind == "long")
    examples = {
        "empty": ("", {}),
        "long": (long, {str(room + 2): "count", repr(lost): "word"}),
        "negation": (f"not {thing}", {repr("not"): "word"}),
        "number": (f"seven {thing}", {repr("seven"): "word"}),
        "plural": (f"{thing}s", {repr(f"{thing}s"): "word", repr(thing): "suggestion"}),
        "weight": (f"(({thing}", {"((": "word"}),
        "third": (f"{thing} {other} {third}", {repr(third): "word"}),
        "mixed": (f"{red} and {green} {thing}", {repr(f"{red} and {green}"): "word"}),
        "symbol": (f"{thing} %", {repr("%"): "word"}),
        "nothing": ("a", {}),
        "unknown": (f"{thing} qzx", {repr("qzx"): "hints"}),
        "unknowns": (f"{thing} qzx xqz", {f"{'qzx'!r}, {'xqz'!r}": "hints"}),
    }
    found = {}
    for kind, (prompt, parts) in examples.items():
        sentence = said(pipe, prompt)[kind.removesuffix("s")]
        for part, name in parts.items():
            part = repr(part) if part == "((" else part
            if part not in sentence:
                raise RuntimeError(f"no {part} in {sentence!r}: adapt tools/web_model.py")
            sentence = sentence.replace(part, f"{{{name}}}")
        found[kind] = sentence
    word = max(world.KINDS, key=len)
    before, after = found["unknown"].split("{hints}")
    hint = said(pipe, f"{thing} {word}q")["unknown"][len(before) : -len(after)]
    found["hint"] = hint.removeprefix(repr(f"{word}q")).replace(repr(word), "{suggestion}")
    return found


def word_data(pipe) -> dict:
    """What web/words.mjs needs to say of a prompt what the notebook says."""
    thing = next(iter(world.KINDS))
    marks = [c for c in map(chr, range(0x2100)) if not c.isalnum()]
    strange = set()
    for i in range(0, len(marks), 12):  # as many as a note names
        found = text.prompt_notes(pipe, f"{thing} {''.join(marks[i : i + 12])}")
        strange.update(*(note.word for note in found if note.kind == "symbol"))
    return {
        "sentences": templates(pipe),
        "known": sorted(text.known_words(pipe)),
        "kinds": list(world.KINDS),
        "mixed": text.mixed_colors(),
        "told": [*world.KINDS, *world.COLOURS, *world.PLACES, *world.TIMES],
        "negations": sorted(text.NEGATIONS),
        "numbers": sorted(text.NUMBERS),
        "punctuation": [mark for mark in marks if mark not in strange],
    }


def chapter_links() -> dict[str, dict[str, str]]:
    """Title, page and question of each chapter by its number, as seen from the site's first page;
    the questions are those of the README's table."""
    readme, found = (ROOT / "README.md").read_text(encoding="utf-8"), {}
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        heading = next(
            line
            for cell in cells
            if cell["cell_type"] == "markdown"
            for line in "".join(cell["source"]).splitlines()
            if line.startswith("# ")
        )
        asked = re.search(rf"\(notebooks/{path.name}\) \| ([^|]+?) \|", readme)
        found[path.name[:2]] = {
            "title": heading.removeprefix("# ").strip(),
            "address": f"notebooks/{path.stem}.html",
            "question": asked[1] if asked else "",
        }
    return found


def sentences(count: int = 60) -> list[str]:
    """Captions of random scenes: what the page offers to draw."""
    rng = np.random.default_rng(0)
    drawn = [world.caption(world.sample_scene(rng)) for _ in range(count)]
    return sorted(dict.fromkeys(drawn), key=len)


def gallery(pipe, folder: Path, count: int = 6) -> list[dict]:
    """Pictures drawn beforehand, for a page whose model is not loaded; first takes."""
    chosen, shown = defaults_of(pipe), []
    for seed, prompt in enumerate(sentences()[:count]):
        image = sampling.sample(pipe, prompt, seed=seed, **chosen)[0]
        image.save(folder / f"sample_{seed}.png")
        wanted = {
            "prompt": prompt,
            "seed": seed,
            "steps": chosen["num_inference_steps"],
            "guidance": chosen["guidance_scale"],
            "sampler": chosen["sampler"],
        }
        shown.append({"src": f"{FILES}/sample_{seed}.png", "wanted": wanted})
    return shown


def defaults_of(pipe) -> dict:
    """The settings that belong to this model, by the names of ``sample``'s arguments."""
    return dict(hub.defaults_of(pipe)._asdict())


def tokenizer_file(pipe) -> dict:
    """The parts of tokenizer.json that the page reads."""
    model = json.loads(pipe.tokenizer.backend_tokenizer.to_str())["model"]
    return {"model": {name: model[name] for name in ("vocab", "merges")}}


def page_data(pipe, levels: list[dict], judged: bool) -> dict:
    """Everything the page must know: sizes, schedule, words, sentences, settings."""
    unet = pipe.unet.config
    wanted = ("num_train_timesteps", "beta_start", "beta_end")
    return {
        "model": {
            "channels": unet.in_channels,
            "side": unet.sample_size,
            "width": unet.cross_attention_dim,
            "length": pipe.tokenizer.model_max_length,
            "picture": compression.picture_size(pipe),
            "schedule": {name: pipe.scheduler.config[name] for name in wanted},
            "preview": compression.preview_map(pipe).tolist(),
            "levels": levels,
        },
        "tokenizer": tokenizer_file(pipe),
        "parameters": sum(
            p.numel() for net in (pipe.unet, pipe.vae, pipe.text_encoder) for p in net.parameters()
        ),
        "defaults": defaults_of(pipe),
        "quick": QUICK,
        "samplers": list(sampling.SAMPLERS),
        "judged": judged,
        "words": word_data(pipe),
        "sentences": sentences(),
        "world": {
            "kind": list(world.KINDS),
            "colour": list(world.COLOURS),
            "place": list(world.PLACES),
            "time": list(world.TIMES),
            "position": list(world.POSITIONS),
        },
        "phrases": {
            "position": dict(world.POSITION_WORDS),
            "place": {place: words[0] for place, words in world.PLACE_WORDS.items()},
            "time": {time: words[0] for time, words in world.TIME_WORDS.items()},
        },
    }


# ------------------------------------------------------------------------------------- node


def npm() -> None:
    """Fetch what package-lock.json pins, unless it is there.

    Raises:
        Missing: without npm, or where it fails.
    """
    command = shutil.which("npm")
    if command is None or shutil.which("node") is None:
        raise Missing("npm and node are not installed")
    pinned = json.loads((WEB / "package.json").read_text(encoding="utf-8"))["dependencies"]
    there = ORT / "package.json"
    if there.exists():
        version = json.loads(there.read_text(encoding="utf-8"))["version"]
        if version == pinned["onnxruntime-web"]:
            return
    done = subprocess.run(
        [command, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=WEB,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Missing(f"npm could not fetch onnxruntime-web: {reason}")


def bundle(entry: str, *options: str) -> bytes:
    """One of web/'s modules with all that it imports, as a classic script.

    Raises:
        RuntimeError: with esbuild's words, if the source is wrong.
    """
    command = ["node", "node_modules/esbuild/bin/esbuild", entry, "--bundle", "--format=iife"]
    command += ["--minify", "--legal-comments=none", "--target=es2022", *options]
    done = subprocess.run(command, cwd=WEB, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return done.stdout


def ask_node(folder: Path, questions: list[dict]) -> list[dict]:
    """Answers of the page's own modules in Node (web_node.mjs), one for each question."""
    done = subprocess.run(
        ["node", str(Path(__file__).with_name("web_node.mjs")), str(folder)],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise RuntimeError(f"node: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def compare(folder: Path, pipe, checks: tuple = CHECKS, steps: int = 4) -> list[int]:
    """The largest difference of a pixel, in levels of 255, between Node's picture and torch's."""
    guidance = defaults_of(pipe)["guidance_scale"]
    questions = [
        {
            "do": "picture",
            "prompt": prompt,
            "options": {"seed": seed, "steps": steps, "guidance": guidance, "sampler": sampler},
        }
        for prompt, seed, sampler in checks
    ]
    worst = []
    for question, answer in zip(questions, ask_node(folder, questions), strict=True):
        options = question["options"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the unknown words
            ours = sampling.sample(
                pipe,
                question["prompt"],
                seed=options["seed"],
                num_inference_steps=steps,
                guidance_scale=guidance,
                sampler=options["sampler"],
            )[0]
        theirs = np.frombuffer(base64.b64decode(answer["rgba"]), np.uint8)
        theirs = theirs.reshape(*ours.size[::-1], 4)[..., :3]
        worst.append(int(np.abs(theirs.astype(int) - np.asarray(ours, int)).max()))
    return worst


# ------------------------------------------------------------------------------------- the folder


def pack(folder: Path, name: str, data: bytes, **about) -> dict:
    """Write one file as gzip and as scripts; what the page must know of it."""
    packed = gzip.compress(data, 9, mtime=0)
    digest = hashlib.sha256(packed).hexdigest()[:12]
    (folder / f"{name}.bin").write_bytes(packed)  # .gz would be unpacked on the way by some servers
    pieces = [packed[at : at + SCRIPT_BYTES] for at in range(0, len(packed), SCRIPT_BYTES)]
    for i, piece in enumerate(pieces):
        script = f'tinySD("{base64.b64encode(piece).decode()}");\n'
        (folder / f"{name}.{i}.js").write_text(script, encoding="ascii")
    return {
        "name": name,
        "bytes": len(packed),
        "size": len(data),
        "hash": digest,
        "scripts": len(pieces),
        **about,
    }


def export(folder: Path, model: str | os.PathLike | None = None) -> dict:
    """Write the live page of a model into ``folder``, ``index.html`` and beside it a folder of what
    it loads; the page's data.

    Raises:
        Missing: where npm or what it should fetch is missing.
        RuntimeError: if the page's picture is not torch's.
    """
    npm()
    home = hub.resolve(model)[0]
    if home is None:
        raise Missing("only a model that lies in a folder of this computer can be put into a page")
    pipe, judge = load_pipeline(home), find_judge(home)
    beside = folder / FILES
    beside.mkdir(parents=True, exist_ok=True)
    onnx_files, levels = networks(pipe, judge)
    page = page_data(pipe, levels, judge is not None)
    wasm = (ORT / "dist" / "ort-wasm-simd-threaded.wasm").read_bytes()
    files = [
        pack(beside, "worker.js", bundle("worker.mjs")),
        pack(beside, "ort.wasm", wasm),
        # the largest network first: what it needs only while it is opened is free for the others
        *(
            pack(beside, f"{name}.onnx", onnx_files[f"{name}.onnx"], network=name)
            for name in ("unet", "text_encoder", "vae_decoder")
        ),
    ]
    page["files"] = files
    if judge is not None:  # not needed for the first picture
        page["files"].append(
            pack(beside, "judge.onnx", onnx_files["judge.onnx"], network="judge", later=True)
        )
    pipe = load_pipeline(home)  # afresh: without the hooks that the export hung on it
    page["gallery"] = gallery(pipe, beside)
    write_page(folder, page)
    if max(worst := compare(folder, pipe)) > TOLERANCE:
        raise RuntimeError(f"the page's pictures differ from torch's by {worst} levels of 255")
    return page


def write_page(folder: Path, page: dict, chapters: dict | None = None) -> None:
    """The page itself, its script, its style, and the license of what it brings along; with ways to
    the chapters where they lie beside it."""
    beside = folder / FILES
    (beside / "page.json").write_text(json.dumps(page), encoding="utf-8")
    # a "</" inside would end the element that holds the data
    data = json.dumps(page | {"chapters": chapters}).replace("</", "<\\/")
    source = (WEB / "index.html").read_text(encoding="utf-8")
    if chapters is None:
        source = re.sub(r"<!-- course -->.*?<!-- /course -->\n", "", source, flags=re.DOTALL)
    else:
        source = re.sub(r" *<!-- /?course -->\n", "", source)
        rows = (
            f'<li><a href="{about["address"]}">{html.escape(about["title"])}</a> '
            f"<span>{html.escape(about['question'])}</span></li>"
            for about in chapters.values()
        )
        source = source.replace("CHAPTERS", "\n    ".join(rows))
        source = source.replace("FIRST", next(iter(chapters.values()))["address"])
    (folder / "index.html").write_text(source.replace("PAGE", data), encoding="utf-8")
    (beside / "page.js").write_bytes(bundle("page.mjs"))
    for name in ("style.css", "LICENSE-onnxruntime.txt"):
        shutil.copyfile(WEB / name, beside / name)
    shutil.copyfile(WEB / "offline.js", folder / "offline.js")  # it serves the folder it lies in


# ------------------------------------------------------------------------------------- the site


# what tools/site_controls.py leaves beside a control that the live page can do as well
LIVE_MARK = re.compile(r"<!-- live (\S*) -->")
LIVE_LINK = r' <a href="../index.html#\1">Draw it live in this browser</a>.'
# where the page was before it became the first one: links to it, with their settings, still lead on
MOVED = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Tiny SD, live</title>
<script>location.replace("../index.html" + location.hash)</script>
<p>The live page is now <a href="../index.html">the first page</a>.</p>
</html>
"""


def first_bytes(page: dict) -> int:
    """What is sent before the first picture."""
    return sum(file["bytes"] for file in page["files"] if not file.get("later"))


def cached(cache: Path) -> Path:
    """The live page of the model that ships, from the cache unless something it is made of has
    changed since."""
    made_of = [Path(__file__), Path(__file__).with_name("web_node.mjs")]
    made_of += [p for p in WEB.iterdir() if p.is_file()]
    made_of += [p for p in (ROOT / "sdlearn").rglob("*") if p.suffix in MADE_OF]
    digest = hashlib.sha256()
    for path in sorted(made_of):
        digest.update(path.read_bytes())
    kept = cache / f"live-{digest.hexdigest()[:20]}"
    if not (kept / "index.html").exists():
        for old in cache.glob("live-*"):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            export(Path(folder, "live"), hub.TINY_SD)
            Path(folder, "live").rename(kept)
    return kept


def add_to_site(out: Path, cache: Path = ROOT / ".site-cache") -> list[str]:
    """Make the live page the first page of a built site, whose contents lead to it.

    Returns:
        What is wrong, in sentences; nothing where the page cannot be built here, which is said.
    """
    cache.mkdir(exist_ok=True)
    try:
        npm()
        kept = cached(cache)
    except Missing as reason:
        print(f"The site has no live page: {reason}.")
        return []
    shutil.copytree(kept, out, dirs_exist_ok=True)
    page = json.loads((out / FILES / "page.json").read_text(encoding="utf-8"))
    write_page(out, page, chapter_links())
    (out / FILES / "index.html").write_text(MOVED, encoding="utf-8")
    for chapter in (out / "notebooks").glob("*.html"):
        text = chapter.read_text(encoding="utf-8")
        chapter.write_text(LIVE_MARK.sub(LIVE_LINK, text), encoding="utf-8")
    contents, sample = out / "contents.html", page["gallery"][0]
    told = f"Drawn by Tiny SD: {sample['wanted']['prompt']}"
    text = contents.read_text(encoding="utf-8")
    invitation = (
        '<aside class="sd-run" aria-label="The live page"><p><a href="index.html">'
        f'<img src="{sample["src"]}" alt="{html.escape(told)}" width="96" height="96" '
        'style="float: left; margin: 0 1em 0 0"><strong>Draw with Tiny SD in this browser</strong>'
        "</a>: type a sentence, watch the picture come out of the noise, look into every box. "
        f"Nothing to install; {first_bytes(page) / 1e6:.0f} MB.</p>"
        '<div style="clear: both"></div></aside>'
    )
    contents.write_text(text.replace("</h1>", f"</h1>{invitation}", 1), encoding="utf-8")
    if first_bytes(page) > MAX_BYTES:
        return [f"live: {first_bytes(page) / 1e6:.1f} MB before the first picture, too much"]
    return []


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.web_model", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("folder", type=Path, help="where to put it")
    parser.add_argument("--model", help="a model's folder; the one that ships unless told")
    options = parser.parse_args(argv)
    try:
        page = export(options.folder, options.model)
    except Missing as sentence:
        print(f"No live page: {sentence}.", file=sys.stderr)
        return 1
    for file in page["files"]:
        print(f"{file['bytes'] / 1e6:7.2f} MB  {file['name']}")
    print(f"{first_bytes(page) / 1e6:7.2f} MB before the first picture")
    print(f"Open {options.folder / 'index.html'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
