"""Train the U-Net: tell the noise from the latents, given the noise level and the caption (Ho et al. 2020; Rombach et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from sdlearn import compression, hub, models, noising, sampling, text, world
from sdlearn.prediction import predict_noise, x0_from_epsilon
from sdlearn.training import data
from sdlearn.training.common import Run, Settings
from sdlearn.training.vae import encode_all


@dataclass
class UNetSettings(Settings):
    minutes: float = 180.0
    # data
    pictures: int = 10_000  # with ``wrong`` above 0 as many again of each kind of twin: data.SPLITS
    two_things: float = (
        0.5  # share of pictures with two things: they are as many as those with one, and harder
    )
    drop_caption: float = (
        0.1  # share of captions replaced by "": guidance needs the U-Net to know both
    )
    batch: int = (
        32  # on a CPU more, smaller steps learn faster than fewer, larger ones; a GPU wants 256
    )
    # Share of the noisy latents that are made from a wrong picture, whole or in part: a twin of the true one with things or colours exchanged, or sides, left half
    # and right half each for itself; the answer asked for is the true one. In sampling, a slip of an early step (both things purple, say) gives latents
    # that training never showed; a U-Net that saw only true pictures trusts what it sees more than the words. Only where there is more noise than picture;
    # where noise leaves next to nothing (snr below 0.05), half of them are any other picture: sampling starts from noise that looks a little like any.
    wrong: float = 0.4
    # Timesteps are T u**toward_noise with u uniform in 0..1: 1 visits all alike, less the noisier ones more often, where words matter.
    toward_noise: float = 0.6
    # loss
    snr_gamma: float = (
        5.0  # weights min(snr, 5) / snr: the easy, nearly clean steps count less (Hang et al. 2023)
    )
    # Further weight (1 + 1/snr)**noisy. What stands where is settled at the noisiest steps, and there the noise is so easy to tell that a plain
    # loss (0) hardly counts them; 1 would be the loss of v (Salimans and Ho 2022).
    noisy: float = 0.0
    # optimiser
    lr: float = 5e-4
    flat: float = 0.6  # share of the time at the full rate; half of what is learnt comes after it
    ema: float = 0.998  # an average over about 500 steps; raise it for trainings of many hours
    compile: bool = False  # torch.compile: a quarter less time a step on two cores, for three minutes at the start and a C++ compiler


def noise_loss(
    unet,
    latents: torch.Tensor,
    noise: torch.Tensor,
    t: torch.Tensor,
    encoder_hidden_states: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    snr_gamma: float,
    noisy: float = 0.0,
    shown: torch.Tensor | None = None,
):
    """Weighted squared error of the predicted noise; latents and noise (B, 4, h, w), t (B,).

    ``shown``: what gets noisy in place of ``latents``. Asked for is then what must be taken away to arrive at ``latents``,
    (x_t - sqrt(abar) latents) / sqrt(1 - abar) = noise + sqrt(snr) (shown - latents).
    """
    snr = noising.snr(alphas_cumprod)[t]
    target = noise if shown is None else noise + snr.sqrt().view(-1, 1, 1, 1) * (shown - latents)
    noise_pred = unet(
        noising.add_noise(latents if shown is None else shown, noise, t, alphas_cumprod),
        t,
        encoder_hidden_states=encoder_hidden_states,
    ).sample.float()
    error = (noise_pred - target).square().mean(dim=(1, 2, 3))
    return (error * snr.clamp(max=snr_gamma) / snr * (1 + 1 / snr) ** noisy).mean(), error


def picking(scenes: list[world.Scene], two_things: float) -> np.ndarray:
    """Chance of each scene to be picked, (count,), so that a share ``two_things`` of the picks has two things. Raises ValueError for a share that is not between 0 and 1."""
    if not 0 < two_things < 1:
        raise ValueError(
            f"--two-things is a share between 0 and 1, such as 0.6; it is {two_things}."
        )
    two = np.array([len(scene.things) == 2 for scene in scenes])
    chances = np.where(two, two_things / max(two.sum(), 1), (1 - two_things) / max((~two).sum(), 1))
    return chances / chances.sum()  # a sum below 1 means that all have one thing, or all two


def mixed(twins: torch.Tensor, true: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Wrong latents (B, 4, h, w): of ``twins`` (3, B, 4, h, w) each half takes any of the three, then half of the pictures go back towards the ``true`` one, (B,), by any share."""
    batch, rows = len(true), torch.arange(len(true))
    left, right = (
        twins[torch.from_numpy(rng.integers(len(twins), size=batch)), rows] for _ in range(2)
    )
    half = twins.shape[-1] // 2
    whole = torch.cat([left[..., :half], right[..., half:]], dim=-1)
    share = (
        torch.from_numpy(np.where(rng.random(batch) < 0.5, 1.0, rng.random(batch)))
        .float()
        .view(-1, 1, 1, 1)
        .to(twins.device)
    )
    right_one = twins[torch.from_numpy(true), rows]
    return right_one + share * (whole - right_one)


