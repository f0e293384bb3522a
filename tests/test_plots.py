"""Figures: what they promise to readers (alt text, exact pixels, colours that mean something) and
to threads (no shared state)."""

import base64
import io
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from sdlearn import plots
from sdlearn.chapters import ch00, ch01, ch02, ch03, ch04, ch05, ch06, ch07
from sdlearn.world import Scene, Thing, draw, sample_scene


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [draw(sample_scene(rng)) for _ in range(4)]


@pytest.fixture()
def shown(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "IPython.display.display", lambda *args, **kwargs: calls.append((args, kwargs))
    )
    return calls


def pixels(figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(plots.to_png(figure))).convert("RGB"))


def test_import_touches_no_model_and_no_pyplot():
    heavy = ("torch", "diffusers", "transformers", "matplotlib.pyplot")
    code = f"import sys, sdlearn.plots; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_show_carries_the_alt_text(shown, pictures):
    plots.show(plots.filmstrip(pictures), "Four drawn scenes")
    plots.show(pictures[0], "One scene")
    plots.show(pictures[0], "One scene, small", width=64)
    (((strip,), strip_options), ((one,), options), (_, small)) = shown
    drawn = Image.open(io.BytesIO(base64.b64decode(strip["image/png"])))
    assert strip["text/plain"] == "Four drawn scenes" and strip_options == {
        "metadata": {"image/png": {"alt": "Four drawn scenes", "width": drawn.width // 2}},
        "raw": True,
    }, "a figure has two pixels for each one of the page: sharp on fine screens"
    assert (
        options["metadata"]["image/png"] == {"alt": "One scene", "width": 256}
        and small["metadata"]["image/png"]["width"] == 64
    )
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(base64.b64decode(one["image/png"])))),
        np.asarray(pictures[0]),
    )


@pytest.mark.parametrize("alt", ["", "  ", None])
def test_show_refuses_a_picture_without_alt(shown, pictures, alt):
    with pytest.raises(ValueError, match="needs a sentence"):
        plots.show(pictures[0], alt)
    assert not shown


def test_picture_takes_images_arrays_and_tensors(pictures):
    bytes_, floats = (
        torch.from_numpy(np.array(pictures[0])),
        torch.from_numpy(np.array(pictures[0]) / 255),
    )
    for given in (
        bytes_,
        bytes_.numpy(),
        bytes_.long(),
        floats,
        floats.numpy(),
        floats.requires_grad_(),
        pictures[0].convert("RGBA"),
    ):
        assert np.array_equal(np.asarray(plots.picture(given)), np.asarray(pictures[0]))


def test_picture_clips_and_refuses():
    assert plots.picture(np.array([[-3.0, 0.5, 9.0]])).getpixel((2, 0)) == (255, 255, 255)
    with pytest.raises(ValueError, match=r"shape \(3, 8, 8\).*compression.to_images"):
        plots.picture(np.zeros((3, 8, 8)))


def find(part: np.ndarray, whole: np.ndarray) -> list:
    """Where `part` stands, pixel for pixel."""
    height, width = part.shape[:2]
    ys, xs = np.nonzero(
        (whole[: whole.shape[0] - height + 1, : whole.shape[1] - width + 1] == part[0, 0]).all(-1)
    )
    return [
        (int(y), int(x))
        for y, x in zip(ys, xs, strict=True)
        if np.array_equal(whole[y : y + height, x : x + width], part)
    ]


def test_pictures_are_shown_pixel_for_pixel(pictures):
    whole = pixels(
        plots.grid(
            [pictures[:2], pictures[2:]],
            ["left", "a label that is\nwrapped, and long enough for two lines"],
            ["one", "two"],
            title="title",
        )
    )
    inner = [
        find(np.asarray(p)[1:-1, 1:-1], whole) for p in pictures
    ]  # the outermost pixels touch the margin
    assert [len(places) for places in inner] == [1, 1, 1, 1]
    (a,), (b,), (c,), _ = inner
    assert a[0] == b[0] and a[1] == c[1] and b[1] > a[1] + 128 and c[0] > a[0] + 128


def test_blank_places_and_short_rows(pictures):
    figure = plots.grid([[pictures[0], None, pictures[1]], [pictures[2]]])
    assert len(figure.axes) == 3
    assert plots.grid([pictures[:2]], col_labels=[3, 4]).axes[1].get_title() == "4", (
        "numbers are labels too"
    )


