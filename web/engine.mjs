/** The page's side of the worker: load the model, ask it things. */
import { keep, load } from './files.mjs';

export class Engine {
  ready = false;

  constructor(page) { this.page = page; }

  /** Ask the worker. `tell` hears each step of a run. */
  ask(name, args, tell, transfer = []) {
    const { port1, port2 } = new MessageChannel();
    this.worker.postMessage({ name, args }, [port2, ...transfer]);
    return new Promise((resolve, reject) => {
      this.fail = reject;
      port1.onmessage = ({ data }) => {
        if (data.step) return tell(data.step);
        port1.close();
        return data.error ? reject(new Error(data.error)) : resolve(data.result);
      };
    });
  }

  /** Load one file and use it: the worker's source, its WebAssembly, or a network. */
  async take(file, tell) {
    const bytes = await load(file, tell);
    const { model: config, tokenizer } = this.page;
    if (file.name === 'worker.js') {
      this.worker = new Worker(URL.createObjectURL(new Blob([bytes])));
      this.worker.onerror = (event) => this.fail?.(new Error(event.message));
    } else if (file.network) {
      await this.ask('open', { name: file.network, bytes }, null, [bytes]);
    } else {
      await this.ask('begin', { wasm: bytes, config, tokenizer }, null, [bytes]);
    }
  }

  /** Fetch and open everything that the first picture needs; `tell` hears the bytes so far. */
  async start(tell) {
    let before = 0;
    for (const file of this.page.files.filter((f) => !f.later)) {
      await this.take(file, (bytes) => tell(before + bytes));
      before += file.bytes;
    }
    this.ready = true;
    keep(this.page.files);
  }

  /** The judge comes after the first picture. @returns {Promise<boolean>} */
  judge() {
    const file = this.page.files.find((f) => f.later);
    this.judging ??= file ? this.take(file).then(() => true, () => false) : Promise.resolve(false);
    return this.judging;
  }
}
