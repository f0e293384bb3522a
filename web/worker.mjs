/**
 * The model's own thread: the page stays quick, and `terminate()` gives all its memory back.
 * Messages in: {name, args} with a port for the answers; a later `run` ends the one before.
 */
import * as ort from 'onnxruntime-web/wasm';
import { sweep } from './sweep.mjs';
import { TinySD } from './tiny.mjs';

let sd;
let newest = 0; // number of the run that counts
let queue = Promise.resolve(); // onnxruntime-web refuses two runs at a time
const breathe = () => new Promise((resolve) => setTimeout(resolve));

const answers = {
  begin: ({ wasm, config, tokenizer }) => {
    // one thread: more need a page with special headers
    Object.assign(ort.env.wasm, { wasmBinary: wasm, numThreads: 1, proxy: false });
    sd = new TinySD(ort, config, tokenizer);
  },
  open: async ({ name, bytes }) => {
    sweep();
    await sd.open(name, new Uint8Array(bytes));
    delete ort.env.wasm.wasmBinary; // compiled by now: 13 MB less
  },
  /** All steps of a run, each told when it is there; null if a newer run came. */
  run: async ({ number, prompt, options, every }, tell) => {
    if (number < newest) return null;
    let last;
    for await (const step of sd.steps(prompt, options)) {
      last = { ...step, noisy: sd.preview(step.latents), hint: sd.preview(step.x0) };
      await breathe(); // so that a newer run is heard
      if (number < newest) return null;
      const image = every && (step.index + 1) % every === 0 && step.index + 1 < options.steps
        ? await sd.decode(step.x0) : null;
      tell(image ? { ...last, image } : last);
    }
    return { image: await sd.decode(last.prev), noisy: sd.preview(last.prev) };
  },
  decode: ({ latents }) => sd.decode(latents),
  judge: ({ pixels }) => sd.judge(pixels),
};

globalThis.onmessage = ({ data: { name, args }, ports: [port] }) => {
  if (name === 'run') newest = args.number;
  const answer = queue.then(() => answers[name](args, (step) => port.postMessage({ step })));
  queue = answer.then(
    (result) => port.postMessage({ result }),
    (error) => port.postMessage({ error: error?.message ?? String(error) }));
};