def test_labels_keep_their_line_breaks_and_long_ones_get_more(pictures):
    figure = plots.grid([pictures[:1]], ["not:\na balloon"], ["one\ntwo and a much longer line"])
    assert figure.texts[0].get_text() == "not:\na balloon"
    assert (
        figure.axes[0].get_title().startswith("one\ntwo and a")
        and figure.axes[0].get_title().count("\n") > 1
    )


def test_filmstrip_breaks_into_rows_and_labels_each(pictures):
    figure = plots.filmstrip(pictures, [f"t = {t}" for t in range(4)], columns=3)
    assert [ax.get_title() for ax in figure.axes] == ["t = 0", "t = 1", "t = 2", "t = 3"]
    rows = {round(ax.get_position().y0, 3) for ax in figure.axes}
    assert len(rows) == 2
    assert plots.filmstrip(pictures * 5).get_figwidth() < 11, "twenty pictures still fit on a page"


@pytest.mark.parametrize("images, labels", [([], None), ([], []), (["x"], ["a", "b"])])
def test_filmstrip_says_what_is_missing(images, labels):
    with pytest.raises(ValueError, match="at least one picture and a label for each"):
        plots.filmstrip(images, labels)


def test_every_keeps_first_and_last():
    assert (
        plots.every(range(50), 7) == [0, 8, 16, 24, 33, 41, 49]
        and plots.every([1, 2], 7) == [1, 2]
        and plots.every(range(3), 1) == [0]
    )


@pytest.mark.parametrize(
    "values",
    [
        np.array([[-2.0, 0.0, 1.0]]),
        np.zeros((2, 2)),
        torch.tensor([[-1.0, 3.0]], requires_grad=True),
    ],
)
def test_signed_is_symmetric_about_zero(values):
    figure, ax = plots.figure()
    low, high = plots.signed(ax, values).get_clim()
    assert low == -high and high == (float(np.abs(plots.to_array(values)).max()) or 1.0)
    assert len(figure.axes) == 2, "a colour bar with numbers"


def test_coloured_zero_is_white_and_signs_differ_in_hue():
    orange, white, purple = (
        plots.coloured([[-1.0, 0.0, 1.0]], limit=1.0).getpixel((x, 0)) for x in range(3)
    )
    assert min(white) > 240 and orange[0] > orange[2] and purple[2] > purple[0]
    flat = plots.coloured(np.full((3, 3), 7.0))
    assert flat.size == (3, 3) and len(flat.getcolors()) == 1


def test_latent_channels_share_one_scale():
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for given in (latents, latents[0], latents.numpy()):
        figure = ch01.latent_channels(given)
        images = [ax.images[0] for ax in figure.axes if ax.images]
        assert len(images) == 4 and len({image.get_clim() for image in images}) == 1
        assert np.array_equal(images[2].get_array(), latents[0, 2].numpy())


def test_overlay_lights_what_is_attended(pictures):
    heat = np.zeros((16, 16))
    heat[4:12, 8:] = 5.0
    over, base = np.asarray(plots.overlay(pictures[0], heat)), np.asarray(pictures[0])
    assert (
        np.array_equal(over[48:80, 90:], base[48:80, 90:])
        and over[:, :32].mean() < 0.5 * base[:, :32].mean()
    )
    assert np.ptp(over[:, :32].astype(int), axis=-1).max() <= 1, "grey where nothing looks"
    plots.overlay(pictures[0], np.zeros((4, 4)))  # an even map is a map too


def test_lines_differ_by_more_than_hue():
    x = np.linspace(0, 1, 5)
    figure = plots.lines(
        x, {name: x**i for i, name in enumerate("abcdefg")}, xlabel="x", ylabel="y", log="y"
    )
    drawn = figure.axes[0].lines
    assert (
        len({line.get_marker() for line in drawn}) == len({line.get_color() for line in drawn}) == 7
        and figure.axes[0].get_yscale() == "log"
    )
    assert all(
        line.get_marker() == "None"
        for line in plots.lines(range(99), {"y": range(99)}, xlabel="x", ylabel="y").axes[0].lines
    )
    named = plots.lines(["12 : 1", "48 : 1"], {"y": [2, 1]}, xlabel="x", ylabel="y").axes[0]
    assert [label.get_text() for label in named.get_xticklabels()] == ["12 : 1", "48 : 1"]
    whole = plots.lines(range(20), {"y": range(20)}, xlabel="x", ylabel="y").axes[0]
    assert all(tick == round(tick) for tick in whole.get_xticks())


