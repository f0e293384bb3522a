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
  const states = (canvas, numbers) => heat(canvas, numbers, { side: length, width, signed: true });
  return [
    { id: 'tokens', title: 'Tokens', chapter: '04',
      thumb: null,
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
      thumb: ({ step }) => (canvas) => {
        const at = levels.findIndex(({ name }) => name === 'middle');
        heat(canvas, step.levels[at], { side: levels[at].side });
      },
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
        + `${options.steps}: take the predicted noise away, look at the picture that would be `
        + 'left, and put back as much noise as the next step expects.',
      tiles: ({ step }) => [tile('latents before', one(step.latents)),
        tile('the imagined picture, in latents', one(step.x0)),
        tile('latents after', one(step.prev))] },
    { id: 'decoder', title: 'Decoder', chapter: '01',
      thumb: ({ image }) => (canvas) => show(canvas, image),
      text: ({ step }) => `The autoencoder's decoder turns ${step.prev.length} numbers into `
        + `${3 * picture * picture}: ${picture} x ${picture} pixels in three colors.`,
      tiles: ({ step, image }) => [tile('latents, as colors',
        (canvas) => show(canvas, step.hint)),
      tile('picture', (canvas) => show(canvas, image))] },
  ];
}

/** Draw the map; `state()` gives the step in view or null; `opened` hears which box was opened. */
export function drawMap(page, where, inside, state, opened) {
  const boxes = machine(page).map((box) => {
    const canvas = box.thumb && make('canvas', { ariaHidden: 'true' });
    const button = make('button', { type: 'button', id: `box-${box.id}` }, box.title);
    button.setAttribute('aria-expanded', 'false');
    button.setAttribute('aria-controls', inside.id);
    const label = make('span');
    button.append(canvas ?? label);
    return { ...box, canvas, label, button };
  });
  where.replaceChildren(...boxes.map((box) => box.button));
  let current = null;
  const fill = () => {
    const now = state();
    inside.hidden = !(current && now);
    for (const box of boxes) box.button.setAttribute('aria-expanded', String(box === current));
    if (inside.hidden) return;
    const chapter = page.chapters[current.chapter];
    inside.replaceChildren(make('h3', {}, current.title), make('p', {}, current.text(now)),
      make('p', {}, make('a', { href: chapter.address }, `Chapter ${chapter.title}`)),
      make('div', { className: 'tiles' }, ...current.tiles(now)));
  };
  for (const box of boxes) {
    box.button.disabled = true;
    box.button.onclick = () => {
      current = current === box ? null : box;
      fill();
      if (current) opened(box.id);
    };
  }
  /** Called when another step comes into view. */
  return () => {
    const now = state();
    for (const box of boxes) {
      box.button.disabled = !now;
      if (now && box.canvas) box.thumb(now)(box.canvas);
      else if (now) box.label.textContent = now.words.ids.slice(0, 24).join(' ');
    }
    if (current) fill();
  };
}
