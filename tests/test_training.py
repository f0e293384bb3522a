"""The trainers: their formulas, and that a killed training goes on where it was."""

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sdlearn import folders, hub, models, noising, world
from sdlearn.training import __main__ as command
from sdlearn.training import clip, common, data, judge, prepare, tokenizer, unet, vae

SMALL = (8, 8, 8, 8)  # channels of an autoencoder that is built in a moment


# ------------------------------------------------------------------------------ autoencoder


def test_kl_term_equals_diffusers():
    """0.5 (mean^2 + var - 1 - log var) per latent value against diffusers'
    DiagonalGaussianDistribution.kl (summed over values), tolerance 1e-4 relative."""
    torch.manual_seed(0)
    model = models.build_vae(block_out_channels=SMALL)
    x, none = torch.randn(2, 3, 32, 32), {"square_weight": 0.0, "edge_weight": 0.0}
    losses = []
    for weight in (1.0, 0.0):
        torch.manual_seed(1)
        settings = vae.VAESettings(kl_weight=weight, **none)
        losses.append(vae.loss_terms(vae.RoundTrip(model), x, settings)[0])
    posterior = model.encode(x).latent_dist
    wanted = posterior.kl().sum() / posterior.mean.numel()
    assert torch.allclose(losses[0] - losses[1], wanted, rtol=1e-4)


def test_balanced_channels_have_mean_zero_and_equal_deviation_and_decode_the_same():
    """Latents: |mean| < 1e-4 and equal standard deviations to 1e-4; pictures unchanged."""
    torch.manual_seed(0)
    model = models.build_vae(block_out_channels=SMALL).eval()
    pixels = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)
    before = vae.reconstruction(model, pixels)
    vae.balance(model, before["mean"], before["std"])
    after = vae.reconstruction(model, pixels)
    assert max(abs(m) for m in after["mean"]) < 1e-4
    assert max(after["std"]) - min(after["std"]) < 1e-4
    assert after["psnr"] == pytest.approx(before["psnr"], abs=1e-3)