def test_png_is_the_same_from_every_thread(pictures):
    figures = [plots.filmstrip(pictures, list("abcd"), title="$\\bar\\alpha_t$") for _ in range(6)]
    expected, got = (
        plots.to_png(plots.filmstrip(pictures, list("abcd"), title="$\\bar\\alpha_t$")),
        {},
    )
    threads = [
        threading.Thread(target=lambda i=i: got.update({i: plots.to_png(figures[i])}))
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[i] for i in range(6)] == [expected] * 6


def test_figures_full_of_noise_are_reduced_to_256_colours(pictures):
    noise = [np.random.default_rng(i).random((128, 128, 3)) for i in range(5)]
    heavy, plain = plots.to_png(plots.filmstrip(noise)), plots.to_png(plots.filmstrip(pictures))
    assert (
        Image.open(io.BytesIO(heavy)).mode == "P"
        and Image.open(io.BytesIO(plain)).mode == "RGB"
        and len(heavy) < 130_000
    )
    drawn = pixels(plots.filmstrip(noise))[8:120, 12:120].reshape(-1, 3) / 255
    assert np.abs(drawn.mean(0) - 0.5).max() < 0.02 and drawn.std(0).min() > 0.24, (
        "the noise keeps its mean and its contrast"
    )


def test_a_rare_colour_survives_the_reduction():
    """One small purple flower in sixteen noisy meadows: its petals stay purple."""
    rng, house = np.random.default_rng(0), Thing("house", "green", "left")
    meadows = [np.asarray(draw(Scene((house,), "meadow", "day"))) for _ in range(16)]
    flower = Scene((house, Thing("flower", "purple", "right")), "meadow", "day")
    meadows[5] = np.asarray(draw(flower))
    noisy = [np.clip(m + rng.normal(0, 6, m.shape), 0, 255).astype(np.uint8) for m in meadows]
    figure = plots.grid([noisy[:8], noisy[8:]])
    full, few = (
        Image.open(io.BytesIO(plots.to_png(figure, packed=packed))) for packed in (False, True)
    )
    assert few.mode == "P"
    full, few = (np.asarray(image.convert("RGB")).astype(int) for image in (full, few))
    purple = (full[..., 2] > full[..., 1] + 80) & (full[..., 0] > full[..., 1] + 40)
    assert purple.sum() > 100
    assert np.abs(full[purple].mean(0) - few[purple].mean(0)).max() < 12


def test_histograms_share_their_bins_and_have_area_one():
    figure = ch02.histograms(
        {"a": torch.randn(2, 500), "b": np.random.default_rng(0).normal(3, 1, 400)},
        xlabel="value",
        bell=True,
        bins=30,
    )
    ax = figure.axes[0]
    outlines = [p.get_xy() for p in ax.patches if not p.get_fill()]
    assert len(outlines) == 2 and np.array_equal(
        np.unique(outlines[0][:, 0]), np.unique(outlines[1][:, 0])
    )
    step = np.diff(np.unique(outlines[0][:, 0]))[0]
    assert all(np.isclose(xy[1:-1:2, 1].sum() * step, 1, atol=0.02) for xy in outlines)
    assert np.isclose(max(ax.lines[0].get_ydata()), 1 / np.sqrt(2 * np.pi), atol=1e-3), (
        "the bell of the standard normal distribution"
    )


def test_walks_draw_the_formula_over_the_walkers():
    mean, std = np.linspace(1, 0, 50), np.linspace(0, 1, 50)
    drawn = (
        ch02.walks(
            range(50),
            np.random.default_rng(0).normal(size=(50, 7)),
            mean,
            std,
            xlabel="t",
            ylabel="x",
        )
        .axes[0]
        .lines
    )
    ys = [line.get_ydata() for line in drawn if len(line.get_ydata())]
    assert len(ys) == 7 + 3 and all(
        any(np.allclose(y, want) for y in ys) for want in (mean, mean - 2 * std, mean + 2 * std)
    )


def test_beliefs_mark_the_truth_without_relying_on_colour(pictures):
    shares = [{"time": {"day": 0.25, "night": 0.75}, "place": {"snow": 1.0, "sea": 0.0}}] * 2
    figure = ch02.beliefs(
        pictures[:2], ["t = 9", "t = 5"], shares, {"time": "night", "place": "snow"}
    )
    labels = [text.get_text().strip() for text in figure.axes[2].get_yticklabels()]
    assert len(figure.axes) == 4 and labels == ["day", "night ★", "snow ★", "sea"]
    assert [bar.get_width() for bar in figure.axes[3].patches] == [0.25, 0.75, 1.0, 0.0]


