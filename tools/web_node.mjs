/**
 * The page's modules in Node, for tests and for the check at export: `node web_node.mjs FOLDER` reads a
 * JSON list of questions from standard input and writes the list of answers.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { gaussian } from '../web/noise.mjs';
import { SAMPLERS, alphasCumprod } from '../web/samplers.mjs';
import { compare, readPicture, readPrompt } from '../web/seen.mjs';
import { Tokenizer } from '../web/text.mjs';
import { find, notes } from '../web/words.mjs';

const folder = `${process.argv[2]}/live`;
const read = (name) => gunzipSync(readFileSync(`${folder}/${name}.bin`));
const page = JSON.parse(readFileSync(`${folder}/page.json`, 'utf8'));
const tokenizer = new Tokenizer(page.tokenizer, page.model.length);
let model;

/** The whole model, opened when a question first needs it. */
async function open() {
  if (model) return model;
  const ort = await import('../web/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs');
  const { TinySD } = await import('../web/tiny.mjs');
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: read('ort.wasm').buffer });
  model = new TinySD(ort, page.model, page.tokenizer);
  for (const { name, network } of page.files) if (network) await model.open(network, read(name));
  return model;
}

const answers = {
  encode: ({ prompts }) => prompts.map((prompt) => tokenizer.encode(prompt)),
  words: ({ prompts }) => prompts.map((prompt) => tokenizer.words(prompt)),
  notes: ({ prompts }) => prompts.map((prompt) => notes(prompt, tokenizer, page.words)),
  kinds: ({ prompts }) => prompts.map((prompt) => find(prompt, tokenizer, page.words)),
  noise: ({ seed, count, times = 1 }) => {
    const draw = gaussian(seed);
    return Array.from({ length: times }, () => [...draw(count)]);
  },
  seen: ({ cases }) => cases.map(({ prompt, seen }) => {
    const asked = readPrompt(prompt, page.world);
    return { asked, ...compare(asked, seen, page.phrases) };
  }),
  schedule: () => [...alphasCumprod(page.model.schedule)],
  /** A sampler's path with a made-up network that says half of what it sees. */
  path: async ({ sampler, steps, start, seed = 0 }) => {
    const abar = alphasCumprod(page.model.schedule);
    const half = async (latents) => latents.map((x) => 0.5 * x);
    const path = [];
    const noise = gaussian(seed);
    const latents = Float32Array.from(start);
    for await (const step of SAMPLERS[sampler](half, latents, abar, steps, noise)) {
      path.push({ t: step.t, x0: [...step.x0], prev: [...step.prev] });
    }
    return path;
  },
  picture: async ({ prompt, options }) => {
    const sd = await open();
    let last;
    const begin = performance.now();
    for await (const step of sd.steps(prompt, options)) last = step;
    const walked = performance.now() - begin;
    const { data, pixels } = await sd.decode(last.prev);
    return {
      latents: [...last.prev],
      rgba: Buffer.from(data.buffer).toString('base64'),
      maps: [...last.maps],
      seen: page.judged ? readPicture(await sd.judge(pixels), page.world) : null,
      seconds: { step: walked / options.steps / 1000, all: (performance.now() - begin) / 1000 },
    };
  },
};

const given = JSON.parse(readFileSync(0, 'utf8'));
const said = [];
for (const question of given) said.push(await answers[question.do](question));
process.stdout.write(JSON.stringify(said));
