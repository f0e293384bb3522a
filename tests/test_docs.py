"""The teacher's page, the map and the glossary: what they name exists, what they count is counted,
and each prints on one A4 page."""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import fake_sd
import pytest
import torch
from cells import FOLDER

import run
from sdlearn import hub, models, noising

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TEXT = (DOCS / "teaching.md").read_text(encoding="utf-8")
CHAPTERS = {path.stem[:2]: path for path in sorted(FOLDER.glob("0*.ipynb"))}
SECTIONS = {
    m[1]: m[2]
    for m in re.finditer(r"^### (\d\d) [^\n]+\n(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL)
}


def cells(chapter):
    return json.loads(CHAPTERS[chapter].read_text(encoding="utf-8"))["cells"]


def headings(chapter):
    return {
        m[1].strip()
        for c in cells(chapter)
        if c["cell_type"] == "markdown"
        for m in re.finditer(r"^#+ (.+)$", "".join(c["source"]), re.MULTILINE)
    }


def anchors(page):
    """As GitHub makes them: lower case, no punctuation, hyphens for blanks."""
    lines = re.findall(
        r"^#+ (.+)$",
        re.sub(
            r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
        ),
        re.MULTILINE,
    )
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


# ----------------------------------------------------------------------------------------- the page


def test_every_chapter_is_there_under_its_own_title():
    titles = re.findall(r"^### (\d\d .+)$", TEXT, re.MULTILINE)
    assert titles == [
        "".join(cells(n)[0]["source"]).split("\n")[0].removeprefix("# ") for n in CHAPTERS
    ]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_has_all_a_teacher_needs(chapter):
    section = SECTIONS[chapter]
    for part in (
        "Objectives.",
        "Before this:",
        "Talking points.",
        "On the wall.",
        "Misconceptions",
        "Quiz",
    ):
        assert f"**{part}**" in section, part
    total, *parts = map(
        int,
        re.search(
            r"\*\*Minutes:\*\* (\d+) = (\d+) show \+ (\d+) work \+ (\d+) talk", section
        ).groups(),
    )
    assert total == sum(parts)
    wrong, quiz = (
        section.split("**Misconceptions**")[1].split("**Talking points.**")[0],
        section.split("**Quiz**")[1],
    )
    beliefs = re.findall(r"^\d\. \*[^*]+\*.+$", wrong, re.MULTILINE)
    assert len(beliefs) == 3
    for belief in beliefs:
        assert re.search(rf"\[{chapter}, “", belief), f"no cell of this chapter corrects: {belief}"
    questions = re.findall(
        r"^\d\. (.+?)\n\s+<details><summary>Answer</summary>(.+?)</details>$", quiz, re.MULTILINE
    )
    assert len(questions) == 5 and quiz.count("<details>") == 5
    assert all("?" in question and len(answer.split()) >= 12 for question, answer in questions), (
        "an answer says why"
    )


def test_every_heading_that_is_named_exists():
    named = re.findall(r"\[(\d\d), “([^”]+)”\]\(\.\./notebooks/([^)]+)\)", TEXT)
    assert len(named) >= 3 * len(CHAPTERS)
    for chapter, heading, file in named:
        assert file == CHAPTERS[chapter].name and heading in headings(chapter), (
            f"{chapter}: {heading}"
        )


def test_every_section_number_exists():
    """In "01, sections 5 and 11", "00, section 1" and "without section 8"."""
    rows = [
        (m[2], m[1])
        for m in re.finditer(r"\|[^|\n]*?without sections? ([\d and]+)\| (\d\d) \|", TEXT)
    ]
    rows += [(m[1], m[2]) for m in re.finditer(r"\b(0\d), sections? (\d+(?: and \d+)?)", TEXT)]
    rows += [
        (n, m[1])
        for n, section in SECTIONS.items()
        for m in re.finditer(r"(?<!\d\d, )\bsection (\d+)", section)
        if "chapter" not in section[m.start() - 14 : m.start()]
    ]
    assert len(rows) > 20
    for chapter, numbers in rows:
        for number in re.findall(r"\d+", numbers):
            assert any(h.startswith(f"{number}. ") for h in headings(chapter)), (
                f"chapter {chapter} has no section {number}"
            )


def test_every_exercise_is_named_and_exists():
    for chapter, section in SECTIONS.items():
        exist = {
            m
            for c in cells(chapter)
            for m in re.findall(r'^check\("(\d\d\.\d)"', "".join(c["source"]), re.MULTILINE)
        }
        line = re.search(r"\*\*Exercises:\*\* (.+)", section)[1]
        named = set(re.findall(r"\d\d\.\d", line))
        for a, b in re.findall(rf"{chapter}\.(\d) to {chapter}\.(\d)", line):
            named |= {f"{chapter}.{i}" for i in range(int(a), int(b) + 1)}
        assert named == exist
    everywhere = set(re.findall(r"\b0\d\.\d\b", TEXT))
    assert everywhere <= {
        m
        for n in CHAPTERS
        for c in cells(n)
        for m in re.findall(r'check\("(\d\d\.\d)"', "".join(c["source"]))
    }


def test_minutes_of_the_timetables_add_up():
    plans = re.findall(
        r"^### ([^\n]+) \((\d+) minutes\)\n(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL
    )
    assert [int(total) for _, total, _ in plans] == [90, 480, 540]
    for name, total, table in plans[:2]:
        rows = [
            (60 * int(h) + int(m), int(n))
            for h, m, n in re.findall(r"^\| (\d+):(\d\d) \| (\d+) \|", table, re.MULTILINE)
        ]
        assert sum(minutes for _, minutes in rows) == int(total), name
        for (at, minutes), (next_at, _) in zip(rows, rows[1:], strict=False):
            assert at + minutes == next_at, f"{name}: after {at // 60}:{at % 60:02}"
    weeks = [
        list(map(int, row))
        for row in re.findall(
            r"^\| (\d) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", plans[2][2], re.MULTILINE
        )
    ]
    assert [week for week, *_ in weeks] == [1, 2, 3, 4, 5, 6] and all(
        sum(minutes) == 90 for _, *minutes in weeks
    )
    day = re.findall(r"^\| [\d:]+ \| (\d+) \| [^|]+ \| (0\d) \|", plans[1][2], re.MULTILINE)
    further = re.search(r"^For another half day: (.+)\.$", plans[1][2], re.MULTILINE)
    day += [(m, n) for n, m in re.findall(r"(0\d) [^(]+ \((\d+) minutes\)", further[1])]
    assert [chapter for _, chapter in day] == list(CHAPTERS)
    assert all(
        re.search(rf"\*\*Minutes:\*\* {minutes} =", SECTIONS[chapter]) for minutes, chapter in day
    ), "the day gives each chapter its minutes"


def test_rubric_adds_up():
    rows = re.findall(r"^\| (prediction|experiment|evidence|conclusion) \|", TEXT, re.MULTILINE)
    assert 3 * len(rows) == 12 and "12 in all" in TEXT


def test_no_figure_depends_on_the_weights():
    """Such figures change when the model does: they stand in docs/measured.md, written by a
    command."""
    own = re.sub(r"<!-- load:start -->.*?<!-- load:end -->", "", TEXT, flags=re.DOTALL)
    assert not re.findall(r"\d\s?(?:%|dB\b)", own)
    measured = (DOCS / "measured.md").read_text(encoding="utf-8")
    for name, unit in (("evaluation", "%"), ("bench", "s")):
        assert re.search(rf"<!-- {name}:start -->[^<]*\d\S* {unit}[^<]*<!-- {name}:end", measured)


@pytest.mark.parametrize("page", ["teaching.md", "handout.html"])
def test_links_lead_somewhere(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    assert links
    for link in links:
        assert not link.startswith("http"), "these pages are read without a network too"
        path, _, anchor = link.partition("#")
        target = (DOCS / path).resolve() if path else DOCS / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_commands_and_options_exist():
    for command, rest in re.findall(r"python run\.py (\w[\w-]*)([^`\n]*)", TEXT):
        assert command in run.COMMANDS
        source = ROOT / (run.COMMANDS[command][1].replace(".", "/") + ".py")
        if source.exists():
            assert all(
                option in source.read_text(encoding="utf-8")
                for option in re.findall(r"--[\w-]+", rest)
            ), rest
    assert "teaching.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_numbers_in_the_answers_are_right():
    """Each is computed here, in the form in which it stands on the page."""
    abar = noising.make_alphas_cumprod()
    unet = json.loads((hub.TINY_SD / "unet" / "config.json").read_text())
    vae = json.loads((hub.TINY_SD / "vae" / "config.json").read_text())
    side, h = vae["sample_size"], unet["sample_size"]
    pixels, latents = 3 * side**2, unet["in_channels"] * h**2
    n = math.sqrt(latents)
    for said in (
        f"{side} × {side} × 3 becomes a latent of {h} × {h} × {unet['in_channels']}",
        f"{pixels:,} : {latents:,} = {pixels // latents} : 1",
        f"{side}⁴ = {side**4:,} against {h}⁴ = {h**4:,}, that is {side**4 // h**4:,} : 1",
        f"4 × 25 × 2 = {4 * 25 * 2}",
        f"0.8 × 0.1 + 0.2 = {0.8 * 0.1 + 0.2:.2f}, which is 1 − 0.9 × 0.8",
        f"√{latents:,} = {n:.0f}".replace(",", ""),
        f"is taken about {math.e:.1f} times as much",
        f"20 × 0.6 = {int(20 * 0.6)} are run, the first {20 - int(20 * 0.6)} are skipped",
        f"1/√2, about {2**-0.5:.2f}, of their length, {n / 2**0.5:.1f} instead of {n:.0f}",
    ):
        assert said in TEXT, said
    factor = (1 - abar) / abar
    assert factor[-1] > 200 and ((factor < 1) == (abar > 0.5)).all(), (
        "(1 − ᾱ)/ᾱ is below 1 while there is more picture than noise, above two hundred at the "
        "last step"
    )
    assert (1 - (1 - abar[-1]) ** 0.5) ** 2 + abar[-1] < 0.01, (
        "handing the input back at the last step is nearly free of error"
    )
    lengths = torch.randn(4000, latents, generator=torch.Generator().manual_seed(0)).norm(dim=1)
    assert f"{lengths.std():.1f}" == "0.7" and "give or take 0.7" in TEXT


# ------------------------------------------------------------------------------------------ the map


def labels(model):
    """The map's text, by what it stands for, without blanks."""
    tree = ElementTree.parse(DOCS / "map.svg")
    found: dict[str, set[str]] = {}
    for element in tree.iter():
        if f"data-{model}" in element.attrib:
            found.setdefault(element.get(f"data-{model}"), set()).add(element.text.replace(" ", ""))
    return found


def expected(unet, vae, text, millions):
    """What the configurations of a model say, in the map's words."""

    def shape(*numbers):
        return {"×".join(map(str, numbers))}

    side = unet["sample_size"]
    levels = {
        f"level {i}": shape(c, side >> i, side >> i)
        for i, c in enumerate(unet["block_out_channels"])
    }
    latents = shape(unet["in_channels"], side, side)
    return {
        "ids": {f"{text['max_position_embeddings']}ids"},
        "words": shape(text["max_position_embeddings"], text["hidden_size"]),
        "latents": latents,
        "noise": latents,
        "pixels": shape(vae["in_channels"], vae["sample_size"], vae["sample_size"]),
        **{
            part: {
                f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"
            }
            for part, value in millions.items()
        },
        **levels,
    }


def test_map_shows_tiny_sd_as_it_ships():
    from safetensors import safe_open

    configs, millions = {}, {}
    for part in ("unet", "vae", "text_encoder"):
        folder = hub.TINY_SD / part
        configs[part] = json.loads((folder / "config.json").read_text())
        numbers = 0
        for file in folder.glob("*.safetensors"):
            with safe_open(file, "pt") as weights:
                numbers += sum(
                    math.prod(weights.get_slice(name).get_shape()) for name in weights.keys()
                )
        millions[part] = numbers / 1e6
    assert configs["unet"]["cross_attention_dim"] == configs["text_encoder"]["hidden_size"]
    assert labels("tiny") == expected(
        configs["unet"], configs["vae"], configs["text_encoder"], millions
    )


def test_map_shows_stable_diffusion_as_published():
    """Its sizes are counted in test_real_sd.py."""
    unet, vae = models.SD15_UNET | {"in_channels": 4}, models.SD15_VAE | {"in_channels": 3}
    millions = {part: count / 1e6 for part, count in fake_sd.PUBLISHED.items()}
    assert labels("sd") == expected(unet, vae, models.SD15_TEXT, millions)
    tiny = sum(float(*labels("tiny")[part]) for part in millions)
    assert (
        80 < sum(millions.values()) / tiny < 120
        and "about a hundredth of Stable Diffusion's weights" in TEXT
    )


def test_map_names_every_chapter():
    tree = ElementTree.parse(DOCS / "map.svg")
    badges = {
        g.findtext("{http://www.w3.org/2000/svg}text")
        for g in tree.iter("{http://www.w3.org/2000/svg}g")
        if g.get("class") == "badge"
    }
    assert badges == set(CHAPTERS)
    steps = json.loads((hub.TINY_SD / "scheduler" / "scheduler_config.json").read_text())[
        "num_train_timesteps"
    ]
    assert f"one random t of {steps}" in (DOCS / "map.svg").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------- the glossary


def test_glossary_sends_to_chapters_that_have_the_word():
    entries = re.findall(
        r"<dt>([^<]+?) <span>(\d\d)</span></dt> <dd>(.+?)</dd>",
        (DOCS / "handout.html").read_text(encoding="utf-8"),
    )
    assert len(entries) == (DOCS / "handout.html").read_text(encoding="utf-8").count("<dt>") >= 30
    terms = [re.sub(r"\W", "", term.split(",")[0].lower()) for term, _, _ in entries]
    assert terms == sorted(terms), "in the order of the alphabet"
    for term, chapter, _ in entries:
        text = " ".join("".join(c["source"]) for c in cells(chapter)).lower()
        for tex, letter in (
            ("\\bar\\alpha", "ᾱ"),
            ("\\hat x_0", "x̂₀"),
            ("x_0", "x₀"),
            ("\\beta", "β"),
            ("-", " "),
        ):
            text = text.replace(tex, letter)
        assert any(word.strip().lower().replace("-", " ") in text for word in term.split(",")), (
            f"{term} is not in chapter {chapter}"
        )


@pytest.mark.browser
@pytest.mark.parametrize(("page", "sheets"), [("map.svg", 1), ("handout.html", 2)])
def test_each_prints_on_one_sheet_of_a4(tmp_path, page, sheets):
    """With nothing hidden: what does not fit would go on to another sheet."""
    chromium = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if not chromium:
        pytest.skip("no Chromium on the PATH (Debian: apt install chromium)")
    shutil.copy(DOCS / "map.svg", tmp_path)
    (tmp_path / page).write_text(
        (DOCS / page).read_text(encoding="utf-8").replace("overflow: hidden", "overflow: visible"),
        encoding="utf-8",
    )
    made = tmp_path / "made.pdf"
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--no-pdf-header-footer",
        f"--print-to-pdf={made}",
    ]
    subprocess.run(
        [chromium, *options, (tmp_path / page).as_uri()],
        check=True,
        capture_output=True,
        timeout=180,
    )
    pdf = made.read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) == sheets
    for box in re.findall(rb"/MediaBox\s*\[([^\]]+)\]", pdf):
        width, height = (float(v) for v in box.split()[2:])
        assert abs(width - 297 / 25.4 * 72) < 1 and abs(height - 210 / 25.4 * 72) < 1
