"""The judge: what a prompt asks for, what a picture shows, and the difference."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sdlearn import hub, judge, world
from sdlearn.judge import Asked, Request, Seen, compare_readings, read_prompt, same_scene

HOUSE, CAT = world.Thing("house", "red", "left"), world.Thing("cat", "blue", "right")


def seen(*things, place="snow", time="night") -> Seen:
    return Seen(tuple(things), place, time, (0.9,) * (len(things) + 2), np.zeros(128))


# ------------------------------------------------------------------------ what a prompt asks for


def test_every_caption_is_read_as_what_it_says():
    """Over a thousand captions in any wording: what is read is never more than the scene has, and
    a plain caption is read whole."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        scene = world.sample_scene(rng, held_out=bool(rng.integers(2)))
        assert read_prompt(world.caption(scene)) == read_prompt(scene)
        text = world.caption(scene, rng)
        asked = read_prompt(text)
        assert len(asked.things) == len(scene.things), text
        assert all(r.fits(t) for r, t in zip(asked.things, scene.things, strict=True)), text
        assert asked.place in (None, scene.place) and asked.time in (None, scene.time), text
        named = [t.position for t in scene.things if t.position in text.replace(",", "").split()]
        assert bool(named) == any(r.position for r in asked.things), text
        for thing, request in zip(scene.things, asked.things, strict=True):
            assert (request.colour is None) == (f"{thing.colour} {thing.kind}" not in text), text


PROMPTS = {
    "a cat": Asked((Request("cat"),)),
    "A RED Cat!": Asked((Request("cat", "red"),)),
    "on the left a red cat, on the right a blue boat": Asked(
        (Request("cat", "red", "left"), Request("boat", "blue", "right"))
    ),
    "a red cat and on the left a blue boat": Asked(
        (Request("cat", "red"), Request("boat", "blue", "left"))
    ),
    "a house to the right of a white tree by the sea": Asked(
        (Request("house", None, "right"), Request("tree", "white", "left")), "sea"
    ),
    "a boat in a green meadow": Asked((Request("boat"),), "meadow"),
    "on a sunny day": Asked((), None, "day"),
    "a zebra eats quietly": Asked(()),
    "": Asked(()),
}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_that_people_write(prompt):
    assert read_prompt(prompt) == PROMPTS[prompt]


def test_wishes_in_words():
    asked = read_prompt("a house to the right of an orange tree by the sea at night")
    assert asked.words == (
        "a house on the right",
        "an orange tree on the left",
        "by the sea",
        "at night",
    )


# --------------------------------------------------------------------------------- the difference


def test_what_is_missing_and_what_is_too_much():
    asked = read_prompt("a red house on the left and a blue cat in the snow at night")
    assert compare_readings(asked, seen(HOUSE, CAT)).right
    moved = seen(world.Thing("house", "red", "right"), world.Thing("cat", "blue", "left"))
    found = compare_readings(asked, moved)
    assert not found.right and found.missing == ("a red house on the left",)
    assert found.extra == ("a red house on the right",)
    found = compare_readings(asked, seen(HOUSE, place="sea", time="day"))
    assert found.missing == ("a blue cat", "in the snow", "at night") and found.extra == ()


def test_open_wishes_leave_the_fitting_thing_to_full_ones():
    """ "a cat and a red cat": the red one is not spent on the wish for any cat."""
    red, blue = world.Thing("cat", "red", "left"), world.Thing("cat", "blue", "right")
    assert compare_readings(read_prompt("a cat and a red cat"), seen(red, blue)).right
    found = compare_readings(read_prompt("a red cat and a red cat"), seen(red))
    assert found.missing == ("a red cat",), "one cat is not two"


def test_the_same_scene_only_for_what_was_named():
    scene = world.Scene((HOUSE, CAT), "snow", "night")
    moved = world.mirror(scene)
    swapped = world.Scene(
        (world.Thing("house", "blue", "left"), world.Thing("cat", "red", "right")), "snow", "night"
    )
    assert same_scene(scene, scene, positions=True)
    assert same_scene(scene, moved) and not same_scene(scene, moved, positions=True)
    assert not same_scene(scene, swapped) and not same_scene(scene, None)
    assert not same_scene(scene, world.Scene((HOUSE, CAT), "snow", "day"))


# ------------------------------------------------------------------------------------ the network


def test_probabilities_are_those_of_the_logits():
    """Of a picture judged by random weights: softmax by hand, tolerance 1e-5."""
    torch.manual_seed(0)
    network = judge.Judge().eval()
    picture = world.draw(world.Scene((HOUSE,), "snow", "night"), 64, seed=1)
    [found] = network.look([picture])
    pixels = torch.from_numpy(np.array(picture.resize((128, 128), 1))).permute(2, 0, 1)[None]
    logits = network(pixels.float() / 127.5 - 1)
    place = logits["place"].softmax(-1).detach()
    assert found.sure[-2] == pytest.approx(place.max().item(), rel=1e-5)
    assert found.place == world.PLACES[place.argmax()] and len(found.words) == len(found.sure)
    kinds, colours = (logits[name][0].softmax(-1).detach() for name in ("kind", "colour"))
    shown = [
        (k.max() * c.max()).item()
        for k, c in zip(kinds, colours, strict=True)
        if k.argmax() < len(world.KINDS) and c.argmax() < len(world.COLOURS)
    ]
    assert list(found.sure[:-2]) == pytest.approx(shown, rel=1e-5)


def test_three_things_are_no_scene():
    three = seen(HOUSE, CAT, world.Thing("boat", "red", "middle"))
    assert three.scene is None and len(three.words) == 5 and seen().scene is None


def test_the_shipped_judge_reads_drawings():
    """Forty drawings of scenes it never saw: all right, and it is sure of them."""
    network = judge.load_judge()
    scenes = [world.sample_scene(np.random.default_rng([99, i])) for i in range(40)]
    pictures = [world.draw(scene, seed=i) for i, scene in enumerate(scenes)]
    found = network.look(pictures)
    right = [same_scene(s, f.scene, positions=True) for s, f in zip(scenes, found, strict=True)]
    assert sum(right) >= 39 and np.mean([np.mean(f.sure) for f in found]) > 0.9
    compared = network.compare(world.caption(scenes[0]), pictures[0])
    assert compared.right is right[0] and compared.asked == read_prompt(scenes[0])


def test_a_judge_of_another_world_gets_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no judge at .*sdlearn\.training judge"):
        judge.load_judge(tmp_path)
    weights = load_file(hub.TINY_SD / judge.FILE)
    more = weights | {"heads.place.bias": torch.zeros(len(world.PLACES) + 2)}
    save_file(more, tmp_path / judge.FILE)
    with pytest.raises(ValueError, match="learned another world"):
        judge.load_judge(tmp_path)
    other = judge.words_of_world() | {"colour": "beige " * len(world.COLOURS)}
    save_file(weights, tmp_path / judge.FILE, metadata=other)
    with pytest.raises(ValueError, match="learned another world"):
        judge.load_judge(tmp_path)
    save_file(weights, tmp_path / judge.FILE, metadata=judge.words_of_world())
    judge.load_judge(tmp_path)
    (tmp_path / judge.FILE).write_bytes(b"not a model")
    with pytest.raises(ValueError, match="cannot be read"):
        judge.load_judge(tmp_path)
