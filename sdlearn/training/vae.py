"""Train the autoencoder: 128 x 128 x 3 pixels into 16 x 16 x 4 latents and back.

``--decoder-only`` goes on with the decoder while the encoder stays: pictures become crisper, and
the latents, so also the U-Net, stay valid (Stable Diffusion's "ft-MSE" autoencoders were made so).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from sdlearn import hub, models
from sdlearn.training import data
from sdlearn.training.common import Run, Settings, fast_bf16, kept_file, ship
from sdlearn.training.prepare import prepare

OTHER_COLOURS = [list(order) for order in permutations(range(3))][1:]  # of red, green and blue


@dataclass
class VAESettings(Settings):
    """Settings of the autoencoder's training."""

    minutes: float = 45.0
    decoder_only: bool = False  # train the decoder, of --out's or --start-from's autoencoder
    # data
    pictures: int = 20_000
    test_pictures: int = 1000  # of the split no trainer learns from
    crop: int = 64  # same pixels in a quarter of the size: four times the steps for the same cost
    # share of the time, at the end, with whole pictures: borders and far relations settle
    whole: float = 0.2
    batch: int = 16  # crops; whole pictures come in a quarter of that
    # share of a batch whose color channels are exchanged: pairs of thing and color that are
    # never drawn must survive the autoencoder, too
    exchanged: float = 0.125
    # loss
    # squared error beside the absolute one: large errors (a wrong color) are mended first
    square_weight: float = 2.0
    # differences of neighboring pixels: flat areas stay flat, edges become crisp
    edge_weight: float = 0.25
    kl_weight: float = 1e-6  # per latent value: keeps latents near zero, too little to blur
    # optimizer
    lr: float = 1.5e-3
    # an average over about 200 steps: a longer one lags behind while pictures still get better
    ema: float = 0.995

    splits = ("train", "seen")
    shares = ("whole", "exchanged")


class RoundTrip(torch.nn.Module):
    """Pictures -> (copies, from a sample of the posterior; its mean; its log variance)."""

    def __init__(self, vae: Any):
        super().__init__()
        self.vae = vae

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        posterior = self.vae.encode(x).latent_dist
        copies = self.vae.decode(posterior.sample()).sample
        return copies.float(), posterior.mean.float(), posterior.logvar.float()


