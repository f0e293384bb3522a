/** Five stops; each is complete when the reader has done something. */
import { make } from './view.mjs';

const STOPS = [
  { name: 'Words', done: 'typed',
    ask: 'Change one word of the sentence, a color or a thing, and watch the picture follow.',
    told: 'The words became numbers, and the numbers steered every step.' },
  { name: 'Noise', done: 'reseeded',
    ask: 'Press "Other noise". The sentence stays; guess what will change.',
    told: 'Each picture starts as pure noise. The seed picks the noise, and the noise decides what '
      + 'the sentence leaves open.' },
  { name: 'Steps', done: 'scrubbed',
    ask: 'Press Enter for a full picture, then move the slider from the first step to the last.',
    told: 'Large shapes and colors come first, edges last. Each step takes away some noise.' },
  { name: 'U-Net', done: 'opened:unet',
    ask: 'Open the box "U-Net" in the map of the machine.',
    told: 'It gets noisy latents, a timestep and the text states. It gives its guess of the noise. '
      + 'It never draws: the picture is what is left.' },
  { name: 'Guidance', done: 'guided',
    ask: 'Set guidance to 0 and press Enter, then bring it back.',
    told: 'At 0 the words are ignored. Guidance multiplies what the words change.' },
];

/** @param {HTMLElement} list @param {HTMLElement} text @returns {(event: string) => void} */
export function tour(list, text) {
  const done = new Set();
  let at = 0;
  const draw = () => {
    list.replaceChildren(...STOPS.map((stop, i) => {
      const button = make('button', { type: 'button' },
        `${done.has(i) ? '✓ ' : `${i + 1} `}${stop.name}`);
      if (i === at) button.setAttribute('aria-current', 'step');
      button.setAttribute('aria-pressed', String(i === at));
      button.onclick = () => { at = i; draw(); list.children[i].firstChild.focus(); };
      return make('li', {}, button);
    }));
    text.textContent = done.has(at)
      ? `${STOPS[at].told} ${done.size === STOPS.length ? 'That was the whole tour.' : ''}`
      : STOPS[at].ask;
  };
  draw();
  return (event) => {
    const i = STOPS.findIndex((stop) => stop.done === event);
    if (i < 0 || done.has(i) || i !== at) return;
    done.add(i);
    const next = STOPS.findIndex((_, k) => !done.has(k));
    const told = STOPS[i].told;
    at = next < 0 ? i : next;
    draw();
    text.textContent = next < 0 ? `${told} That was the whole tour.`
      : `${told} Next: ${STOPS[next].ask}`;
  };
}
