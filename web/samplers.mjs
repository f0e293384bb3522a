/**
 * Chapters 02 and 05 in JavaScript: the schedule, and the samplers of sdlearn/sampling.py.
 * A sampler is an async generator; `predict(latents, t)` gives the noise after guidance, and each
 * step yields {t, latents, eps, x0, prev}, all Float32Array of one picture's latents.
 */

/** alphas_cumprod of a scaled_linear schedule. @returns {Float32Array} */
export function alphasCumprod({ num_train_timesteps: count, beta_start, beta_end }) {
  const [a, b] = [Math.sqrt(beta_start), Math.sqrt(beta_end)];
  let product = 1;
  return Float32Array.from({ length: count }, (_, i) =>
    (product *= 1 - (a + ((b - a) * i) / (count - 1)) ** 2));
}

/** a x + b y, number by number. */
const mix = (a, x, b, y) => x.map((value, i) => a * value + b * y[i]);
const imagined = (latents, eps, abar) =>
  mix(1 / Math.sqrt(abar), latents, -Math.sqrt(1 - abar) / Math.sqrt(abar), eps);

/** Half to even, as numpy rounds. */
function round(x) {
  const down = Math.floor(x);
  return x - down === 0.5 ? down + (down % 2) : Math.round(x);
}

/** numpy.linspace(0, last, count), largest first. */
const falling = (last, count) =>
  Array.from({ length: count }, (_, i) => (count === 1 ? last : last - (last * i) / (count - 1)));

/** Noise over signal at a timestep that may lie between two, by straight lines. */
function sigmaAt(abar, t) {
  const sigma = (i) => Math.sqrt((1 - abar[i]) / abar[i]);
  const low = Math.floor(t);
  return low === t ? sigma(t) : sigma(low) + (t - low) * (sigma(low + 1) - sigma(low));
}

const leading = (steps, count) => Array.from({ length: steps }, (_, i) =>
  (steps - 1 - i) * Math.floor(count / steps) + (steps < count));

/**
 * DDIM, and DDPM, which takes the same way to the imagined picture and gives back part of the noise
 * as fresh noise (eta = 1 in Song et al. 2021, equation 12).
 */
const walk = (fresh) => async function* (predict, latents, abar, steps, noise) {
  const stride = Math.floor(abar.length / steps);
  for (const t of leading(steps, abar.length)) {
    const next = t >= stride ? abar[t - stride] : fresh ? 1 : abar[0];
    const eps = await predict(latents, t);
    const x0 = imagined(latents, eps, abar[t]);
    const variance = fresh ? ((1 - next) / (1 - abar[t])) * (1 - abar[t] / next) : 0;
    const mean = mix(Math.sqrt(next), x0, Math.sqrt(1 - next - variance), eps);
    const prev = fresh ? mix(1, mean, Math.sqrt(variance), noise(latents.length)) : mean;
    yield { t, latents, eps, x0, prev };
    latents = prev;
  }
};

async function* euler(predict, latents, abar, steps) {
  const times = falling(abar.length - 1, steps);
  const sigmas = [...times.map((t) => sigmaAt(abar, t)), 0];
  const scaled = (x, s) => x.map((value) => value / Math.sqrt(s * s + 1));
  let x = latents.map((value) => value * sigmas[0]);
  for (const [i, t] of times.entries()) {
    const input = scaled(x, sigmas[i]);
    const eps = await predict(input, t);
    const x0 = mix(1, x, -sigmas[i], eps);
    x = mix(1, x, sigmas[i + 1] - sigmas[i], eps);
    yield { t, latents: input, eps, x0, prev: scaled(x, sigmas[i + 1]) };
  }
}

async function* dpmSolver(predict, latents, abar, steps) {
  const last = abar.length - 1;
  const times = falling(last, Math.min(steps, last) + 1).map(round).slice(0, steps);
  const sigmas = [...times.map((t) => sigmaAt(abar, t)), 0];
  const alphas = sigmas.map((s) => 1 / Math.sqrt(s * s + 1));
  const stds = sigmas.map((s, i) => s * alphas[i]);
  const lambdas = sigmas.map((s) => -Math.log(s)); // half the log signal-to-noise ratio
  let older = null;
  for (const [i, t] of times.entries()) {
    const eps = await predict(latents, t);
    const x0 = mix(1 / alphas[i], latents, -stds[i] / alphas[i], eps);
    const h = lambdas[i + 1] - lambdas[i];
    let direction = x0;
    if (older && i < steps - 1) {
      const r = (lambdas[i] - lambdas[i - 1]) / h;
      direction = mix(1 + 1 / (2 * r), x0, -1 / (2 * r), older);
    }
    const prev = mix(stds[i + 1] / stds[i], latents, -alphas[i + 1] * Math.expm1(-h), direction);
    yield { t, latents, eps, x0, prev };
    [latents, older] = [prev, x0];
  }
}

/** By the names that sdlearn uses. */
export const SAMPLERS = { ddim: walk(false), ddpm: walk(true), euler, 'dpm++': dpmSolver };
