/**
 * Files of the model: fetched where the page came from a server, loaded as scripts (base64 of the
 * same gzip) where it was opened from a disk, because fetch is refused there.
 */
const SHELF = 'tiny-sd';
const local = location.protocol === 'file:';

/** Gzip -> what was packed. @param {Blob} blob */
const unpack = (blob) =>
  new Response(blob.stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();

async function fromScript({ name }) {
  const script = document.createElement('script');
  await new Promise((resolve, reject) => {
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${name}.js is not beside this page`));
    script.src = `${name}.js`;
    document.head.append(script);
  });
  script.remove();
  const text = globalThis.tinySD[name];
  delete globalThis.tinySD[name];
  return (await fetch(`data:;base64,${text}`)).blob();
}

async function fromServer({ name, bytes, hash }, tell) {
  const address = `${name}.bin?${hash}`;
  const shelf = await globalThis.caches?.open(SHELF).catch(() => null);
  const kept = await shelf?.match(address);
  if (kept) return kept.blob();
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${name}.bin: the server answered ${response.status}`);
  const parts = [];
  let got = 0;
  for (let reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    tell((got += value.length));
  }
  if (got !== bytes) throw new Error(`${name}.bin: ${got} of ${bytes} bytes came`);
  const blob = new Blob(parts);
  await shelf?.put(address, new Response(blob)).catch(() => {}); // a full disk only costs time
  return blob;
}

/** One file, unpacked. @param {{name, bytes, hash}} file @param {(bytes: number) => void} tell */
export async function load(file, tell = () => {}) {
  const blob = await (local ? fromScript(file) : fromServer(file, tell));
  tell(file.bytes);
  return unpack(blob);
}

/** Forget files of earlier versions; keep the page itself for visits without a network. */
export async function keep(files) {
  if (local || !globalThis.caches) return;
  const shelf = await caches.open(SHELF);
  const wanted = new Set(files.map(({ name, hash }) => `${name}.bin?${hash}`));
  for (const request of await shelf.keys()) {
    const name = request.url.split('/').pop();
    if (name.includes('.bin?') && !wanted.has(name)) await shelf.delete(request);
  }
  await navigator.serviceWorker?.register('offline.js').catch(() => {});
}
