"""Teach the U-Net to take few steps: latent consistency distillation as a LoRA (Song et al. 2023,
"Consistency Models"; Luo et al. 2023, "Latent Consistency Models" and "LCM-LoRA").

1. Take latents with noise at a timestep t; at the last one, pure noise, as sampling starts from it.
2. The teacher, the U-Net as it is, takes one guided DDIM step along its path, to t - jump.
3. The student's clean latents from t must be those that it says itself, one jump further down the
   same path. At t = 0 they are the latents as they are: there the teacher is what is learned from.
4. Only a LoRA is trained (Hu et al. 2021): two thin matrices beside each layer's own.

Guidance is folded in: the student needs no second run for the empty prompt.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sdlearn import hub, models, noising, sampling, world
from sdlearn.judge import load_judge, same_scene
from sdlearn.prediction import x0_from_epsilon
from sdlearn.text import encode_prompt
from sdlearn.training import data
from sdlearn.training.common import Run, Settings, not_finite
from sdlearn.training.prepare import prepare
from sdlearn.training.vae import latents_of

LOOK_EVERY = 600  # seconds
HUBER = 1e-3  # where the loss turns from squared to absolute


@dataclass
class FewStepsSettings(Settings):
    """Settings of the distillation; ``--out`` gets the LoRA and its defaults."""

    minutes: float = 60.0
    out: str = "my_few_steps"
    teacher: str = str(hub.TINY_SD)  # the model folder that is learned from
    pictures: int = 6000
    batch: int = 16
    guidance: float = 2.0  # of the teacher, folded into the student
    jump: int = 100  # timesteps between the two places on the path that must agree
    # share of a batch that starts from pure noise: the first step is the hardest, and all need it
    from_noise: float = 0.25
    rank: int = 16  # of the LoRA
    lr: float = 1e-3
    flat: float = 0.5
    ema: float = 0.99  # an average over about 100 steps
    judged: int = 64  # prompts whose pictures the judge looks at, every ten minutes

    shares = ("from_noise", "flat")


class Start(NamedTuple):
    """Where paths are entered: token ids (B, 77), latents (B, 4, h, w) with noise, their t (B,)."""

    ids: torch.Tensor
    latents: torch.Tensor
    t: torch.Tensor


@dataclass
class Paths:
    """What belongs to the paths: the schedule, guidance, and both sides' text."""

    alphas_cumprod: torch.Tensor  # (T,) on the device
    guidance: float
    jump: int
    empty: torch.Tensor  # (1, 77, D) the text encoder's states of the empty prompt

    def abar(self, t: torch.Tensor) -> torch.Tensor:
        """Shares of the picture's variance, (B, 1, 1, 1)."""
        return self.alphas_cumprod[t].view(-1, 1, 1, 1)

    def clean(
        self, unet: Any, latents: torch.Tensor, t: torch.Tensor, states: torch.Tensor
    ) -> torch.Tensor:
        """The consistency function: clean latents (B, 4, h, w) from any place of a path, exactly
        the latents where t is 0 (Luo et al. 2023, eq. 9, for a model that predicts noise)."""
        eps = unet(latents, t, encoder_hidden_states=states).sample.float()
        kept, new = sampling.boundary(t.view(-1, 1, 1, 1))
        return kept * latents + new * x0_from_epsilon(latents, eps, self.abar(t))

    @torch.no_grad()
    def step_of_teacher(
        self, teacher: Any, latents: torch.Tensor, t: torch.Tensor, states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(latents, t) one jump further down the teacher's guided path, by DDIM."""
        both = torch.cat([self.empty.expand_as(states), states])
        out = teacher(latents.repeat(2, 1, 1, 1), t.repeat(2), encoder_hidden_states=both).sample
        without, told = out.float().chunk(2)
        eps = sampling.guide(without, told, self.guidance)
        x0 = x0_from_epsilon(latents, eps, self.abar(t))
        t = (t - self.jump).clamp(min=0)
        return self.abar(t).sqrt() * x0 + (1 - self.abar(t)).sqrt() * eps, t


def consistency_loss(
    student: Any, teacher: Any, start: Start, states: torch.Tensor, paths: Paths
) -> torch.Tensor:
    """How far the student's clean latents from two places of one path are apart: the pseudo-Huber
    distance sqrt(d^2 + c^2) - c, averaged. The further place is the target, without a gradient."""
    further, t = paths.step_of_teacher(teacher, start.latents, start.t, states)
    with torch.no_grad():
        target = paths.clean(student, further, t, states)
    said = paths.clean(student, start.latents, start.t, states)
    return (((said - target).square() + HUBER**2).sqrt() - HUBER).mean()


@dataclass
class Starts:
    """What starts are picked from, on the device."""

    latents: torch.Tensor  # (N, 2, 4, h, w): mean and deviation
    ids: torch.Tensor  # (N, 9, 77)

    def pick(
        self, settings: FewStepsSettings, alphas_cumprod: torch.Tensor, run: Run, rng: Any
    ) -> Start:
        """Starts at those timesteps that LCM's sampler may visit, in any wording."""
        count, last = settings.batch, len(alphas_cumprod) - 1
        ends = noising.lcm_timesteps(len(alphas_cumprod))
        t = rng.choice(ends, count)
        t[rng.random(count) < settings.from_noise] = last
        t = torch.from_numpy(t).to(run.device)
        picks = torch.from_numpy(rng.integers(len(self.ids), size=count)).to(run.device)
        which = torch.from_numpy(rng.choice(data.ANY_WORDING, count)).to(run.device)
        mean, deviation = self.latents[picks].float().unbind(1)
        generator = run.generator(rng)
        inside, noise = torch.randn((2, *mean.shape), generator=generator, device=run.device)
        latents = noising.add_noise(mean + deviation * inside, noise, t, alphas_cumprod)
        latents = torch.where((t == last).view(-1, 1, 1, 1), noise, latents)
        return Start(self.ids[picks, which].long(), latents, t)


def fill_starts(settings: FewStepsSettings, pipe: Any, device: torch.device) -> Starts:
    """Draw, encode, say and tokenize all that a training picks from."""
    drawn = data.pictures_tensor("train", settings.pictures, settings.work)
    latents = latents_of(pipe.vae, drawn, settings.work)
    ids = data.token_ids("train", settings.pictures, pipe.tokenizer, settings.work)
    return Starts(latents.to(device), ids.to(device))


def shares_right(pipe: Any, judge: Any, unet: Any, count: int) -> dict[int, float]:
    """Percent of prompts right, everything in place, at 1, 2 and 4 steps; half of the prompts name
    a pair that no training has seen."""
    pipe.unet, found = unet, {}
    scenes = [data.scene(("seen", "held_out")[i % 2], 30_000 + i) for i in range(count)]
    for steps in (1, 2, 4):
        right = []
        for i in range(0, count, 16):
            some = scenes[i : i + 16]
            pictures = sampling.sample(
                pipe,
                [world.caption(scene) for scene in some],
                seed=list(range(i, i + len(some))),
                num_inference_steps=steps,
                sampler="lcm",
                guidance_scale=1,
            )
            seen = judge.look(pictures)
            right += [
                same_scene(a, b.scene, positions=True) for a, b in zip(some, seen, strict=True)
            ]
        found[steps] = round(100 * float(np.mean(right)), 1)
    return found


def train_few_steps(settings: FewStepsSettings) -> None:
    """Distill ``--teacher`` and write the LoRA into ``--out``."""
    if settings.start_from:
        raise ValueError("few-steps learns from --teacher: leave out --start-from.")
    if not 0 < settings.jump < models.SCHEDULE["num_train_timesteps"]:
        raise ValueError(f"--jump is 1 to 999 timesteps; it is {settings.jump}.")
    prepare(settings)
    pipe, judge = hub.load_pipeline(settings.teacher, device="cpu"), load_judge(settings.teacher)
    teacher, student = pipe.unet.requires_grad_(False), copy.deepcopy(pipe.unet)
    models.add_lora(student, settings.rank)
    student = student.to(memory_format=torch.channels_last)
    run = Run("few-steps", settings, student, weight_decay=0.0, flat=settings.flat,
              ema=settings.ema)  # fmt: skip
    pipe.to(run.device)
    teacher.to(memory_format=torch.channels_last)
    for unet in (teacher, student) if run.device.type == "cpu" else ():
        models.plain_attention(unet)
    with run.main_first():
        starts = fill_starts(settings, pipe, run.device)
    paths = Paths(
        noising.Schedule.of(pipe).alphas_cumprod.to(run.device),
        settings.guidance,
        settings.jump,
        encode_prompt(pipe, "").to(run.device),
    )
    model, next_look = run.compiled(), run.elapsed + LOOK_EVERY
    for step, rng in run:
        start = starts.pick(settings, paths.alphas_cumprod, run, rng)
        with run.accelerator.autocast():
            with torch.no_grad():
                states = pipe.text_encoder(start.ids).last_hidden_state
            loss = consistency_loss(model, teacher, start, states, paths)
        run.update(loss)
        if run.elapsed > next_look and run.is_main:
            next_look = run.elapsed + LOOK_EVERY
            said = shares_right(pipe, judge, run.best, settings.judged)
            print(f"\nfew-steps step {step}, loss {loss.item():.4f}: right {said}", flush=True)
    if run.is_main:
        bad = not_finite({k: v.half() for k, v in run.best.state_dict().items()})
        if bad:
            raise FloatingPointError(f"Nothing was written: {bad} is not finite in half precision.")
        hub.save_lora(settings.out, run.best)
        hub.write_defaults(settings.out, hub.FEW_STEPS)
        print(f"right at 1, 2, 4 steps: {shares_right(pipe, judge, run.best, settings.judged)}")
        print(f"The LoRA is in {Path(settings.out).resolve()}.")
