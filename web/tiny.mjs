/** Tiny SD without Python: the loop around three networks that run in onnxruntime-web. */
import { gaussian } from './noise.mjs';
import { SAMPLERS, alphasCumprod } from './samplers.mjs';
import { Tokenizer } from './text.mjs';

export class TinySD {
  /**
   * @param {Object} ort onnxruntime-web @param {Object} config the "model" of the page's data
   * @param {Object} tokenizer tokenizer.json
   */
  constructor(ort, config, tokenizer) {
    Object.assign(this, { ort, config, sessions: {} });
    this.tokenizer = new Tokenizer(tokenizer, config.length);
    this.abar = alphasCumprod(config.schedule);
  }

  /** Open one network. @param {string} name @param {Uint8Array} bytes an .onnx file */
  async open(name, bytes) {
    const options = { executionProviders: ['wasm'], enableMemPattern: false };
    this.sessions[name] = await this.ort.InferenceSession.create(bytes, options);
  }

  /** Run one network. `feeds`: name -> [type, data, dims]. Call it once at a time. */
  async run(name, feeds) {
    const tensors = Object.entries(feeds).map(([key, [type, data, dims]]) =>
      [key, new this.ort.Tensor(type, data, dims)]);
    const out = await this.sessions[name].run(Object.fromEntries(tensors));
    return Object.fromEntries(Object.entries(out).map(([key, { data }]) => [key, data]));
  }

  /** Hidden states of prompts, one after the other, length x width numbers each. */
  async encode(prompts) {
    const ids = BigInt64Array.from(prompts.flatMap((p) => this.tokenizer.encode(p)), BigInt);
    const shape = [prompts.length, this.config.length];
    return (await this.run('text_encoder', { ids: ['int64', ids, shape] })).states;
  }

  /**
   * The whole loop. Yields one object a step: index, t, latents, uncond, text (what the U-Net said
   * without and with the words), eps (after guidance), x0, prev, maps (one for each token) and
   * levels (how strong the U-Net's answers are, block by block).
   */
  async *steps(prompt, { seed, steps, guidance, sampler, negative = '' }) {
    const { channels, side, length, width } = this.config;
    const size = channels * side * side;
    const states = await this.encode([negative, prompt]);
    const noise = gaussian(seed);
    let told;
    const predict = async (latents, t) => {
      const twice = Float32Array.of(...latents, ...latents);
      const out = await this.run('unet', {
        latents: ['float32', twice, [2, channels, side, side]],
        t: ['float32', Float32Array.of(t), [1]],
        text: ['float32', states, [2, length, width]],
      });
      const [uncond, text] = [out.noise.slice(0, size), out.noise.slice(size)];
      const levels = this.config.levels.map(({ name }) => out[name]);
      told = { uncond, text, maps: out.maps, levels };
      return uncond.map((u, i) => u + guidance * (text[i] - u));
    };
    let index = 0;
    for await (const step of SAMPLERS[sampler](predict, noise(size), this.abar, steps, noise)) {
      yield { index: index++, ...step, ...told, states: states.slice(length * width) };
    }
  }

  /** Latents -> {side, data: Uint8ClampedArray RGBA}, by the decoder. */
  async decode(latents) {
    const { channels, side, picture } = this.config;
    const feeds = { latents: ['float32', latents, [1, channels, side, side]] };
    const { pixels } = await this.run('vae_decoder', feeds);
    const size = picture * picture;
    return { ...image(picture, (c, i) => pixels[c * size + i]), pixels };
  }

  /** Latents -> a small picture by one matrix: four numbers and a 1 give three colours. */
  preview(latents) {
    const { side, preview } = this.config;
    const size = side * side;
    const value = (row, i) => (row * size < latents.length ? latents[row * size + i] : 1);
    return image(side, (c, i) => preview.reduce((sum, row, k) => sum + row[c] * value(k, i), 0));
  }

  /** What the judge sees in pixels (3 x side x side, -1..1): chances, by what is asked. */
  async judge(pixels) {
    const { picture } = this.config;
    const out = await this.run('judge', { pixels: ['float32', pixels, [1, 3, picture, picture]] });
    return Object.fromEntries(Object.entries(out).map(([name, data]) => [name, [...data]]));
  }
}

/** Values from -1 to 1 as a picture; the array clamps and rounds. */
function image(side, value) {
  const data = new Uint8ClampedArray(4 * side * side).fill(255);
  for (let i = 0; i < side * side; i++) {
    for (let c = 0; c < 3; c++) data[4 * i + c] = (value(c, i) + 1) * 127.5;
  }
  return { side, data };
}
