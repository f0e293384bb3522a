/** The map of the machine: every box shows, and opens on, the numbers of the step in view. */
import { heat, make, show } from './view.mjs';

/** A labeled canvas. */
function tile(label, paint, wide = false) {
  const canvas = make('canvas', { role: 'img', ariaLabel: label });
  paint(canvas);
  return make('figure', { className: wide ? 'wide' : '' }, canvas,
    make('figcaption', {}, label));
}

const channels = (numbers, side, label) =>
  Array.from({ length: numbers.length / side ** 2 }, (_, c) => tile(`${label}, channel ${c + 1}`,
    (canvas) => heat(canvas, numbers.subarray(c * side ** 2, (c + 1) * side ** 2),
      { side, signed: true })));
const spread = (x) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length);
const minus = (a, b) => a.map((value, i) => value - b[i]);

/** @param {Object} page the page's data; every box: title, chapter, small view, what is inside */
export function machine(page) {
  const { side, length, width, picture, levels } = page.model;
  const one = (numbers, signed = true) => (canvas) => heat(canvas, numbers, { side, signed });
  const middle = levels.findIndex(({ name }) => name === 'middle');
  const states = (canvas, numbers) => heat(canvas, numbers, { side: length, width, signed: true });
  return [
    { id: 'tokens', title: 'Tokens', chapter: '04',
      text: ({ words }) => `The sentence is cut into ${words.pieces.length} pieces, `
        + `each with a number. ${length} places are always filled.`,
      tiles: ({ words }) => [make('p', {}, ...words.pieces.map((piece, i) =>
        make('code', {}, `${piece.replace('</w>', '')} = ${words.ids[i + 1]}  `)))] },
    { id: 'states', title: 'Text states', chapter: '04',
      thumb: ({ step }) => (canvas) => states(canvas, step.states),
      text: () => `The text encoder turns the ${length} tokens into ${length} rows of ${width} `
        + 'numbers. This is all that the U-Net gets to know of the sentence.',
      tiles: ({ step }) => [tile(`${length} tokens, ${width} numbers each`,
        (canvas) => states(canvas, step.states), true)] },
    { id: 'latents', title: 'Noisy latents', chapter: '02',
      thumb: ({ step }) => one(step.latents.subarray(0, side * side)),
      text: ({ step, abar }) => `At t = ${Math.round(step.t)} the latents are `
        + `${Math.round(100 * Math.sqrt(abar))} % picture and `
        + `${Math.round(100 * Math.sqrt(1 - abar))} % noise (amplitudes; their squares add to 1).`,
      tiles: ({ step }) => channels(step.latents, side, 'Latents') },
    { id: 'unet', title: 'U-Net', chapter: '03',
      thumb: ({ step }) => (canvas) =>
        heat(canvas, step.levels[middle], { side: levels[middle].side }),
      text: () => 'It gets the noisy latents, the timestep and the text states. It gives the noise '
        + 'that it believes is in the latents. On the way down it sees larger parts of the picture '
        + 'at once; on the way up it puts the details back. '
        + 'Shown is how strongly each place answers.',
      tiles: ({ step }) => levels.map(({ name, channels: count, side: s }, i) =>
        tile(`${name.replace('_', ' ')}: ${count} channels, ${s} x ${s}`,
          (canvas) => heat(canvas, step.levels[i], { side: s }))) },
    { id: 'guidance', title: 'Guidance', chapter: '05',
      thumb: ({ step }) => one(minus(step.text, step.uncond).subarray(0, side * side)),
      text: ({ step, options }) => 'The U-Net is asked twice: without the words and with them. '
        + `The difference (${(100 * spread(minus(step.text, step.uncond)) / spread(step.text))
          .toFixed(0)} % of the prediction) is multiplied by ${options.guidance}.`,
      tiles: ({ step }) => [tile('without the words', one(step.uncond)),
        tile('with the words', one(step.text)),
        tile('the difference', one(minus(step.text, step.uncond))),
        tile('after guidance', one(step.eps))] },
    { id: 'scheduler', title: 'Scheduler', chapter: '05',
      thumb: ({ step }) => (canvas) => show(canvas, step.hint),
      text: ({ options, step }) => `${options.sampler}, step ${step.index + 1} of `
        + `${options.steps}: with this guess, go to the lower noise level of the next step.`,
      tiles: ({ step }) => [tile('latents before', one(step.latents)),
        tile('the imagined picture, in latents', one(step.x0)),
        tile('latents after', one(step.prev))] },
    { id: 'decoder', title: 'Decoder', chapter: '01',
      thumb: ({ image }) => (canvas) => show(canvas, image),
      text: ({ step, last }) => `The autoencoder's decoder turns ${step.prev.length} numbers into `
        + `${3 * picture * picture}: ${picture} x ${picture} pixels in three colors. `
        + (last ? '' : 'The loop does not need it; shown is what this step imagines.'),
      tiles: ({ step, image }) => [tile('latents, as colors', (canvas) => show(canvas, step.hint)),
        tile('picture', (canvas) => show(canvas, image))] },
  ];
}

/**
 * Draw the map; `state()` gives the step in view or null; `opened` hears which box was opened.
 * @returns {() => void} to be called when another step comes into view
 */
export function drawMap(page, where, inside, state, opened) {
  let current = null;
  const boxes = machine(page).map((box) => {
    const inner = make(box.thumb ? 'canvas' : 'span', { ariaHidden: 'true' });
    const button = make('button', { type: 'button', id: `box-${box.id}` }, box.title, inner);
    button.setAttribute('aria-controls', inside.id);
    button.onclick = () => {
      current = current === box ? null : box;
      refresh();
      if (current) opened(box.id);
    };
    where.append(button);
    return Object.assign(box, { inner, button });
  });
  const refresh = () => {
    const now = state();
    for (const box of boxes) {
      box.button.disabled = !now;
      box.button.setAttribute('aria-expanded', String(box === current));
      if (now && box.thumb) box.thumb(now)(box.inner);
      else if (now) box.inner.textContent = now.words.ids.slice(0, 24).join(' ');
    }
    inside.hidden = !(current && now);
    if (inside.hidden) return;
    const { address, title } = page.chapters?.[current.chapter] ?? {};
    inside.replaceChildren(make('h3', {}, current.title), make('p', {}, current.text(now)),
      title ? make('p', {}, make('a', { href: address }, `Chapter ${title}`)) : '',
      make('div', { className: 'tiles' }, ...current.tiles(now)));
  };
  refresh();
  return refresh;
}
