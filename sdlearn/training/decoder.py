"""Train the decoder further while the encoder stays: pictures become crisper, and the latents, so also the U-Net, stay valid.

Stable Diffusion's improved autoencoders ("ft-MSE") were made in this way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sdlearn import hub
from sdlearn.training import data, vae
from sdlearn.training.common import Run


@dataclass
class DecoderSettings(vae.VAESettings):
    minutes: float = 60.0
    pictures: int = 16_000
    batch: int = 4  # whole pictures
    lr: float = 6e-4


class Decode(torch.nn.Module):
    """Latents -> pictures: the part that is trained."""

    def __init__(self, autoencoder):
        super().__init__()
        self.post_quant_conv, self.decoder = autoencoder.post_quant_conv, autoencoder.decoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.post_quant_conv(latents)).float()


def train(settings: DecoderSettings) -> None:
    images = data.pictures("train", settings.pictures, settings.work)
    test = data.pictures("seen", settings.test_pictures, settings.work)
    autoencoder = hub.load_part("vae", settings.out).to(memory_format=torch.channels_last)
    stored = vae.encode_all(autoencoder, images, settings.work)
    decode = Decode(autoencoder)
    run = Run("decoder", settings, decode, lr=settings.lr, weight_decay=0.0, ema=settings.ema)
    for _, rng in run:
        picks = np.sort(rng.choice(len(images), settings.batch, replace=False))
        x = data.to_tensor(images[picks]).to(run.device, memory_format=torch.channels_last)
        latents = (
            torch.from_numpy(stored[picks, 0])
            .float()
            .to(run.device, memory_format=torch.channels_last)
            / autoencoder.config.scaling_factor
        )
        with run.accelerator.autocast():
            y = run.model(latents)
        loss, mse = vae.pixel_loss(y, x, settings)
        run.update(loss, psnr=-10 * (mse / 4).log10())
    if run.accelerator.is_main_process:
        decode.load_state_dict(
            run.best.state_dict()
        )  # Decode holds the autoencoder's own layers, so this puts the average into it
        autoencoder = autoencoder.cpu().eval()
        vae.grid(autoencoder, test[:8]).save(run.folder / "samples.png")
        hub.save(settings.out, vae=autoencoder)
        print(f"held-out scenes: {vae.measure(autoencoder, test)}")
