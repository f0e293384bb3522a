"""The picture-book world: what is said is what is drawn, nothing leaves the frame, nothing hides
anything, and the held-out pairs stay out."""

import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from PIL import Image

from sdlearn import world
from sdlearn.world import (
    COLOURS,
    HELD_OUT,
    KINDS,
    PLACES,
    POSITIONS,
    TIMES,
    Pen,
    Scene,
    Thing,
    caption,
    draw,
    sample_scene,
)
from sdlearn.world.drawing import CENTRES, FOOT, SUPERSAMPLE
from sdlearn.world.scenes import PAINTERS

PAD = 12  # pixels of empty canvas around the frame: paint outside it is seen, not cut off
EMPTY = (1, 2, 3)  # a colour nothing is painted with


def one(kind="cat", colour="red", position="middle", place="meadow", time="day") -> Scene:
    return Scene((Thing(kind, colour, position),), place, time)


def two(left="cat", right="boat", place="meadow", time="day") -> Scene:
    return Scene((Thing(left, "red", "left"), Thing(right, "blue", "right")), place, time)


def footprint(painter, pen: Pen, colour) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of what a painter paints with this pen, in pixels of the
    128-pixel frame, paint beyond the frame included."""
    side = (128 + 2 * PAD) * SUPERSAMPLE
    canvas = Image.new("RGB", (side, side), EMPTY)
    painter(Pen(canvas, pen.x + PAD, pen.y + PAD, pen.scale), colour)
    ys, xs = np.nonzero((np.asarray(canvas) != EMPTY).any(-1))
    edges = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / SUPERSAMPLE - PAD
    return tuple(edges.tolist())


@pytest.fixture
def boxes(monkeypatch):
    """`boxes(scene, seed)`: the footprint of each thing, in the order of `scene.things`, exactly
    where `draw` puts it."""
    found, painters = [], dict(PAINTERS)

    def spy(kind):
        paint = painters[kind].paint
        return replace(painters[kind], paint=lambda *args: found.append(footprint(paint, *args)))

    def measure(scene, seed=0):
        found.clear()
        for kind in painters:
            monkeypatch.setitem(PAINTERS, kind, spy(kind))
        draw(scene, seed=seed)
        for kind, painter in painters.items():
            monkeypatch.setitem(PAINTERS, kind, painter)
        return list(found)

    return measure


# ------------------------------------------------------ drawing


@pytest.mark.parametrize("kind", KINDS)
def test_every_thing_is_drawn_inside_the_frame(kind, boxes):
    for position, seed in product(POSITIONS, range(4)):
        (left, top, right, bottom) = boxes(one(kind, "white", position), seed)[0]
        assert 0.5 < left < right < 127.5 and 0.5 < top < bottom < 127.5, (
            position,
            seed,
            left,
            top,
            right,
            bottom,
        )


@pytest.mark.parametrize("kind", KINDS)
def test_every_thing_keeps_to_the_size_the_module_promises(kind):
    """x -24..24 and y 0..64 above the foot, give or take the outline."""
    left, top, right, bottom = footprint(
        PAINTERS[kind].paint, Pen(Image.new("RGB", (8, 8)), 64, 100, 1), (9, 9, 9)
    )
    assert 64 - 25.5 < left < right < 64 + 25.5 and 100 - 65 < top < bottom < 100 + 2


def test_every_thing_has_room_at_the_farthest_jitter():
    """The corners of what `draw` can choose (3 pixels each way, scale 1.02), which sampling would
    rarely hit."""
    for kind, (position, x), dx, dy in product(KINDS, CENTRES.items(), (-3, 3), (-3, 3)):
        y = FOOT + dy - PAINTERS[kind].lift
        edges = footprint(
            PAINTERS[kind].paint, Pen(Image.new("RGB", (8, 8)), x + dx, y, 1.02), (9, 9, 9)
        )
        assert min(edges) > 0 and max(edges) < 128, (kind, position, edges)


def test_no_two_things_hide_each_other(boxes):
    rng = np.random.default_rng(0)
    for seed in range(60):
        scene = sample_scene(rng, things=2)
        sides = {t.position: box for t, box in zip(scene.things, boxes(scene, seed), strict=True)}
        assert sides["left"][2] < sides["right"][0], (scene, seed, sides)


def test_the_widest_neighbours_never_touch(boxes):
    """Every pair of kinds at the farthest jitter towards each other."""
    width = {
        k: footprint(
            PAINTERS[k].paint, Pen(Image.new("RGB", (8, 8)), 0, 100, 1.02 * 0.94), (9, 9, 9)
        )
        for k in KINDS
    }
    gap = min(
        CENTRES["right"] - 3 + width[b][0] - (CENTRES["left"] + 3 + width[a][2])
        for a, b in product(KINDS, KINDS)
    )
    assert gap > 4, gap  # a latent pixel is 8 picture pixels wide: half of one at least stays free


def test_things_stand_where_the_scene_says(boxes):
    for kind, position, seed in product(KINDS, POSITIONS, range(2)):
        left, _, right, _ = boxes(one(kind, "white", position), seed)[0]
        nearest = min(POSITIONS, key=lambda p: abs(CENTRES[p] - (left + right) / 2))
        assert nearest == position


def test_a_colour_changes_nothing_outside_the_thing(boxes):
    for kind, time in product(KINDS, TIMES):
        left, top, right, bottom = (round(v) for v in boxes(one(kind, "red", time=time), 3)[0])
        red, blue = (
            np.asarray(draw(one(kind, c, time=time), seed=3), int) for c in ("red", "blue")
        )
        changed = np.abs(red - blue).sum(-1) > 0
        ys, xs = np.nonzero(changed)
        assert changed.mean() > 0.01, "the colour must be seen"
        assert (
            left - 1 <= xs.min()
            and xs.max() <= right + 1
            and top - 1 <= ys.min()
            and ys.max() <= bottom + 1
        )


def test_every_fact_is_seen():
    """Change one fact of a scene, keep the seed: the picture changes by more than a trifle (mean
    grey levels out of 255)."""
    base = np.asarray(draw(one(), seed=5), float)
    others = (
        [one(kind=k) for k in KINDS if k != "cat"]
        + [one(colour=c) for c in COLOURS if c != "red"]
        + [one(position=p) for p in ("left", "right")]
    )
    others += [one(place=p) for p in PLACES if p != "meadow"] + [
        one(time=t) for t in ("night", "sunset")
    ]
    for scene in others:
        assert np.abs(np.asarray(draw(scene, seed=5), float) - base).mean() > 1, scene


def test_drawing_is_deterministic_by_seed():
    rng = np.random.default_rng(1)
    for seed in range(12):
        scene = sample_scene(rng)
        assert draw(scene, seed=seed).tobytes() == draw(scene, seed=seed).tobytes()
        assert draw(scene, seed=seed).tobytes() != draw(scene, seed=seed + 1).tobytes()
    assert [sample_scene(np.random.default_rng(7)) for _ in range(3)] == [
        sample_scene(np.random.default_rng(7))
    ] * 3
    state = np.random.get_state()[1].tolist()
    draw(one(), seed=2)
    assert np.random.get_state()[1].tolist() == state, (
        "drawing must not touch numpy's global randomness"
    )


@pytest.mark.parametrize("size", [16, 100, 128, 512])
def test_pictures_have_the_size_asked_for(size):
    picture = draw(two(), size=size, seed=4)
    assert picture.size == (size, size) and picture.mode == "RGB"
    small, full = (
        np.asarray(draw(two(), size=s, seed=4).resize((16, 16), Image.Resampling.BOX), float)
        for s in (size, 128)
    )
    assert np.abs(small - full).mean() < 4, "a size is a scale, not another picture"


# ------------------------------------------------------ captions

PLACE_OF = {phrase: place for place, phrases in world.PLACE_WORDS.items() for phrase in phrases}
TIME_OF = {phrase: time for time, phrases in world.TIME_WORDS.items() for phrase in phrases}
NOUN = re.compile(rf"(?:\b(an?) )?(?:\b({'|'.join(COLOURS)}) )?\b({'|'.join(KINDS)})\b")
WHERE = re.compile(r" (on the left|in the middle|on the right)\b")


def take(text: str, phrases: dict[str, str]) -> tuple[str, list[str]]:
    """The text without the phrases of a table, and what those phrases meant."""
    meant = []
    for phrase in sorted(phrases, key=len, reverse=True):
        if re.search(rf"\b{phrase}\b", text):
            text, meant = re.sub(rf"\b{phrase}\b", " ", text, count=1), [*meant, phrases[phrase]]
    return text, meant


def read(text: str) -> dict:
    """What a caption says, read word by word; whatever is not understood stays in "rest"."""
    text, places = take(text, PLACE_OF)
    text, times = take(text, TIME_OF)
    nouns = [m.groups() for m in NOUN.finditer(text)]
    side = re.search(r" to the (left|right) of ", text)
    where = [m.group(1).split()[-1] for m in WHERE.finditer(text)] or (
        [side.group(1), {"left": "right", "right": "left"}[side.group(1)]] if side else []
    )
    rest = re.sub(r" to the (?:left|right) of ", " ", WHERE.sub(" ", NOUN.sub(" ", text)))
    rest = [
        word
        for word in re.findall(r"[^\s,]+", re.sub(r"\bnext to\b", " ", rest))
        if word not in ("and", "beside")
    ]
    return {"places": places, "times": times, "nouns": nouns, "where": where, "rest": rest}


def test_a_plain_caption_names_everything():
    rng = np.random.default_rng(2)
    for _ in range(1000):
        scene = sample_scene(rng, held_out=bool(rng.integers(2)))
        said = read(caption(scene))
        assert [(c, k) for _, c, k in said["nouns"]] == [(t.colour, t.kind) for t in scene.things]
        assert said["where"] == [t.position for t in scene.things]
        assert (said["places"], said["times"], said["rest"]) == ([scene.place], [scene.time], []), (
            caption(scene)
        )


def test_a_varied_caption_names_only_what_is_drawn():
    rng = np.random.default_rng(3)
    for _ in range(5000):
        scene = sample_scene(rng)
        text = caption(scene, rng)
        said = read(text)
        assert text == text.lower().strip() and "  " not in text
        assert said["rest"] == [], text  # nothing is said that this reader cannot check
        assert [k for _, _, k in said["nouns"]] == [t.kind for t in scene.things], text
        assert all(
            c in (None, t.colour) for (_, c, _), t in zip(said["nouns"], scene.things, strict=True)
        ), text
        assert said["where"] in ([], [t.position for t in scene.things]), text
        assert said["places"] in ([], [scene.place]) and said["times"] in ([], [scene.time]), text


def test_each_phrase_means_its_place_and_its_time():
    """The reader above takes the phrases from the module: so each must hold its own word and no
    word of another."""
    for words in (world.PLACE_WORDS, world.TIME_WORDS):
        for meaning, phrases in words.items():
            assert all(
                [other for other in words if other in phrase] == [meaning] for phrase in phrases
            ), meaning


def test_captions_speak_grammar():
    assert (
        caption(one("cat", "orange", place="snow", time="night"))
        == "an orange cat in the middle in the snow at night"
    )
    rng = np.random.default_rng(4)
    for _ in range(2000):
        text = caption(sample_scene(rng), rng)
        for article, following in re.findall(r"\b(an?) (\w)", text):
            assert (article == "an") == (following in "aeiou"), text


def test_two_different_scenes_never_share_a_plain_caption():
    scenes = [one(*facts) for facts in product(KINDS, COLOURS, POSITIONS, PLACES, TIMES)]
    assert len({caption(s) for s in scenes}) == len(scenes)


def test_captions_vary_and_leave_things_out():
    rng = np.random.default_rng(5)
    texts = [caption(two(), rng) for _ in range(400)]
    said = [read(t) for t in texts]
    assert len(set(texts)) > 100
    for share in (
        np.mean([not s["places"] for s in said]),
        np.mean([not s["times"] for s in said]),
        np.mean([s["nouns"][0][1] is None for s in said]),
    ):
        assert 0.01 < share < 0.3
    assert caption(two(), np.random.default_rng(9)) == caption(two(), np.random.default_rng(9))


def test_the_reader_of_these_tests_notices_a_false_word():
    """The tests above are only as good as `read`: each of these captions is wrong about `two()`,
    and it must see why."""
    assert read("a red cat and a blue boat in the snow")["places"] == ["snow"]
    assert read("a red cow and a blue boat")["rest"] == ["a", "red", "cow"]
    assert read("a blue cat to the right of a boat")["where"] == ["right", "left"]
    assert read("a red cat in the white snow")["nouns"] == [("a", "red", "cat")]


# ------------------------------------------------------ held-out pairs


def test_held_out_pairs_never_occur_in_training():
    rng = np.random.default_rng(6)
    pairs = [(t.kind, t.colour) for _ in range(5000) for t in sample_scene(rng).things]
    assert not HELD_OUT & set(pairs)
    assert set(pairs) | HELD_OUT == set(product(KINDS, COLOURS)), "every other pair is learned"


def test_held_out_scenes_hold_at_least_one():
    rng = np.random.default_rng(7)
    scenes = [sample_scene(rng, held_out=True) for _ in range(2000)]
    assert all(s.held_out and any((t.kind, t.colour) in HELD_OUT for t in s.things) for s in scenes)
    assert {(t.kind, t.colour) for s in scenes for t in s.things if t.held_out} == HELD_OUT
    assert not one("cat", "red").held_out and one("cat", "green").held_out


def test_held_out_is_a_fair_question():
    """Each thing has one unseen colour, and every colour is seen on most things: the parts are
    known, only the pair is new."""
    assert sorted(k for k, _ in HELD_OUT) == sorted(KINDS)
    fair = len(KINDS) / len(COLOURS)
    for colour in COLOURS:
        assert fair - 1 < sum(c == colour for _, c in HELD_OUT) < fair + 1 or fair < 2, colour


def test_sampling_covers_the_world_evenly():
    rng = np.random.default_rng(8)
    scenes = [sample_scene(rng) for _ in range(6000)]
    for values, seen in (
        (PLACES, [s.place for s in scenes]),
        (TIMES, [s.time for s in scenes]),
        (POSITIONS, [s.things[0].position for s in scenes if len(s.things) == 1]),
        ((1, 2), [len(s.things) for s in scenes]),
    ):
        shares = np.array([seen.count(v) for v in values]) / len(seen)
        assert np.abs(shares * len(values) - 1).max() < 0.12, (values, shares)
    assert {s.things[0].position for s in scenes if len(s.things) == 2} == {"left", "right"}, (
        "either side is named first"
    )
    assert all(len(sample_scene(rng, things=n).things) == n for n in (1, 2) for _ in range(50))


# ------------------------------------------------------ mistakes

MISTAKES = {
    "kind": (lambda: Thing("cow", "red", "left"), "Unknown kind 'cow': choose one of house"),
    "colour": (lambda: Thing("cat", "mauve", "left"), "Unknown colour 'mauve': choose one of red"),
    "position": (lambda: Thing("cat", "red", "top"), "Unknown position 'top': choose one of left"),
    "place": (lambda: one(place="moon"), "Unknown place 'moon': choose one of meadow"),
    "time": (lambda: one(time="noon"), "Unknown time 'noon': choose one of day"),
    "nothing": (lambda: Scene((), "meadow", "day"), "one or two things; got 0"),
    "a crowd": (
        lambda: Scene(tuple(Thing("cat", "red", p) for p in POSITIONS), "meadow", "day"),
        "one or two things; got 3",
    ),
    "same place": (
        lambda: Scene((Thing("cat", "red", "left"),) * 2, "meadow", "day"),
        "one left and one right",
    ),
    "too small": (lambda: draw(one(), size=8), "from 16 to 512; got 8"),
    "too large": (lambda: draw(one(), size=1024), "from 16 to 512; got 1024"),
    "three things": (
        lambda: sample_scene(np.random.default_rng(0), things=3),
        "one or two things; got 3",
    ),
    "zero things": (
        lambda: sample_scene(np.random.default_rng(0), things=0),
        "one or two things; got 0",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_clear_sentence(name):
    mistake, says = MISTAKES[name]
    with pytest.raises(ValueError) as caught:
        mistake()
    message = str(caught.value)
    assert (
        says in message
        and message.endswith(".")
        and "\n" not in message
        and len(message) < 60 + len(", ".join(KINDS))
    )


# ------------------------------------------------------ a thing of your own


def test_the_docstring_shows_how_to_add_a_thing_in_ten_lines(monkeypatch):
    before = tuple(KINDS)
    monkeypatch.setitem(PAINTERS, "lollipop", None)  # taken away again after the test
    example = dedent(re.search(r"::\n\n((?:    .*\n|\n)+)", world.__doc__).group(1))
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    scope = {}
    exec(example, scope)
    assert KINDS == world.KINDS == (*before, "lollipop"), "a name imported before sees it too"
    scene = one("lollipop", "pink")
    assert caption(scene) == "a pink lollipop in the middle in a meadow by day"
    assert draw(scene).tobytes() != draw(one("flower", "pink")).tobytes()
    edges = footprint(scope["paint_lollipop"], Pen(Image.new("RGB", (8, 8)), 0, 0, 1), (9, 9, 9))
    assert -26 < edges[0] < edges[2] < 26 and -66 < edges[1] < edges[3] < 2, (
        "the example keeps its own advice, give or take an outline"
    )
    rng = np.random.default_rng(0)
    assert "lollipop" in {t.kind for _ in range(300) for t in sample_scene(rng).things}
    again = world.thing("lollipop")(PAINTERS["flower"].paint)
    assert KINDS.count("lollipop") == 1 and PAINTERS["lollipop"].paint is again, (
        "defining it again replaces it"
    )


def test_the_example_left_no_trace():
    assert KINDS == tuple(PAINTERS) and "lollipop" not in KINDS and len(set(KINDS)) == len(KINDS)


def test_kinds_read_like_a_tuple():
    assert KINDS[0] == "house" and KINDS[:2] == ("house", "tree") and len(KINDS) == len(PAINTERS)
    assert "cat" in KINDS and "cow" not in KINDS and KINDS.index("cat") == 2
    assert repr(KINDS) == repr(tuple(PAINTERS)) and np.array(KINDS).shape == (len(KINDS),)
    with pytest.raises(TypeError):
        KINDS[0] = "cow"


def test_a_mirrored_scene_has_left_and_right_exchanged_and_nothing_else():
    rng = np.random.default_rng(9)
    for _ in range(100):
        scene = sample_scene(rng)
        other = world.mirror(scene)
        assert world.mirror(other) == scene and (other.place, other.time) == (
            scene.place,
            scene.time,
        )
        assert [(t.kind, t.colour) for t in other.things] == [
            (t.kind, t.colour) for t in scene.things
        ]
        assert (other == scene) == all(t.position == "middle" for t in scene.things)


def test_the_first_chapter_tells_this_world():
    """The numbers and the words that chapter 00 gives of the world are those of the world."""
    path = Path(__file__).resolve().parents[1] / "notebooks" / "00_first_image.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    printed = "".join("".join(o.get("text", "")) for c in cells for o in c.get("outputs", []))
    assert f"{len(KINDS)} things:" in printed
    for word in (*KINDS, *COLOURS, *PLACES, *TIMES):
        assert re.search(rf"\b{word}\b", printed), word