@torch.inference_mode()
def hearing(pipe, split: str = "seen", count: int = 48, t: int = 800) -> dict[str, float]:
    """Which words the U-Net hears: mean squared error of the latents it imagines from noisy ones of scenes with two things, told their own captions ("own"), told other
    colours ("colours"), and told left and right exchanged ("sides"). Where two are equal, it does not hear the difference."""
    numbered = [
        (i, s)
        for i, s in ((i, data.scene(split, i)) for i in range(30_000, 30_000 + 4 * count))
        if len(s.things) == 2
    ][:count]
    latents = (
        compression.encode_image(pipe, [world.draw(s, seed=i) for i, s in numbered]).cpu().float()
    )
    abar = noising.make_alphas_cumprod()[t]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    noisy = abar.sqrt() * latents + (1 - abar).sqrt() * noise
    told = {
        "own": [s for _, s in numbered],
        "colours": [data.alter(s, np.random.default_rng(i)) for i, s in numbered],
        "sides": [data.mirror(s) for _, s in numbered],
    }
    errors = {}
    for name, scenes in told.items():
        noise_pred = predict_noise(
            pipe, noisy, t, text.encode_prompt(pipe, [world.caption(s) for s in scenes])
        )
        errors[name] = (x0_from_epsilon(noisy, noise_pred, abar) - latents).square().mean().item()
    return errors


def grid(pipe, count: int = 12, split: str = "held_out") -> Image.Image:
    """First-take samples for prompts of a split, captions not shown: for the eye during training."""
    prompts = [world.caption(data.scene(split, i)) for i in range(count)]
    pictures = sampling.sample(pipe, prompts, num_inference_steps=20, seed=list(range(count)))
    columns = 6
    sheet = Image.new(
        "RGB", (columns * pictures[0].width, -(-count // columns) * pictures[0].height)
    )
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * picture.width, i // columns * picture.height))
    return sheet


def train(settings: UNetSettings) -> None:
    splits = ("train", "altered", "mirrored") if settings.wrong else ("train",)
    images = [data.pictures(split, settings.pictures, settings.work) for split in splits]
    scenes = [[data.scene(split, i) for i in range(settings.pictures)] for split in splits]
    chances = picking(scenes[0], settings.two_things)
    tokenizer, vae, text_encoder = (
        hub.load_tokenizer(settings.out),
        hub.load_part("vae", settings.out),
        hub.load_part("text_encoder", settings.out),
    )
    fresh = (
        hub.load_part("unet", settings.start_from)
        if settings.start_from
        else models.build_unet(cross_attention_dim=text_encoder.config.hidden_size)
    )
    unet = fresh.to(memory_format=torch.channels_last)
    run = Run("unet", settings, unet, lr=settings.lr, flat=settings.flat, ema=settings.ema)
    if run.device.type == "cpu":
        models.plain_attention(unet)
    vae = vae.to(run.device, memory_format=torch.channels_last)
    stored = np.stack(
        [
            encode_all(vae, drawn, settings.work, split)
            for split, drawn in zip(splits, images, strict=True)
        ]
    )  # (twins, count, mean and std, 4, h, w)
    alphas_cumprod = noising.make_alphas_cumprod().to(run.device)
    pipe = models.build_pipeline(vae, text_encoder.to(run.device), tokenizer, run.best)
    model = torch.compile(run.model) if settings.compile else run.model
    next_look = run.elapsed + 600
    for step, rng in run:
        picks = rng.choice(len(chances), settings.batch, replace=False, p=chances)
        true = rng.integers(
            len(splits), size=settings.batch
        )  # which of the twins the caption tells
        t = (
            (
                len(alphas_cumprod)
                * torch.from_numpy(rng.random(settings.batch)) ** settings.toward_noise
            )
            .long()
            .to(run.device)
        )
        dropped, wrong = (
            rng.random(settings.batch) < settings.drop_caption,
            rng.random(settings.batch) < settings.wrong,
        )
        snr = noising.snr(alphas_cumprod)[t].cpu().numpy()
        wrong &= ~dropped & (snr < 1)
        stranger = wrong & (snr < 0.05) & (rng.random(settings.batch) < 0.5)
        captions = []
        for scene, is_dropped, is_wrong, is_stranger in zip(
            (scenes[k][i] for k, i in zip(true, picks, strict=True)),
            dropped,
            wrong,
            stranger,
            strict=True,
        ):
            said = (
                world.caption(scene)
                if is_stranger
                else data.telling(scene, rng)
                if is_wrong
                else world.caption(scene, rng)
            )
            captions.append("" if is_dropped else said)
        mean, std = torch.from_numpy(stored[:, picks]).float().to(run.device).unbind(2)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise, posterior_noise = torch.randn(2, *mean.shape[1:], generator=generator).to(run.device)
        twins = mean + std * posterior_noise
        latents = twins[torch.from_numpy(true), torch.arange(settings.batch)].contiguous(
            memory_format=torch.channels_last
        )
        shown = latents.clone()
        for rows, others in ((wrong, mixed(twins, true, rng)), (stranger, latents.roll(1, 0))):
            shown[torch.from_numpy(rows)] = others[torch.from_numpy(rows)]
        with run.accelerator.autocast():
            encoder_hidden_states = text.encode_prompt(pipe, captions)
            loss, error = noise_loss(
                model,
                latents,
                noise,
                t,
                encoder_hidden_states,
                alphas_cumprod,
                settings.snr_gamma,
                settings.noisy,
                shown,
            )
        of = {"error": ~wrong, "wrong": wrong}  # of true latents, of wrong ones
        run.update(
            loss,
            **{
                name: error[torch.from_numpy(rows).to(error.device)].mean()
                for name, rows in of.items()
                if rows.any()
            },
        )
        if run.elapsed > next_look and run.accelerator.is_main_process:
            next_look = run.elapsed + 600
            grid(pipe).save(run.folder / f"samples_{step:06d}.png")
            print(f"\nunet step {step}: error told {hearing(pipe)}", flush=True)
    if run.accelerator.is_main_process:
        grid(pipe).save(run.folder / "samples.png")
        hub.save(settings.out, unet=run.best)
