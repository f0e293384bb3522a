"""Train the autoencoder: 128 x 128 x 3 pixels into 16 x 16 x 4 latents and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from sdlearn import hub, models
from sdlearn.training import data
from sdlearn.training.common import Run, Settings, fast_bf16


@dataclass
class VAESettings(Settings):
    minutes: float = 45.0
    # data
    pictures: int = 20_000
    test_pictures: int = 1000  # of the split no trainer learns from
    crop: int = 64  # same pixels in a quarter of the size: four times the steps for the same cost
    whole: float = (
        0.2  # share of the time, at the end, with whole pictures: borders and far relations settle
    )
    batch: int = 16  # crops; whole pictures come in a quarter of that
    # loss
    square_weight: float = (
        2.0  # squared error beside the absolute one: large errors (a wrong colour) are mended first
    )
    edge_weight: float = (
        0.25  # differences of neighbouring pixels: flat areas stay flat, edges become crisp
    )
    kl_weight: float = (
        1e-6  # per latent value: enough to keep latents near zero, too little to blur
    )
    # optimiser
    lr: float = 1.5e-3
    ema: float = 0.995  # an average over about 200 steps: a longer one lags behind while the pictures still get much better


class RoundTrip(torch.nn.Module):
    """Pictures -> (pictures after encoding, sampling and decoding; the posterior's mean; its log variance)."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        posterior = self.vae.encode(x).latent_dist
        return (
            self.vae.decode(posterior.sample()).sample.float(),
            posterior.mean.float(),
            posterior.logvar.float(),
        )


def pixel_loss(
    y: torch.Tensor, x: torch.Tensor, settings: VAESettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """(weighted sum of absolute, squared and edge error, mean squared error) of copies ``y`` of pictures ``x`` (B, 3, H, W)."""
    squared = (y - x).square().mean()
    edges = sum((y.diff(dim=d) - x.diff(dim=d)).abs().mean() for d in (-1, -2))
    return (
        (y - x).abs().mean() + settings.square_weight * squared + settings.edge_weight * edges,
        squared.detach(),
    )


def loss_terms(
    round_trip, x: torch.Tensor, settings: VAESettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, mean squared error) of one batch ``x`` (B, 3, H, W) in -1..1.

    KL of a diagonal Gaussian from N(0, 1): 0.5 (mean^2 + var - 1 - log var), Kingma and Welling 2014, appendix B.
    """
    y, mean, logvar = round_trip(x)
    pixels, squared = pixel_loss(y, x, settings)
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return pixels + settings.kl_weight * kl, squared


@torch.inference_mode()
def measure(vae, pixels: np.ndarray, batch: int = 16) -> dict[str, object]:
    """Mean PSNR in dB over pictures, and the latents' mean and standard deviation per channel."""
    errors, latents = [], []
    for i in range(0, len(pixels), batch):
        x = data.to_tensor(pixels[i : i + batch]).to(vae.device)
        z = vae.encode(x).latent_dist.mean
        y = vae.decode(z).sample.clamp(-1, 1)
        errors.append(((y - x) / 2).square().mean(dim=(1, 2, 3)))
        latents.append(z)
    z = torch.cat(latents)
    psnr = (-10 * torch.cat(errors).log10()).mean().item()
    return {
        "psnr": psnr,
        "mean": z.mean(dim=(0, 2, 3)).tolist(),
        "std": z.std(dim=(0, 2, 3)).tolist(),
        "std_all": z.std().item(),
    }


@torch.no_grad()
def balance(vae, mean: list[float], std: list[float]) -> None:
    """Give all latent channels mean 0 and the same standard deviation, by changing the two 1 x 1 convolutions around the latents.

    Diffusion adds the same noise to every channel, so a quiet channel would drown earlier than a loud one. The pictures do not change:
    what the first convolution scales, the second scales back.
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
def grid(vae, pixels: np.ndarray) -> Image.Image:
    """Originals above, round trips below."""
    x = data.to_tensor(pixels).to(vae.device)
    y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
    rows = [torch.cat(list(v), dim=-1) for v in (x.cpu(), y.float().cpu())]
    return Image.fromarray(
        ((torch.cat(rows, dim=-2).permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
    )


@torch.inference_mode()
def encode_all(
    vae, images: np.ndarray, work: str, split: str = "train", batch: int = 25
) -> np.ndarray:
    """Posterior mean and standard deviation of all pictures of a split, scaled: float16 (count, 2, 4, h, w), kept on disk beside the pictures.

    The file is made anew when the encoder's weights change.
    """
    print_of_weights = f"{sum(p.double().abs().sum().item() for part in (vae.encoder, vae.quant_conv) for p in part.parameters()) * vae.config.scaling_factor:.6e}"
    path = Path(work) / f"latents_{split}_{len(images)}_{print_of_weights}.npy"
    if not path.exists():
        rows = []
        for i in tqdm(range(0, len(images), batch), desc=f"encoding {split}"):
            with torch.autocast(vae.device.type, torch.bfloat16, enabled=fast_bf16(vae.device)):
                posterior = vae.encode(
                    data.to_tensor(images[i : i + batch]).to(
                        vae.device, memory_format=torch.channels_last
                    )
                ).latent_dist
            rows.append(
                (torch.stack([posterior.mean, posterior.std], 1) * vae.config.scaling_factor)
                .half()
                .cpu()
                .numpy()
            )
        np.save(path.with_suffix(".new.npy"), np.concatenate(rows))
        path.with_suffix(".new.npy").replace(path)
    return np.load(path)


def train(settings: VAESettings) -> None:
    images = data.pictures("train", settings.pictures, settings.work)
    test = data.pictures("seen", settings.test_pictures, settings.work)
    vae = (
        hub.load_part("vae", settings.start_from) if settings.start_from else models.build_vae()
    ).to(memory_format=torch.channels_last)
    run = Run(
        "vae",
        settings,
        vae,
        lr=settings.lr,
        weight_decay=0.0,
        ema=settings.ema,
        through=RoundTrip(vae),
    )
    next_look = run.elapsed + 180
    for step, rng in run:
        whole = run.progress > 1 - settings.whole
        if whole:
            batch = images[
                np.sort(rng.choice(len(images), max(1, settings.batch // 4), replace=False))
            ]
        else:
            picks = rng.choice(len(images), settings.batch, replace=False)
            corners = rng.integers(0, 128 - settings.crop + 1, (settings.batch, 2))
            batch = np.stack(
                [
                    images[i, a : a + settings.crop, b : b + settings.crop]
                    for i, (a, b) in zip(picks, corners, strict=True)
                ]
            )
        x = data.to_tensor(batch).to(run.device, memory_format=torch.channels_last)
        with run.accelerator.autocast():
            loss, mse = loss_terms(run.model, x, settings)
        run.update(loss, psnr=-10 * (mse / 4).log10())
        if run.elapsed > next_look and run.accelerator.is_main_process:
            next_look = run.elapsed + 180
            print(f"\nvae step {step}: {measure(run.best, test[:100])}", flush=True)
            grid(run.best, test[:8]).save(run.folder / "samples.png")
    if run.accelerator.is_main_process:
        vae = run.best.cpu()
        some = images[:500]  # 128,000 values a channel
        latents = measure(vae, some)
        balance(vae, latents["mean"], latents["std"])
        latents = measure(vae, some)
        vae.register_to_config(scaling_factor=round(1 / latents["std_all"], 5))
        grid(vae, test[:8]).save(run.folder / "samples.png")
        hub.save(settings.out, vae=vae)
        print(
            f"held-out scenes: {measure(vae, test)}\nscaling_factor = 1 / std of the latents = {vae.config.scaling_factor}"
        )
