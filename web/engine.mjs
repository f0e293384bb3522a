/** The page's side of the worker: load the model, ask it things. */
import { keep, load } from './files.mjs';

export class Engine {
  constructor(page) {
    Object.assign(this, { page, ready: false });
  }

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

  async open(file, tell) {
    const bytes = await load(file, tell);
    await this.ask('open', { name: file.network, bytes }, null, [bytes]);
  }

  /** Fetch and open everything that the first picture needs; `tell` hears the bytes so far. */
  async start(tell) {
    const files = this.page.files.filter((f) => !f.later);
    let before = 0;
    const counted = (bytes) => tell(before + bytes);
    const of = (name) => files.find((f) => f.name === name);
    const take = async (file, use) => {
      await use(await load(file, counted));
      before += file.bytes;
    };
    await take(of('worker.js'), (source) => {
      this.worker = new Worker(URL.createObjectURL(new Blob([source])));
      this.worker.onerror = (event) => this.fail?.(new Error(event.message));
    });
    await take(of('ort.wasm'), (wasm) => this.ask('begin',
      { wasm, config: this.page.model, tokenizer: this.page.tokenizer }, null, [wasm]));
    for (const file of files.filter((f) => f.network)) {
      await this.open(file, counted);
      before += file.bytes;
    }
    this.ready = true;
    keep(this.page.files);
  }

  /** The judge comes after the first picture. @returns {Promise<boolean>} */
  judge() {
    const file = this.page.files.find((f) => f.later);
    this.judging ??= file ? this.open(file).then(() => true, () => false) : Promise.resolve(false);
    return this.judging;
  }
}