def test_data_uri_takes_the_smaller_format(pictures):
    noise = np.random.default_rng(0).random((128, 128, 3))
    assert plots.data_uri(noise).startswith("data:image/jpeg;base64,") and plots.data_uri(
        np.zeros((8, 8))
    ).startswith("data:image/png;base64,")
    assert plots.data_uri(plots.filmstrip(pictures)).startswith("data:image/png;base64,")
    back = Image.open(io.BytesIO(base64.b64decode(plots.data_uri(pictures[0]).split(",")[1])))
    assert (
        back.size == pictures[0].size
        and np.abs(np.asarray(back, int) - np.asarray(pictures[0], int)).mean() < 3
    )


def test_pieces_show_every_token_and_count_the_rest():
    figure = ch04.pieces(
        [["a</w>", "red</w>", "ho", "use</w>"], ["x"] * 40, []],
        [[7, 8, 9, 10], range(40), []],
        columns=14,
    )
    said = [text.get_text() for text in figure.axes[0].texts]
    assert {"a␣", "red␣", "ho", "use␣", "7", "10", "… 26 more"} <= set(said) and said.count(
        "x"
    ) == 14
    wide = ch04.pieces([["internationalisation</w>"] * 9]).axes[0]
    assert wide.texts[-1].get_text() == "… 6 more" and all(
        text.get_position()[0] < 9 for text in wide.texts
    )


def test_matrix_shows_its_numbers(pictures):
    values = np.array([[0.1, 0.9], [-0.5, np.nan]])
    figure = plots.matrix(values, ["a caption", "another"], pictures[:2], digits=1, limits=(-1, 1))
    ax = figure.axes[0]
    drawn = ax.images[0]
    assert (
        np.array_equal(drawn.get_array().filled(np.nan), values, equal_nan=True)
        and drawn.get_cmap().name == "PuOr"
        and drawn.get_clim() == (-1, 1)
    )
    assert [text.get_text() for text in ax.texts] == ["0.1", "0.9", "-0.5"], (
        "what is not a number stays blank"
    )
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a caption", "another"]
    assert len([a for a in ax.artists if type(a).__name__ == "AnnotationBbox"]) == 2, (
        "a picture for each column"
    )
    assert (
        plots.matrix(values, ["a", "b"], ["c", "d"]).axes[0].images[0].get_cmap().name == "cividis"
    )
    assert plots.to_png(figure).startswith(b"\x89PNG")


def test_attention_by_hand_is_softmax_attention():
    keys, values = [[0, 0, 0, 2], [2, 0, 0, 0], [0, 2, 0, 0]], [[0, 0], [1, 0], [0, 1]]
    figure = ch04.by_hand(["a", "red", "house"], [2, 1, 0, 0], keys, values)
    said = [text.get_text() for text in figure.axes[0].texts]
    q, k, v = (torch.tensor(x).float()[None] for x in ([[2, 1, 0, 0]], keys, values))
    want = torch.nn.functional.scaled_dot_product_attention(q, k, v)[0, 0].tolist()
    assert ", ".join(f"{n:.2f}" for n in want) in said
    assert {"9%", "67%", "24%", "100%"} <= set(said)


def test_swap_grid_frames_what_changed_and_counts_it(pictures):
    rows = [[pictures[0], pictures[1]], [pictures[0], None]]
    figure = ch04.swap_grid(rows, [[0, 6], [5, None]], ["red → blue", "day"], ["none", "all"], 8)
    assert [len(ax.patches) for ax in figure.axes] == [0, 1, 0]
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["none\n0 of 8", "all\n6 of 8", "5 of 8"]
    assert "red → blue: none 0, all 6; day: none 5" in figure.alt


GRID = {
    "settings": {"prompts": 60},
    "rows": [
        {
            "sampler": name,
            "guidance_scale": scale,
            "num_inference_steps": steps,
            "seen": {"in_place": {"value": 12.0}},
        }
        for name in ("ddim", "dpm++")
        for scale in (1.0, 5.0)
        for steps in (5, 10)
    ],
}


def _judged(minutes: float, percent: float) -> dict:
    share = {"value": percent, "low": percent - 5, "high": percent + 5}
    return {"minutes": minutes, "wishes": share, "surroundings": share}