def test_crops_are_parts_of_pictures_and_an_eighth_has_other_colors():
    count = torch.arange(128 * 128).view(128, 128)
    images = torch.stack([count % 251, count // 251, torch.full_like(count, 7)], -1)
    images = images.to(torch.uint8)[None].repeat(3, 1, 1, 1)
    settings = vae.VAESettings(crop=24, batch=16, exchanged=0.125)
    pixels = vae.pick_pixels(images, settings, np.random.default_rng(0), whole=False)
    assert pixels.shape == (16, 3, 24, 24)
    values = ((pixels + 1) * 127.5).round().long()
    places = values[2:, 1] * 251 + values[2:, 0]
    assert (places.diff(dim=-1) == 1).all() and (places.diff(dim=-2) == 128).all()
    settings.exchanged = 0.0
    plain = vae.pick_pixels(images, settings, np.random.default_rng(0), whole=False)
    assert torch.equal(pixels[2:], plain[2:]) and not torch.equal(pixels[:2], plain[:2])
    assert torch.equal(pixels[:2].sort(1).values, plain[:2].sort(1).values), "two of 16, in order"
    whole = vae.pick_pixels(images, settings, np.random.default_rng(0), whole=True)
    assert whole.shape == (4, 3, 128, 128) and torch.equal(whole[1:], whole[1:2].repeat(3, 1, 1, 1))


def run_vae(folder: Path, **changes) -> None:
    told = dict(pictures=12, test_pictures=2, batch=2, crop=16, minutes=0.01, device="cpu")
    told |= {"work": str(folder / "runs"), "out": str(folder / "out"), "bf16": False}
    vae.train_vae(vae.VAESettings(**told | changes))


@pytest.fixture
def small_vae(monkeypatch):
    build = models.build_vae
    monkeypatch.setattr(models, "build_vae", lambda: build(block_out_channels=SMALL))


def test_the_decoder_alone_keeps_the_latents(tmp_path, small_vae):
    """Encoder and scaling factor stay to the bit: the U-Net remains valid. The decoder learns."""
    run_vae(tmp_path)
    before = hub.load_part("vae", tmp_path / "out")
    run_vae(tmp_path, decoder_only=True)
    after = hub.load_part("vae", tmp_path / "out")
    assert after.config.scaling_factor == before.config.scaling_factor
    for name, weight in before.state_dict().items():
        same = torch.equal(weight, after.state_dict()[name])
        if name.startswith(("encoder.", "quant_conv.")):
            assert same, name
    assert not torch.equal(before.decoder.conv_out.weight, after.decoder.conv_out.weight)


# -------------------------------------------------------------------------------------- U-Net


def batch_of(latents, noise, t, shown=None) -> unet.Batch:
    ids = torch.zeros(len(t), 77, dtype=torch.long)
    shown = latents if shown is None else shown
    return unet.Batch(ids, latents, shown, noise, t, torch.zeros(len(t), dtype=torch.bool))


def answers(guess):
    return lambda x, t, encoder_hidden_states: SimpleNamespace(sample=guess(x, t))


def test_the_error_is_that_of_v():
    """Against diffusers' get_velocity of the latents that the predicted noise implies, tolerance
    1e-4 relative (Salimans and Ho 2022)."""
    torch.manual_seed(0)
    latents, noise, guess = torch.randn(3, 3, 4, 8, 8)
    abar, t = noising.make_alphas_cumprod(), torch.tensor([100, 600, 900])
    a = abar[t].view(-1, 1, 1, 1)
    scheduler = models.build_scheduler("ddpm")
    imagined = (scheduler.add_noise(latents, noise, t) - (1 - a).sqrt() * guess) / a.sqrt()
    told = scheduler.get_velocity(imagined, guess, t) - scheduler.get_velocity(latents, noise, t)
    batch = batch_of(latents, noise, t)
    error = unet.error_of_v(answers(lambda x, t: guess), batch, None, abar)
    assert torch.allclose(error, told.square().mean((1, 2, 3)), rtol=1e-4)
    error = unet.error_of_v(answers(lambda x, t: noise), batch, None, abar)
    assert error.max() < 1e-6, "who tells the noise is right"


def test_from_exchanged_latents_the_true_ones_are_asked_for():
    """Taking the target away from x_t of the shown latents, (x_t - sqrt(1 - abar) eps) /
    sqrt(abar), gives the true ones; x_t by diffusers' add_noise, tolerance 1e-5."""
    torch.manual_seed(0)
    latents, shown, noise = torch.randn(3, 3, 4, 8, 8)
    abar, t = noising.make_alphas_cumprod(), torch.tensor([500, 600, 999])

    def perfect(x, t):
        a = abar[t].view(-1, 1, 1, 1)
        wanted = models.build_scheduler("ddpm").add_noise(shown, noise, t)
        assert torch.allclose(x, wanted, atol=1e-5)
        return (x - a.sqrt() * latents) / (1 - a).sqrt()

    batch = batch_of(latents, noise, t, shown)
    assert unet.error_of_v(answers(perfect), batch, None, abar).max() < 1e-6
    other = batch._replace(latents=shown)
    assert unet.error_of_v(answers(perfect), other, None, abar).min() > 1e-3


def test_each_level_of_noise_counts_alike():
    """Errors of level k that are always k + 1: after a while their quotients by the usual error
    are 1, at every level; those to leave out change nothing."""
    usual, rng = unet.UsualError(), np.random.default_rng(0)
    for _ in range(400):
        t = torch.from_numpy(rng.integers(1000, size=64))
        usual.update(t, 1.0 + usual.level(t), torch.ones(64, dtype=torch.bool))
    t = torch.arange(1000)
    assert torch.allclose((1.0 + usual.level(t)) / usual(t), torch.ones(1000), rtol=1e-3)
    before = usual.average.clone()
    usual.update(t, torch.full((1000,), 1e6), torch.zeros(1000, dtype=torch.bool))
    assert torch.equal(usual.average, before)


def example_table(count: int = 40) -> unet.Table:
    """Latents that are their scene's number, negative for mirrored scenes; ids that are the
    wording's number."""
    numbers = torch.arange(1.0, count + 1).view(1, count, 1, 1, 1, 1)
    latents = torch.cat([numbers, -numbers]).repeat(1, 1, 2, 4, 4, 4)
    latents[:, :, 1] = 0  # no deviation
    ids = torch.arange(9, dtype=torch.int16).view(1, 1, 9, 1).repeat(2, count, 1, 77)
    two = np.arange(count // 2)
    empty = torch.full((77,), 99, dtype=torch.int16)
    return unet.Table(latents, ids, empty, two, np.arange(count // 2, count))


def pick(**changes) -> unet.Batch:
    settings = unet.UNetSettings(batch=2000, **changes)
    generator = torch.Generator().manual_seed(0)
    return unet.pick_batch_of_pairs(example_table(), settings, np.random.default_rng(0), generator)


def test_a_batch_holds_scenes_and_mirrored_scenes_under_the_same_noise():
    batch = pick(two_things=0.6, drop_caption=0.1, swap=0.0)
    first, second = batch.latents.chunk(2)
    assert torch.equal(first, -second) and torch.equal(batch.shown, batch.latents)
    assert all(torch.equal(*part.chunk(2)) for part in (batch.noise, batch.t))
    assert batch.noise.std() == pytest.approx(1, abs=0.02) and batch.latents.shape[1:] == (4, 4, 4)
    assert (first[:, 0, 0, 0] <= 20).float().mean() == pytest.approx(0.6, abs=1e-3)
    words = batch.ids[:, 0]
    assert (words == 99).float().mean() == pytest.approx(0.1, abs=0.03)
    assert set(words.tolist()) == {*data.ANY_WORDING.tolist(), 99}
    assert torch.equal(pick().noise, pick().noise), "a step draws the same again"


def test_timesteps_lean_to_noise():
    """T u^0.6 is below T/2 with probability 0.5^(1 / 0.6) = 0.315."""
    batch = pick(toward_noise=0.6)
    assert (batch.t < 500).float().mean() == pytest.approx(0.5 ** (1 / 0.6), abs=0.04)
    assert (pick(toward_noise=1.0).t < 500).float().mean() == pytest.approx(0.5, abs=0.04)


def test_a_share_of_the_noisy_pairs_exchange_their_latents():
    batch = pick(swap=0.5, drop_caption=0.5)
    first, second = batch.swapped.chunk(2)
    assert torch.equal(first, second) and (batch.t[batch.swapped] >= unet.SWAP_FROM).all()
    noisy = batch.swapped[batch.t >= unet.SWAP_FROM].float().mean()
    assert noisy == pytest.approx(0.5, abs=0.06)  # 3 standard errors
    near = batch.swapped & (batch.t < unet.FAR_FROM)
    assert near.any() and torch.equal(batch.shown[near], -batch.latents[near])
    far = batch.swapped & (batch.t >= unet.FAR_FROM)
    elsewhere = (batch.shown[far] != -batch.latents[far]).flatten(1).any(1).float().mean()
    assert 0.2 < elsewhere < 0.7  # half take another picture's, which may be the partner's too
    assert torch.equal(batch.shown[~batch.swapped], batch.latents[~batch.swapped])
    told = set(batch.ids[batch.swapped, 0].tolist())
    assert told == set(data.WITH_SIDES.tolist()), "their captions say the sides, none is dropped"


def test_who_follows_the_sides_is_told_by_the_error():
    """A text encoder that hands on the ids, and a U-Net that tells the noise exactly for ids 0
    and 0.1 too high for others: errors of the imagined latents 0 and 0.1^2 (1 - abar) / abar."""
    table, abar = example_table(), noising.make_alphas_cumprod()
    table.ids[1] = 5
    text = lambda ids: SimpleNamespace(last_hidden_state=ids)  # noqa: E731

    def guess(x, t, encoder_hidden_states):
        latents, a = table.latents[0, table.two[-10:], 0], abar[t].view(-1, 1, 1, 1)
        noise = (x - a.sqrt() * latents) / (1 - a).sqrt()
        wrong = (encoder_hidden_states[:, 0] > 0).float().view(-1, 1, 1, 1)
        return SimpleNamespace(sample=noise + 0.1 * wrong)

    found = unet.error_by_caption(guess, text, table, abar, t=600, count=10)
    a = abar[600].item()
    assert found["own"] < 1e-9
    assert found["mirrored"] == pytest.approx(0.01 * (1 - a) / a, rel=1e-3)


def test_a_caption_is_retold_with_another_thing_and_keeps_its_own_words():
    tokenizer = hub.load_tokenizer(hub.TINY_SD)
    said = [c for i in range(60) for c in data.captions("train", i)] + [""]
    ids = tokenizer(said, padding="max_length", return_tensors="pt").input_ids
    retold = unet.Retold(tokenizer, torch.device("cpu"))
    other, own = retold.captions(ids, 1.0, torch.Generator().manual_seed(0))
    changed = ~own.all(1)
    assert changed.float().mean() > 0.7 and not changed[-1]  # most, and never the empty caption
    assert torch.equal(other[~changed], ids[~changed])
    kinds, colors = 0, 0
    for a, b, mine in zip(ids[changed], other[changed], own[changed], strict=True):
        at = mine.nonzero()[:, 0].tolist()
        before, after = (tokenizer.decode(row[at]).split() for row in (a, b))
        assert len(at) == 2 and (after[1], after[0]) not in world.HELD_OUT
        assert before[0] in world.COLOURS and before[1] in world.KINDS
        kinds, colors = kinds + (before[1] != after[1]), colors + (before[0] != after[0])
        rest = torch.ones(len(a), dtype=torch.bool)
        rest[[at[0] - 1, *at]] = False  # the article may change, too
        assert torch.equal(a[rest], b[rest])
        text = tokenizer.decode(b, skip_special_tokens=True)
        assert "a orange" not in text and "an red" not in text
    share = kinds / changed.sum(), colors / changed.sum()
    assert all(0.5 < one < 0.75 for one in share)  # the kind, the color, or both
    none, own = retold.captions(ids, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(none, ids) and own.all()


def test_a_short_u_net_training_writes_a_model_and_a_log(tmp_path, monkeypatch):
    """A second of the real loop, from shipped weights, exchanged latents included: other weights
    come out, and the parts it stands on lie beside them."""
    monkeypatch.setattr(unet, "samples", lambda pipe: world.draw(data.scene("seen", 0)))
    out, work = tmp_path / "out", tmp_path / "runs"
    told = dict(minutes=0.02, pictures=12, batch=4, device="cpu", swap=0.5, bf16=False)
    told |= {"start_from": str(hub.TINY_SD), "work": str(work), "out": str(out)}
    unet.train_unet(unet.UNetSettings(**told))
    before, after = (hub.load_part("unet", f).conv_in.weight for f in (hub.TINY_SD, out))
    assert not torch.equal(before, after) and torch.isfinite(after).all()
    rows = [json.loads(line) for line in (work / "unet" / "log.jsonl").read_text().splitlines()]
    assert rows[0]["settings"]["swap"] == 0.5 and {"loss", "error"} <= set(rows[1])
    folders.check_folder(out)
    state = torch.load(work / "unet" / "checkpoint.pt", weights_only=True)
    assert state["keep"]["updates"] == state["step"] and (state["keep"]["average"] != 1).any()


# --------------------------------------------------------------------------------------- CLIP


def test_contrastive_loss_is_lowest_for_the_right_pairs():
    features = torch.nn.functional.normalize(torch.randn(8, 16), dim=-1)
    scale = torch.tensor(3.0)
    right = clip.contrastive_loss(features, features, scale)
    assert right < clip.contrastive_loss(features, features.roll(1, 0), scale)
    logits = scale.exp() * features @ features.T
    by_hand = -(logits.log_softmax(0).diag() + logits.log_softmax(1).diag()).mean() / 2
    assert torch.allclose(right, by_hand, atol=1e-5)


def test_padding_that_repeats_the_sentence_costs_nothing():
    """0 where every place behind the end differs between sentences as the end's state does (each
    place may have a mean of its own), 1 where all sentences have the same; what comes before the
    end does not count."""
    torch.manual_seed(0)
    end, ids = 9, torch.tensor([[1, 2, 9, 9, 9, 9], [1, 3, 9, 9, 9, 9], [1, 4, 9, 9, 9, 9]])
    states = torch.randn(3, 6, 8)
    states[:, 3:] = states[:, 2:3] + torch.randn(1, 3, 8)
    assert clip.padding_loss(states, ids, end) < 1e-10
    states[:, :2] = torch.randn(3, 2, 8)
    assert clip.padding_loss(states, ids, end) < 1e-10
    states[:, 3:] = torch.randn(1, 3, 8)
    assert clip.padding_loss(states, ids, end).item() == pytest.approx(1, abs=1e-5)


def test_padding_loss_does_not_move_the_end():
    states = torch.randn(3, 5, 8, requires_grad=True)
    ids = torch.tensor([[1, 2, 9, 9, 9], [1, 9, 9, 9, 9], [1, 9, 9, 9, 9]])
    clip.padding_loss(states, ids, 9).backward()
    moved = states.grad.abs().sum(-1) > 0
    assert moved.tolist() == [[False] * 3 + [True] * 2] + [[False] * 2 + [True] * 3] * 2


def test_without_text_only_the_image_tower_of_clip_learns(tmp_path, monkeypatch):
    """``--no-text``: every weight of the text tower stays, so that a U-Net which reads its states
    stays valid; the image tower moves."""
    monkeypatch.setattr(clip, "how_good", lambda *_: "")
    monkeypatch.setattr(data, "pictures", lambda *_: None)
    drawn = [torch.from_numpy(data.drawn_picture(s, 0).copy()) for s in ("train", "mirrored")]
    ids = torch.ones(30, data.WORDINGS, data.TOKENS, dtype=torch.int16)
    shelf = clip.Shelf([one.repeat(30, 1, 1, 1) for one in drawn], [ids, ids],
                       torch.arange(60).view(2, 30), [np.arange(30)])  # fmt: skip
    monkeypatch.setattr(clip, "fill_shelf", lambda *_: shelf)
    told = dict(minutes=0.01, batch=4, pictures=30, text=False, device="cpu", bf16=False)
    told |= {"work": str(tmp_path / "w"), "out": str(tmp_path / "m")}
    clip.train_clip(clip.CLIPSettings(**told, start_from=str(hub.TINY_SD)))
    before, after = (hub.load_part("clip", f).state_dict() for f in (hub.TINY_SD, told["out"]))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "text_model" not in moved and "vision_model" in moved


def test_a_batch_of_clip_holds_pairs_that_belong_together(tmp_path):
    tokenizer = hub.load_tokenizer()
    settings = clip.CLIPSettings(pictures=60, batch=16, work=str(tmp_path), mirrored=1.0, alike=0.0)
    shelf = clip.fill_shelf(settings, tokenizer, torch.device("cpu"))
    ids, pixels, names = clip.pick_batch(shelf, settings, np.random.default_rng(0))
    assert ids.shape == (16, 77) and pixels.shape == (16, 3, 128, 128) and names.shape == (16,)
    said = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    for text in said:
        assert any(position in text.split() for position in world.POSITIONS), text

    def key(picture: torch.Tensor) -> bytes:
        return picture.contiguous().numpy().tobytes()

    numbered = [(split, i) for split in ("train", "mirrored") for i in range(60)]
    shown = {key(data.to_pixels(data.drawn_picture(*n)[None])[0]): n for n in numbered}
    scenes = [data.scene(*shown[key(picture)]) for picture in pixels]
    for k, text in enumerate(said):
        scene = scenes[k]
        assert all(t.kind in text and t.colour in text for t in scene.things)
        same = [world.caption(other) == world.caption(scene) for other in scenes]
        assert (names == names[k]).tolist() == same
    alike = replace(settings, alike=1.0, mirrored=0.0)
    ids, _, _ = clip.pick_batch(shelf, alike, np.random.default_rng(1))
    assert 1 <= len(ids) <= 16


def test_nearer_than_mirrored_tells_who_reads_the_sides(monkeypatch):
    """A caption whose features are those of its own picture is always nearer to it, one with
    those of the mirrored picture never."""
    ids = lambda said, **options: SimpleNamespace(input_ids=torch.zeros(len(said), 1))  # noqa: E731

    def told(whose: int) -> list[bool]:
        def towers(model, ids, pixels):
            image = torch.nn.functional.normalize(pixels.flatten(1), dim=1)
            return image[whose::2], image, None

        monkeypatch.setattr(clip, "towers", towers)
        return clip.nearer_than_mirrored(SimpleNamespace(device="cpu"), ids, "seen", 10)

    assert told(0) == [True] * 10 and told(1) == [False] * 10


def test_shift_by_sides_is_the_distance_that_words_make():
    """0 where words change nothing; where each state is its token's number, the distance of the
    numbers of two captions over their deviation, tolerance 1e-5."""
    tokenizer = hub.load_tokenizer()

    def tower(read):
        def states(ids):
            return SimpleNamespace(last_hidden_state=read(ids)[..., None].float())

        return SimpleNamespace(device="cpu", text_model=states)

    deaf = tower(lambda ids: torch.arange(77).expand(ids.shape))
    assert clip.shift_by_sides(deaf, tokenizer, "seen", 12) == 0
    scenes = [data.scene("seen", i) for i in clip.with_sides("seen", 12)]
    assert len(scenes) == 12 and all(s != world.mirror(s) for s in scenes)
    told, mirrored = (
        tokenizer(
            [world.caption(f(s)) for s in scenes], padding="max_length", return_tensors="pt"
        ).input_ids.float()
        for f in (lambda s: s, world.mirror)
    )
    wanted = ((told - mirrored).square().mean() / told.var()).sqrt().item()
    found = clip.shift_by_sides(tower(lambda ids: ids), tokenizer, "seen", 12)
    assert found == pytest.approx(wanted, rel=1e-5)


# ------------------------------------------------------------------ data, tokenizer, judge


def test_splits_keep_held_out_pairs_out_of_training():
    for split in ("train", "mirrored", "seen"):
        assert not any(data.scene(split, i).held_out for i in range(1000))
    assert all(data.scene("held_out", i).held_out for i in range(500))
    assert data.scene("train", 7) == data.scene("train", 7) != data.scene("seen", 7)
    assert data.scene("mirrored", 7) == world.mirror(data.scene("train", 7))
    for i in range(40):
        one, moved = data.scene("train", i), data.scene("moved", i)
        assert moved == world.mirror(one) if len(one.things) == 2 else moved != one
        assert [t.position for t in moved.things] != [t.position for t in one.things]
    assert np.array_equal(data.drawn_picture("train", 3), data.drawn_picture("train", 3))


def test_colors_without_a_name_are_not_said_and_never_make_a_held_out_pair():
    """Things of ``unnamed`` are painted alike in the partner, their color is in no caption, the
    picture shows it, and its nearest color in the palette is not held out for the kind."""
    shown = 0
    for i in range(60):
        paints, partner = (
            data.unnamed_paints(data.scene(split, i), i) for split in ("unnamed", "unnamed_moved")
        )
        assert [*paints.values()] == [*partner.values()]
        for split, painted in (("unnamed", paints), ("unnamed_moved", partner)):
            for thing, paint in painted.items():
                assert (thing.kind, data.nearest_colour(paint)) not in world.HELD_OUT
                for said in data.captions(split, i):
                    assert f"{thing.colour} {thing.kind}" not in said
                    wrong = "an " if thing.kind[0] not in "aeiou" else "a "
                    assert thing.kind in said.split() or f"{thing.kind}," in said.split()
                    assert f" {wrong}{thing.kind}" not in f" {said}"
        plain = np.asarray(world.draw(data.scene("unnamed", i), seed=4 * 1_000_003 + i))
        shown += bool((plain != data.drawn_picture("unnamed", i)).any())
    assert shown == 60


def test_room_is_asked_for_every_picture_that_is_drawn(tmp_path, monkeypatch):
    """The U-Net's colors without a name count too: 200 scenes, 50 more, and as many partners."""
    settings = unet.UNetSettings(pictures=200, unnamed=0.25, work=str(tmp_path))
    assert sum(settings.drawn().values()) == 500
    assert unet.UNetSettings(pictures=200, unnamed=0).drawn() == {"train": 200, "moved": 200}
    needed = 500 * 3 * data.SIDE**2 + prepare.CHECKPOINT_MB * 1e6
    for spare, said in ((1, contextlib.nullcontext()), (-1, pytest.raises(ValueError, match="GB"))):
        disk = SimpleNamespace(free=needed + spare)
        monkeypatch.setattr(prepare.shutil, "disk_usage", lambda _, disk=disk: disk)
        with said:
            prepare.check_room(settings)


def test_captions_with_sides_say_colors_and_sides():
    for i in range(50):
        said, scene = data.captions("train", i), data.scene("train", i)
        assert len(said) == data.WORDINGS and said == data.captions("train", i)
        assert said[0] == world.caption(scene)
        for text in (said[k] for k in data.WITH_SIDES):
            assert all(f"{t.colour} {t.kind}" in text for t in scene.things)
            words = text.replace(",", "").split()
            assert any(t.position in words for t in scene.things)


def test_token_ids_are_those_of_the_captions(tmp_path):
    tokenizer = hub.load_tokenizer()
    ids = data.token_ids("mirrored", 5, tokenizer, tmp_path)
    assert ids.shape == (5, 9, 77) and ids.dtype == torch.int16
    said = [text for i in range(5) for text in data.captions("mirrored", i)]
    wanted = tokenizer(said, padding="max_length", return_tensors="pt").input_ids
    assert torch.equal(ids.flatten(0, 1).long(), wanted)
    assert torch.equal(data.token_ids("mirrored", 5, tokenizer, tmp_path), ids)


def test_pictures_are_found_again_and_strays_are_passed_over(tmp_path, monkeypatch):
    """A longer row serves a shorter one; empty files, texts and cut-off rows do not disturb."""
    for stray in ("pictures_train_9.npy", "pictures_train_x.npy", "pictures_train_80.npy.bak"):
        (tmp_path / stray).write_bytes(b"")
    np.save(tmp_path / "pictures_train_70.npy", np.zeros((70, 3)))
    drawn = data.pictures("train", 6, tmp_path)
    assert drawn.shape == (6, 128, 128, 3) and data.are_drawn("train", 6, tmp_path)
    assert all(np.array_equal(drawn[i], data.drawn_picture("train", i)) for i in range(6))
    monkeypatch.setattr(data, "in_blocks", None)  # nothing is drawn again
    assert np.array_equal(data.pictures("train", 4, tmp_path), drawn[:4])
    tensor = data.pictures_tensor("train", 4, tmp_path)
    assert tensor.dtype == torch.uint8 and np.array_equal(tensor.numpy(), drawn[:4])
    assert not data.are_drawn("train", 7, tmp_path) and not data.are_drawn("seen", 1, tmp_path)


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    def blocks():
        yield np.zeros((2, 3), np.uint8)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        data.write_rows(tmp_path / "rows.npy", (4, 3), blocks())
    assert list(tmp_path.iterdir()) == []


def test_tokenizer_learns_whole_words():
    merges = tokenizer.merges_of(["a red house in the snow"] * 50 + ["a blue house"] * 50, 500)
    vocab, _ = models.byte_vocabulary()
    vocab = {t: i for i, t in enumerate([*vocab, *("".join(m) for m in merges)])}
    made = models.build_tokenizer(vocab, merges)
    assert len(made("red house snow blue", add_special_tokens=False).input_ids) == 4
    assert len(made("zebra", add_special_tokens=False).input_ids) > 1


def test_targets_of_the_judge():
    red, blue = world.Thing("house", "red", "left"), world.Thing("cat", "blue", "right")
    wanted = judge.targets([world.Scene((red, blue), "snow", "night")])
    nothing = len(world.KINDS)
    assert wanted["kind"].tolist() == [
        [world.KINDS.index("house"), nothing, world.KINDS.index("cat")]
    ]
    assert wanted["colour"][0, 1] == len(world.COLOURS)
    assert wanted["place"].tolist() == [world.PLACES.index("snow")]


# --------------------------------------------------------------------- before the first step


BAD = {
    "minutes 0": ("vae", ["--minutes", "0"], "--minutes must be above 0"),
    "minutes -1": ("vae", ["--minutes", "-1"], "--minutes must be above 0"),
    "minutes inf": ("unet", ["--minutes", "inf"], "--minutes must be a number with an end"),
    "lr nan": ("clip", ["--lr", "nan"], "--lr must be a number with an end"),
    "batch 0": ("unet", ["--batch", "0"], "--batch must be at least 1"),
    "crop 0": ("vae", ["--crop", "0"], "multiple of 8"),
    "crop 130": ("vae", ["--crop", "136"], "multiple of 8"),
    "kl -1": ("vae", ["--kl-weight", "-1"], "--kl-weight must not be below 0"),
    "ema 1": ("unet", ["--ema", "1"], "--ema must be below 1"),
    "seed -1": ("judge", ["--seed", "-1"], "--seed must be at least 0"),
    "share": ("unet", ["--two-things", "60"], "--two-things is a share between 0 and 1"),
    "device": ("vae", ["--device", "banana"], "no device 'banana'"),
    "cuda": ("vae", ["--device", "cuda:7"], "finds no cuda:7"),
    "many": ("vae", ["--pictures", "1000000000"], "GB for pictures"),
    "work": ("vae", ["--work", "file"], "Nothing can be written into file"),
    "out": ("vae", ["--out", "file/x"], "Nothing can be written into file/x"),
    "no tokenizer": ("clip", [], "has no tokenizer yet"),
    "no CLIP": ("unet", [], "has no tokenizer yet"),
    "from nowhere": ("unet", ["--start-from", "nowhere"], "there is none at nowhere"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_work_is_said_before_the_first_step(name, tmp_path, monkeypatch, capsys):
    stage, options, said = BAD[name]
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert command.main([stage, *options]) == 1
    told = capsys.readouterr().err
    assert said in told and len(told.strip().splitlines()) == 1, told
    assert not list(tmp_path.rglob("*.npy")), "nothing was drawn"


def test_parts_are_brought_and_never_replaced(tmp_path):
    prepare.bring_parts(hub.TINY_SD, tmp_path)
    folders.check_folder(tmp_path)
    (tmp_path / "vae" / "config.json").write_text("mine")
    prepare.bring_parts(hub.TINY_SD, tmp_path)
    assert (tmp_path / "vae" / "config.json").read_text() == "mine"


def test_nothing_trains_into_the_package_by_default():
    for stage in command.STAGES:
        settings = command.settings_for(stage, [])
        assert settings.out == "my_model" and settings.work == "runs"


def test_the_command_to_go_on_is_the_whole_one(monkeypatch, capsys):
    def stop(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(vae, "train_vae", stop)
    assert command.main(["vae", "--work", "my runs", "--out", "m", "--minutes", "2"]) == 130
    told = capsys.readouterr().out.strip().splitlines()[-1]
    wanted = "python -m sdlearn.training vae --work 'my runs' --out m --minutes 2 --resume"
    assert told == wanted


# --------------------------------------------------------------- clock, checkpoints, average


def test_learning_rate_warms_up_stays_and_falls():
    rates = [common.learning_rate(p, 1.0, flat=0.6) for p in np.linspace(0, 1, 101)]
    assert rates[0] < 0.1 and rates[10] == rates[60] == 1 and abs(rates[-1] - 0.01) < 1e-6
    assert all(a >= b for a, b in zip(rates[60:], rates[61:], strict=False))
    assert common.learning_rate(1.0, 1.0, flat=1.0) == pytest.approx(0.01)


def test_bfloat16_only_where_the_machine_has_it(monkeypatch):
    for has, wanted in (
        ({"avx2": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        assert bool(common.fast_bf16(torch.device("cpu"))) is wanted
    assert common.fast_bf16(torch.device("cuda")) and not common.fast_bf16(torch.device("mps"))


def line(folder: Path, *, steps: int, lr: float = 1e-2, resume: bool = False, seen=None):
    """A training of one linear layer, for a number of steps."""
    settings = common.Settings(
        work=str(folder), minutes=10, device="cpu", lr=lr, resume=resume, save_every=1e9, bf16=False
    )
    torch.manual_seed(0)
    run = common.Run("line", settings, torch.nn.Linear(2, 1), ema=0.9)
    for step, rng in run:
        x = torch.from_numpy(rng.standard_normal((8, 2))).float()
        if seen is not None:
            seen.append((step, x))
        run.update((run.model(x) - x.sum(1, keepdim=True)).square().mean())
        if step + 1 == steps:
            run.elapsed = 600.0  # time is up
    return run


@pytest.mark.parametrize("steps", [10, 10**9])
def test_a_training_that_went_wrong_saves_nothing(tmp_path, steps):
    """The loss becomes NaN between two rows of the log, and time is up or not: the checkpoint
    from before stays."""
    path = line(tmp_path, steps=3).checkpoint
    state = torch.load(path, weights_only=True)
    torch.save(state | {"elapsed": 0.0}, path)
    good = path.read_bytes()
    with pytest.raises(FloatingPointError, match="last good checkpoint is kept"):
        line(tmp_path, steps=steps, lr=1e30, resume=True)
    assert path.read_bytes() == good and not path.with_suffix(".new").exists()


def test_weights_that_are_not_finite_are_not_shipped_and_not_gone_on_from(tmp_path):
    layer = torch.nn.Linear(1, 1)
    layer.weight.data.fill_(1e5)  # finite, but not in half precision
    with pytest.raises(FloatingPointError, match="half precision"):
        common.ship(tmp_path / "out", vae=layer)
    assert not (tmp_path / "out").exists()
    layer.weight.data.fill_(math.nan)
    with pytest.raises(ValueError, match="not finite: weight"):
        common.Run("nan", common.Settings(work=str(tmp_path), device="cpu"), layer)


def test_a_checkpoint_that_is_none_gets_a_sentence(tmp_path):
    line(tmp_path, steps=2)
    path = tmp_path / "line" / "checkpoint.pt"
    good = path.read_bytes()
    state = torch.load(path, weights_only=True)
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        line(tmp_path, steps=3, resume=True)
    for broken, said in (
        ({"a": 1}, "no checkpoint of this training"),
        (state | {"model": {"other": torch.zeros(1)}}, "another model"),
        (state | {"average": {"module.bias": torch.tensor([math.nan])}}, "not finite"),
    ):
        torch.save(broken, path)
        with pytest.raises(ValueError, match=said):
            line(tmp_path, steps=3, resume=True)
    path.write_bytes(good)
    assert line(tmp_path, steps=3, resume=True).step >= 2


def test_two_trainings_do_not_share_a_folder(tmp_path):
    settings = common.Settings(work=str(tmp_path), device="cpu", bf16=False)
    first = common.Run("line", settings, torch.nn.Linear(2, 1))
    with pytest.raises(ValueError, match="Another training of line works in"):
        common.Run("line", settings, torch.nn.Linear(2, 1))
    del first


def test_a_full_disk_at_a_checkpoint_keeps_the_one_before(tmp_path, monkeypatch):
    run = line(tmp_path, steps=2)
    good = run.checkpoint.read_bytes()

    def full(state, path):
        Path(path).write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(common.torch, "save", full)
    with pytest.raises(OSError, match="the one before is kept"):
        run.save()
    assert run.checkpoint.read_bytes() == good
    assert not run.checkpoint.with_suffix(".new").exists()


def test_a_resumed_training_draws_what_an_unbroken_one_would_have(tmp_path):
    whole, parts = [], []
    line(tmp_path / "a", steps=6, seen=whole)
    line(tmp_path / "b", steps=3, seen=parts)
    path = tmp_path / "b" / "line" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    torch.save(state | {"elapsed": 0.0}, path)
    line(tmp_path / "b", steps=6, resume=True, seen=parts)
    assert [s for s, _ in parts] == [s for s, _ in whole] == list(range(6))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(whole, parts, strict=True))


def start_training(work: Path, out: Path, *more: str) -> subprocess.Popen:
    small = "--pictures 64 --test-pictures 8 --batch 2 --crop 32 --save-every 0.5 --no-bf16"
    words = ["vae", "--work", str(work), "--out", str(out), *small.split(), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "sdlearn.training", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_kill_nine_loses_nothing_but_the_last_seconds(tmp_path):
    """Killed with SIGKILL after its first checkpoint, a training resumes at that checkpoint's
    step and finishes; the model is written at the end."""
    folder = tmp_path / "work" / "vae"
    log, checkpoint = folder / "log.jsonl", folder / "checkpoint.pt"
    process = start_training(tmp_path / "work", tmp_path / "out", "--minutes", "10")
    deadline = time.monotonic() + 300
    while not (log.exists() and checkpoint.exists()):
        told = "" if process.poll() is None else process.stderr.read().decode()[-2000:]
        assert process.poll() is None and time.monotonic() < deadline, told
        time.sleep(0.2)
    time.sleep(1.5)
    os.kill(process.pid, signal.SIGKILL) if hasattr(signal, "SIGKILL") else process.kill()
    process.wait()
    killed = torch.load(checkpoint, weights_only=True)
    assert killed["step"] > 0 and not (tmp_path / "out" / "vae").exists()
    minutes = str((killed["elapsed"] + 3) / 60)
    process = start_training(tmp_path / "work", tmp_path / "out", "--minutes", minutes, "--resume")
    assert process.wait(timeout=600) == 0, process.stderr.read().decode()[-2000:]
    resumed = torch.load(checkpoint, weights_only=True)
    assert resumed["step"] > killed["step"] and resumed["elapsed"] > killed["elapsed"]
    rows = [json.loads(row) for row in log.read_text().splitlines()]
    assert [r["step"] for r in rows[1:]] == sorted({r["step"] for r in rows[1:]})
    assert hub.load_part("vae", tmp_path / "out").config.scaling_factor > 0


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at the processes in /proc")
def test_workers_end_with_the_process_that_was_killed(tmp_path):
    process = start_training(tmp_path / "work", tmp_path / "out", "--pictures", "30000")
    deadline = time.monotonic() + 180

    def workers() -> list[str]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(tmp_path) in (folder / "cmdline").read_bytes().decode(errors="replace"):
                    found.append(folder.name)
        return [pid for pid in found if pid != str(process.pid)]

    while not workers():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.kill()
    process.wait()
    while workers():
        assert time.monotonic() < deadline, "workers of a killed training go on"
        time.sleep(0.2)


def test_a_folder_of_the_shipped_model_is_not_touched_by_a_training(tmp_path, small_vae):
    before = {p: p.stat().st_mtime_ns for p in hub.TINY_SD.rglob("*")}
    run_vae(tmp_path)
    shutil.rmtree(tmp_path)
    assert {p: p.stat().st_mtime_ns for p in hub.TINY_SD.rglob("*")} == before
