/**
 * Files of the model: fetched where the page came from a server; where it was opened from a disk,
 * which refuses fetch, loaded as many small scripts (base64 of the same gzip), so that no more
 * than a few of them stand in memory as text. Either way a file is unpacked while it comes.
 */
import { sweep } from './sweep.mjs';

const FOLDER = 'live/';
const SHELF = 'tiny-sd';
const local = location.protocol === 'file:';
const open = () => globalThis.caches?.open(SHELF).catch(() => null);
const addressOf = ({ name, hash }) => new URL(`${FOLDER}${name}.bin?${hash}`, location.href).href;

/** What one script holds. @returns {Promise<Uint8Array>} */
async function fromScript(name) {
  let piece;
  globalThis.tinySD = (text) => {
    piece = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  };
  const script = document.createElement('script');
  await new Promise((resolve, reject) => {
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${name} is not beside this page`));
    script.src = FOLDER + name;
    document.head.append(script);
  });
  script.remove();
  return piece;
}

/** A file as it lies there, piece by piece. @returns {Promise<ReadableStream>} */
async function packed(file) {
  let i = 0;
  const pull = async (out) => (i === file.scripts ? out.close()
    : out.enqueue(await fromScript(`${file.name}.${i++}.js`)));
  if (local) return new ReadableStream({ pull });
  const shelf = await open();
  const kept = await shelf?.match(addressOf(file));
  if (kept) return kept.body;
  const response = await fetch(addressOf(file));
  if (!response.ok) throw new Error(`${file.name}.bin: the server answered ${response.status}`);
  shelf?.put(addressOf(file), response.clone()).catch(() => {}); // a full disk only costs time
  return response.body;
}

/** One file, unpacked. `tell` hears how many of `file.bytes` have come. @returns {ArrayBuffer} */
export async function load(file, tell = () => {}) {
  let got = 0;
  const count = (piece, out) => { tell((got += piece.length)); out.enqueue(piece); };
  try {
    const counted = (await packed(file)).pipeThrough(new TransformStream({ transform: count }));
    const stream = counted.pipeThrough(new DecompressionStream('gzip'));
    return await new Response(stream).arrayBuffer();
  } finally {
    if (!local && got !== file.bytes) await (await open())?.delete(addressOf(file));
    sweep();
  }
}

/** Forget files of earlier versions; keep the page itself for visits without a network. */
export async function keep(files) {
  const shelf = !local && await open();
  if (!shelf) return;
  const wanted = files.map(addressOf);
  for (const { url } of await shelf.keys()) {
    if (url.includes('.bin?') && !wanted.includes(url)) await shelf.delete(url);
  }
  await navigator.serviceWorker?.register('offline.js').catch(() => {});
}