RACE = {"pixels": [_judged(1, 40), _judged(2, 60)]}


def test_every_figure_says_what_it_shows(pictures, shown):
    """No figure reaches a reader without a sentence; numbers and names of the figure are in it."""
    t = np.linspace(0, 1, 20)
    shapes = [(8, 16, 16), (8, 8, 8), (8, 8, 8), (8, 16, 16)]
    share = [{"time": {"day": 0.25, "night": 0.75}}]
    map_of = dict.fromkeys(("ids", "words", "latents", "noise", "pixels"), (1, 4, 16, 16))
    figures = {
        "two from 0 to 1": plots.lines(t, {"two": t}, xlabel="x", ylabel="y"),
        "left, right": plots.filmstrip(pictures[:2], ["left", "right"]),
        "2 rows, a, b: columns u": plots.grid([pictures[:1], pictures[1:2]], ["a", "b"], ["u"]),
        "1 x 2 numbers": plots.matrix([[0.1, 0.5]], ["r"], ["c", "d"]),
        "s g 2": plots.bars(["g"], {"s": [2.0]}, ylabel="y"),
        "1 × 4 × 16 × 16": ch00.machine(map_of, dict(text_encoder=1.0, unet=2.0, vae=3.0)),
        "4 channels of 8 x 8": ch01.latent_channels(np.zeros((4, 8, 8))),
        "one 0.50 ± ": ch02.histograms({"one": t}, xlabel="x"),
        "3 random walks": ch02.walks(t, np.zeros((20, 3)), t, t, xlabel="x", ylabel="y"),
        "night 75%": ch02.beliefs(pictures[:1], ["now"], share, {"time": "night"}),
        "t = 3": ch03.clocks(np.zeros((20, 4)), t, 3),
        "5 training steps": ch03.training(np.ones((5, 2)), np.ones((5, 2)), 1000),
        "60°": ch03.views({"here": 0.25}),
        "1 skip connections": ch03.u_shape(shapes, 1),
        "ho | use␣": ch04.pieces([["ho", "use</w>"]]),
        "b 50%; the answer is 0.50": ch04.by_hand(["a", "b"], [1], [[0], [0]], [[0], [1]]),
        "red: one 3": ch04.swap_grid([pictures[:1]], [[3]], ["red"], ["one"], 8),
        "a cat 0.00": ch04.fading({"a cat": 1 - t}, starts=[4]),
        "ddim 12 at 1 and 5 steps, 12 at 1 and 10 steps": ch05.fidelity(GRID),
        "1 of 2 end above 0": ch05.paths({"p": [[0, 0], [1, -1]]}, xlabel="x", ylabel="y"),
        "entered at t = 5": ch06.entry(1 - t, [9, 5, 1], 1, pictures[:1], ["in"]),
        "single wishes come true, pixels: 40 to 60 %": ch07.curves(RACE),
    }
    for words, figure in figures.items():
        assert words in figure.alt and "\n" not in figure.alt, figure.alt
        plots.show(figure)
        assert shown[-1][0][0]["text/plain"] == figure.alt
    plots.show(figure, "another sentence")
    assert shown[-1][0][0]["text/plain"] == "another sentence"


def test_a_sheet_holds_its_pictures_pixel_for_pixel(pictures):
    row, block = plots.sheet(pictures), plots.sheet(pictures[:3], columns=2, gap=4)
    assert row.size == (4 * 128 + 3 * 8, 128) and block.size == (2 * 128 + 4, 2 * 128 + 4)
    for k, image in enumerate(pictures):
        assert row.crop((136 * k, 0, 136 * k + 128, 128)) == image
    assert block.crop((0, 132, 128, 260)) == pictures[2]
    assert block.getpixel((130, 0)) == block.getpixel((259, 259)) == (255, 255, 255)
    with pytest.raises(ValueError, match="at least one picture"):
        plots.sheet([])


def test_a_live_picture_is_not_packed(pictures):
    figure = plots.filmstrip(pictures, list("abcd"))
    quick, packed = (plots.to_png(figure, packed=p) for p in (False, True))
    assert len(packed) < len(quick) and np.array_equal(
        *(np.asarray(Image.open(io.BytesIO(d)).convert("RGB")) for d in (quick, packed))
    )
    assert plots.data_uri(pictures[0], packed=False).startswith("data:image/png;base64,")
