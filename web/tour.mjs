/** Five stops of one to three parts; a part is complete when the reader has done something. */
import { make } from './view.mjs';

/** `when` hears what happened (a picture, a step looked at, a box opened) and the run. */
const stops = ({ defaults }) => [
  { name: 'Words', parts: [{ when: (what, { prompt, older }) => older && prompt !== older.prompt,
    ask: 'Change one word of the sentence, a color or a thing, and watch the picture follow.' }],
  told: 'The words became numbers, and the numbers steered every step.' },
  { name: 'Noise', parts: [{ prompt: 'a house', when: (what, { prompt }) => prompt === 'a house',
    ask: 'Take a sentence that leaves much open. ' },
  { when: (what, { seed, older }) => older && seed !== older.seed,
    ask: 'Color, place and hour are open. Guess what will change, then press "Other noise".' }],
  told: 'Each picture starts as pure noise, which the seed picks. The noise decides what the '
    + 'sentence leaves open; a full sentence leaves little.' },
  { name: 'Steps', parts: [{ when: (what) => what === 'full',
    ask: 'Press "Draw" for a full picture, made in more steps.' },
  { when: (what) => what === 'first', ask: 'Move the slider back to the first step.' },
  { when: (what) => what === 'last', ask: 'Now go on, step by step, to the last one.' }],
  told: 'The latents lose noise step by step. Beside them is what the model sees in them: large '
    + 'shapes and colors come first, edges last.' },
  { name: 'U-Net, decoder', parts: [{ when: (what) => what === 'unet',
    ask: 'Open the box "U-Net" in the map of the machine.' },
  { when: (what) => what === 'decoder',
    ask: 'It gets noisy latents, a timestep and the text states, and gives its guess of the noise. '
      + 'It never draws: without that noise, a picture is left. Now open the box "Decoder".' }],
  told: 'The loop works on latents, a picture in few numbers. The decoder turns them into pixels. '
    + 'It knows neither words nor noise, and every finished picture comes out of it.' },
  { name: 'Guidance', parts: [{ when: (what, { guidance }) => guidance === 0,
    ask: 'Set guidance to 0 and press Enter.' },
  { when: (what, { guidance }) => guidance > 14,
    ask: 'At 0 the words are ignored. Set it to 20, far too much, and press Enter.' },
  { when: (what, { guidance }) => guidance === defaults.guidance_scale,
    ask: `Too much spoils the picture. Set it to ${defaults.guidance_scale} and press Enter.` }],
  told: 'Guidance multiplies what the words change in the U-Net\'s guess of the noise.' },
];

/** @param {Object} page the page's data @param {HTMLElement} list @param {HTMLElement} text
 * @param {(prompt: string) => void} put draws a sentence
 * @returns {(what: string, run?: Object) => void} what the reader did, and the run in view */
export function tour(page, list, text, put) {
  const all = stops(page).map((stop) => ({ ...stop, done: 0 }));
  const over = (stop) => stop.done === stop.parts.length;
  let at = all[0];
  const say = (...before) => {
    const part = at.parts[at.done];
    const onclick = () => put(part.prompt);
    text.replaceChildren(...before, part?.ask ?? (before.length ? '' : at.told),
      part?.prompt ? make('button', { onclick }, `Draw "${part.prompt}"`)
        : all.every(over) ? ' That was the whole tour.' : '');
    list.replaceChildren(...all.map((stop, i) => {
      const button = make('button', {}, `${over(stop) ? '✓' : i + 1} ${stop.name}`);
      button.setAttribute('aria-pressed', String(stop === at));
      button.onclick = () => { at = stop; say(); list.children[i].firstChild.focus(); };
      return make('li', {}, button);
    }));
  };
  say();
  return (what, run = {}) => {
    if (!at.parts[at.done]?.when(what, run)) return;
    if (++at.done < at.parts.length) return say();
    const { told } = at;
    at = all.find((stop) => !over(stop)) ?? at;
    say(`${told} `, over(at) ? '' : 'Next: ');
  };
}