def pixel_loss(
    y: torch.Tensor, x: torch.Tensor, settings: VAESettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """(weighted sum of absolute, squared and edge error, mean squared error) of copies ``y`` of
    pictures ``x`` (B, 3, H, W)."""
    squared = (y - x).square().mean()
    edges = sum((y.diff(dim=d) - x.diff(dim=d)).abs().mean() for d in (-1, -2))
    loss = (y - x).abs().mean() + settings.square_weight * squared + settings.edge_weight * edges
    return loss, squared.detach()


def loss_terms(
    round_trip: Any, x: torch.Tensor, settings: VAESettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, mean squared error) of one batch ``x`` (B, 3, H, W) in -1..1.

    KL of a diagonal Gaussian from N(0, 1): 0.5 (mean^2 + var - 1 - log var), Kingma and Welling
    2014, appendix B.
    """
    y, mean, logvar = round_trip(x)
    pixels, squared = pixel_loss(y, x, settings)
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return pixels + settings.kl_weight * kl, squared


def pick_pixels(
    images: torch.Tensor, settings: VAESettings, rng: np.random.Generator, *, whole: bool
) -> torch.Tensor:
    """One batch of pixels (B, 3, side, side) from uint8 pictures (N, H, W, 3) on their device.

    Crops, or a quarter as many whole pictures; in the first ``exchanged`` of them the color
    channels stand in another order.
    """
    count = max(1, settings.batch // 4) if whole else settings.batch
    picks = torch.from_numpy(rng.integers(len(images), size=count))
    if whole:
        pixels = data.to_pixels(images[picks.to(images.device)])
    else:
        high = images.shape[1] - settings.crop + 1
        corners = torch.from_numpy(rng.integers(high, size=(2, count, 1)))
        down, across = corners + torch.arange(settings.crop)  # (B, crop) each
        rows = (picks[:, None, None], down[:, :, None], across[:, None, :])
        pixels = data.to_pixels(images[tuple(index.to(images.device) for index in rows)])
    other = round(settings.exchanged * count)
    if other:
        order = OTHER_COLOURS[rng.integers(len(OTHER_COLOURS))]
        pixels[:other] = pixels[:other, order]
    return pixels


@torch.inference_mode()
def reconstruction(vae: Any, pixels: np.ndarray, batch: int = 16) -> dict[str, object]:
    """Mean PSNR in dB of copies of uint8 pictures (N, H, W, 3), and the mean and standard
    deviation of the latents per channel ("std_all": over all)."""
    errors, latents = [], []
    for i in range(0, len(pixels), batch):
        x = data.to_pixels(pixels[i : i + batch]).to(vae.device)
        z = vae.encode(x).latent_dist.mean
        y = vae.decode(z).sample.clamp(-1, 1)
        errors.append(((y - x) / 2).square().mean(dim=(1, 2, 3)))
        latents.append(z)
    z = torch.cat(latents)
    return {
        "psnr": (-10 * torch.cat(errors).log10()).mean().item(),
        "mean": z.mean(dim=(0, 2, 3)).tolist(),
        "std": z.std(dim=(0, 2, 3)).tolist(),
        "std_all": z.std().item(),
    }


@torch.no_grad()
def balance(vae: Any, mean: list[float], std: list[float]) -> None:
    """Give all latent channels mean 0 and the same standard deviation, by changing the two
    1 x 1 convolutions around the latents.

    Diffusion adds the same noise to every channel, so a quiet channel would drown earlier than a
    loud one. The pictures do not change: what the first convolution scales, the second scales
    back.
    """
    mean, std = torch.tensor(mean), torch.tensor(std)
    gain, n = std.square().mean().sqrt() / std, len(std)
    first, second = vae.quant_conv, vae.post_quant_conv
    first.weight[:n] *= gain[:, None, None, None]
    first.bias[:n] = (first.bias[:n] - mean) * gain
    first.bias[n:] += 2 * gain.log()  # the log variances
    second.bias += second.weight[:, :, 0, 0] @ mean
    second.weight /= gain[None, :, None, None]


@torch.inference_mode()
def originals_and_copies(vae: Any, pixels: np.ndarray) -> Image.Image:
    """Pictures above, their round trips below."""
    x = data.to_pixels(pixels).to(vae.device)
    y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
    rows = torch.cat([torch.cat(list(v), dim=-1) for v in (x.cpu(), y.float().cpu())], dim=-2)
    return Image.fromarray(((rows.permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy())


@torch.inference_mode()
def latents_of(
    vae: Any, images: torch.Tensor, work: str, split: str = "train", batch: int = 50
) -> torch.Tensor:
    """Posterior mean and standard deviation of pictures, scaled: float16 (count, 2, 4, h, w).

    Kept on disk beside the pictures; made anew when the encoder's weights change.
    """
    scale = vae.config.scaling_factor

    def make() -> np.ndarray:
        rows = []
        for i in tqdm(range(0, len(images), batch), desc=f"encoding {split}"):
            x = data.to_pixels(images[i : i + batch].to(vae.device))
            with torch.autocast(vae.device.type, torch.bfloat16, enabled=fast_bf16(vae.device)):
                posterior = vae.encode(x).latent_dist
            both = torch.stack([posterior.mean, posterior.std], 1).float() * scale
            rows.append(both.half().cpu().numpy())
        return np.concatenate(rows)

    layers = (vae.encoder, vae.quant_conv)
    weights = sum(p.double().abs().sum().item() for part in layers for p in part.parameters())
    return kept_file(Path(work) / f"latents_{split}_{len(images)}_{weights * scale:.6e}.npy", make)


def finish(vae: Any, images: torch.Tensor) -> None:
    """Balance the channels of a trained autoencoder and give it its ``scaling_factor``."""
    some = images[:500].numpy()  # 128,000 values a channel
    found = reconstruction(vae, some)
    balance(vae, found["mean"], found["std"])
    found = reconstruction(vae, some)
    vae.register_to_config(scaling_factor=round(1 / found["std_all"], 5))


def train_vae(settings: VAESettings) -> None:
    """Train the autoencoder and write it into ``--out``."""
    if not 8 <= settings.crop <= data.SIDE or settings.crop % 8:
        raise ValueError(f"--crop is a multiple of 8 up to {data.SIDE}; it is {settings.crop}.")
    settings.needs = ("vae",) if settings.decoder_only else ()
    prepare(settings)
    source = settings.out if settings.decoder_only else settings.start_from
    vae = hub.load_part("vae", source) if source else models.build_vae()
    vae = vae.to(memory_format=torch.channels_last)
    for part in (vae.encoder, vae.quant_conv) if settings.decoder_only else ():
        part.requires_grad_(False)
    name = "decoder" if settings.decoder_only else "vae"
    run = Run(name, settings, vae, weight_decay=0.0, ema=settings.ema, through=RoundTrip(vae))
    with run.main_first():
        images = data.pictures_tensor("train", settings.pictures, settings.work)
        test = data.pictures("seen", settings.test_pictures, settings.work)
    model, on_device, next_look = run.compiled(), images.to(run.device), run.elapsed + 180
    for step, rng in run:
        x = pick_pixels(on_device, settings, rng, whole=run.progress > 1 - settings.whole)
        with run.accelerator.autocast():
            loss, squared = loss_terms(model, x, settings)
        run.update(loss, psnr=-10 * (squared / 4).log10())
        if run.elapsed > next_look and run.is_main:
            next_look = run.elapsed + 180
            print(f"\n{name} step {step}: {reconstruction(run.best, test[:100])}", flush=True)
            originals_and_copies(run.best, test[:8]).save(run.folder / "samples.png")
    if run.is_main:
        vae = run.best.cpu()
        if not settings.decoder_only:
            finish(vae, images)
        originals_and_copies(vae, test[:8]).save(run.folder / "samples.png")
        ship(settings.out, vae=vae)
        print(f"scenes of no training: {reconstruction(vae, test)}")
        print(f"scaling_factor = 1 / std of the latents = {vae.config.scaling_factor}")
