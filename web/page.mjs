/** The live page: what is typed, drawn, looked back at. */
import { Engine } from './engine.mjs';
import { drawMap } from './map.mjs';
import { gaussian } from './noise.mjs';
import { alphasCumprod } from './samplers.mjs';
import { compare, readPicture, readPrompt } from './seen.mjs';
import { Tokenizer } from './text.mjs';
import { tour } from './tour.mjs';
import { heat, make, show, spotlight } from './view.mjs';
import { notes } from './words.mjs';

const $ = (id) => document.getElementById(id);
const page = JSON.parse($('page').textContent);
const { model } = page;
const tokenizer = new Tokenizer(page.tokenizer, model.length);
const abar = alphasCumprod(model.schedule);
const engine = new Engine(page);
const WAIT = 350; // ms after the last key until the quick picture
const KEPT = 6; // pictures in the strip
const say = (text) => { $('status').textContent = text; };
const MB = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const random = (below) => Math.floor(Math.random() * below);

const sides = [0, 1].map((i) => ({
  input: $(`prompt${i}`), box: $(`prompt${i}`).parentElement, canvas: $(`picture${i}`),
  caption: $(`caption${i}`), seen: $(`seen${i}`), run: null }));
let comparing = false;
let newest = 0;
let timer;
let looking = false;

// ---- settings, links ---------------------------------------------------------------------------
const FIELDS = { steps: 'num_inference_steps', guidance: 'guidance_scale', sampler: 'sampler' };
const settings = () => ({ seed: Number($('seed').value), steps: Number($('steps').value),
  guidance: Number($('guidance').value), sampler: $('sampler').value,
  negative: $('negative').value });
const quickly = () => ({ ...settings(),
  steps: page.quick.num_inference_steps, sampler: page.quick.sampler,
  guidance: Math.min(page.quick.guidance_scale, settings().guidance) });

function fillIn(wanted) {
  for (const [name, value] of Object.entries(wanted)) {
    const field = name === 'prompt' ? $('prompt0') : name === 'other' ? $('prompt1') : $(name);
    if (!field?.matches('#panel input, #panel select, #panel textarea')) continue;
    const before = field.value;
    field.value = value;
    if (!field.checkValidity() || field.value === '') field.value = before;
  }
  if (wanted.other) setComparing(true);
  sides.forEach(mark);
}
function address() {
  const values = { prompt: sides[0].input.value, ...settings() };
  if (comparing) values.other = sides[1].input.value;
  return `${location.href.split('#')[0]}#${new URLSearchParams(values)}`;
}
function setComparing(on) {
  comparing = on;
  $('compare').setAttribute('aria-pressed', String(on));
  sides[1].box.hidden = sides[1].seen.hidden = !on;
  sides[1].canvas.parentElement.hidden = !on;
  $('noisy').parentElement.hidden = on;
  if (on && !sides[1].input.value) sides[1].input.value = sides[0].input.value;
  mark(sides[1]);
}

// ---- words -------------------------------------------------------------------------------------
function mark(side) {
  const prompt = side.input.value;
  const words = tokenizer.words(prompt).map(({ text, tokens, known }) => {
    const className = known ? 'word' : 'word unknown';
    const word = make('button', { type: 'button', className }, text);
    word.onmouseenter = word.onfocus = () => attend(side, tokens);
    word.onmouseleave = word.onblur = () => look();
    return word;
  });
  side.box.querySelector('.words').replaceChildren(...words);
  side.box.querySelector('.notes').replaceChildren(
    ...notes(prompt, tokenizer, page.words).map((note) => make('li', {}, note)));
}
/** Light up where the words' tokens were read: the mean over the steps of the run. */
function attend({ run, canvas, input }, tokens) {
  if (!run?.end || run.prompt !== input.value || !tokens.length) return;
  const size = run.frames[0].maps.length / model.length;
  const map = new Float32Array(size);
  for (const { maps } of run.frames) {
    for (const t of tokens) for (let i = 0; i < size; i++) map[i] += maps[t * size + i];
  }
  spotlight(canvas, run.end.image, map, Math.sqrt(size));
  visit('read');
}

// ---- drawing -----------------------------------------------------------------------------------
async function draw(quick) {
  clearTimeout(timer);
  if (!engine.ready || !$('panel').reportValidity()) return;
  const number = ++newest;
  const options = quick ? quickly() : settings();
  if (!quick && options.guidance !== page.defaults.guidance_scale) visit('guided');
  const begin = performance.now();
  for (const side of sides.slice(0, comparing ? 2 : 1)) {
    const run = { prompt: side.input.value, options, frames: [], end: null };
    side.canvas.classList.add('old');
    const every = quick ? 0 : 4;
    const wanted = { number, prompt: run.prompt, options, every }; // a newer run ends it: null
    const end = await engine.ask('run', wanted, (step) => {
      if (number !== newest) return;
      run.frames.push(step);
      run.stepped = (performance.now() - begin) / 1000;
      side.run = run;
      say(`${quick ? 'Quick picture' : 'Drawing'}: step ${step.index + 1} of ${options.steps}`);
      look(run.frames.length - 1);
    });
    if (!end || number !== newest) return;
    Object.assign(run, { end, seconds: (performance.now() - begin) / 1000 });
    side.canvas.classList.remove('old');
    look(options.steps);
    addToStrip(`${run.prompt} (seed ${options.seed}, ${options.steps} steps)`,
      side.canvas.toDataURL(), { prompt: run.prompt, ...options }, true);
    judge(side, run);
  }
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  say(quick
    ? `Quick picture, ${options.steps} steps: ${seconds} s. Enter draws the full one.`
    : `${options.steps} steps: ${seconds} s. Move the slider to look back.`);
  const { stepped } = sides[0].run; // for tests and tools/web_bench.py
  globalThis.lastRun = { quick, number, seconds: Number(seconds), step: stepped / options.steps };
}
async function judge(side, run) {
  if (!(await engine.judge()) || side.run !== run) return;
  const chances = await engine.ask('judge', { pixels: run.end.image.pixels });
  if (side.run !== run) return;
  const seen = readPicture(chances, page.world);
  const { wishes, extra } = compare(readPrompt(run.prompt, page.world), seen, page.phrases);
  side.seen.replaceChildren(
    make('ul', { ariaLabel: 'Asked and seen' }, ...wishes.map(({ text, there }) =>
      make('li', { className: there ? '' : 'miss' }, `${there ? '✓' : '✗ missing:'} ${text}`))),
    make('p', {}, `${extra.length ? `Not asked for, but seen: ${extra.join(', ')}. ` : ''}`
      + 'Read from the picture by a second small network, which knows only this world; it is '
      + `${seen.sure > 0.99 ? 'more than 99' : Math.round(100 * seen.sure)} % sure.`));
}
function addToStrip(text, src, wanted, first) {
  const item = make('button', { type: 'button' }, make('img', { src, alt: '' }), text);
  item.onclick = () => { fillIn(wanted); draw(false); };
  [...$('strip').children].find((old) => old.textContent === text)?.remove();
  $('strip')[first ? 'prepend' : 'append'](item);
  while ($('strip').children.length > KEPT) $('strip').lastChild.remove();
}

// ---- looking back ------------------------------------------------------------------------------
/** The frame in view of a run: its step, and the picture as far as it is there. */
function view(run, index = Number($('frame').value)) {
  if (!run?.frames.length) return null;
  const last = index >= run.options.steps && run.end;
  const step = run.frames[Math.min(index, run.frames.length - 1)];
  return { step, options: run.options, words: run.words ??= { ids: tokenizer.encode(run.prompt),
    pieces: tokenizer.pieces(run.prompt) }, abar: abar[Math.round(step.t)], last,
    image: last ? run.end.image : step.image ?? step.hint,
    noisy: last ? run.end.noisy : step.noisy };
}
function paint() {
  for (const side of sides) {
    const now = view(side.run);
    if (!now) continue;
    show(side.canvas, now.image);
    if (side === sides[0]) show($('noisy'), now.noisy);
    const { prompt, options } = side.run;
    side.caption.textContent = (now.last ? '' : 'What this step imagines: ')
      + `${prompt || 'nothing'} (seed ${options.seed})`;
    side.canvas.setAttribute('aria-label', side.caption.textContent);
  }
  const { run } = sides[0];
  const at = Number($('frame').value);
  $('where').textContent = run ? (at >= run.options.steps ? 'done'
    : `${at + 1} of ${run.options.steps}, t = ${Math.round(run.frames[at]?.t ?? 0)}`) : '';
  $('frame').setAttribute('aria-valuetext', $('where').textContent);
  refresh();
}
/** Show a frame; what is not decoded yet is, the one asked for last first. */
async function look(index) {
  const steps = sides[0].run?.options.steps ?? 1;
  Object.assign($('frame'), { max: steps, disabled: !sides[0].run?.end });
  if (index !== undefined) $('frame').value = index;
  paint();
  if (looking || !sides[0].run?.end) return;
  looking = true;
  for (const missing = () => sides.map((side) => view(side.run)).find((now) =>
    now && !now.last && !now.step.image); missing();) {
    const { step } = missing();
    step.image = await engine.ask('decode', { latents: step.x0 });
    paint();
  }
  looking = false;
}

// ---- start -------------------------------------------------------------------------------------
const visit = tour($('stops'), $('stop'));
const inView = () => view(sides[0].run);
const refresh = drawMap(page, $('boxes'), $('inside'), inView, (box) => visit(`opened:${box}`));

async function begin() {
  const total = page.files.filter((f) => !f.later).reduce((sum, f) => sum + f.bytes, 0);
  $('start').disabled = true;
  $('progress').hidden = false;
  try {
    await engine.start((bytes) => {
      $('progress').value = bytes / total;
      $('loading').textContent = `${MB(bytes)} of ${MB(total)}`;
    });
    $('load').hidden = true;
    $('draw').disabled = $('save').disabled = false;
    await draw(true);
  } catch (error) {
    $('start').disabled = false;
    $('progress').hidden = true;
    $('loading').textContent = `The model did not start (${error.message}). Try again, or another `
      + 'browser with 450 MB of free memory; the pictures below were drawn beforehand.';
  }
}
function listen() {
  const later = () => { clearTimeout(timer); timer = setTimeout(() => draw(true), WAIT); };
  for (const side of sides) {
    side.input.oninput = () => { mark(side); later(); visit('typed'); };
    side.input.onkeydown = (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      draw(false);
    };
  }
  $('panel').onsubmit = (event) => { event.preventDefault(); draw(false); };
  $('start').onclick = begin;
  $('dice').onclick = () => {
    fillIn({ prompt: page.sentences[random(page.sentences.length)], seed: random(1000) });
    draw(true);
  };
  $('reseed').onclick = () => { $('seed').value = random(10000); visit('reseeded'); draw(true); };
  $('compare').onclick = () => { setComparing(!comparing); draw(true); };
  $('frame').oninput = () => { look(); visit('scrubbed'); };
  $('save').onclick = () => sides[0].canvas.toBlob((blob) => make('a', { download:
    `${sides[0].run.prompt || 'nothing'}.png`, href: URL.createObjectURL(blob) }).click());
  $('link').onclick = async () => {
    history.replaceState(null, '', address());
    const copied = await navigator.clipboard?.writeText(address()).then(() => true, () => false);
    say(copied ? 'The link is copied.' : 'The link now stands in the address bar.');
  };
  globalThis.onhashchange = () => { fillIn(linked()); draw(false); };
}
const linked = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

function chips() {
  for (const words of Object.values(page.world)) {
    $('chips').append(make('div', {}, ...words.map((word) => {
      const chip = make('button', { type: 'button' }, word);
      chip.onclick = () => {
        const { input } = sides[0];
        input.value = `${input.value.trim()} ${word}`.trim();
        input.dispatchEvent(new Event('input'));
      };
      return chip;
    })));
  }
}
$('parameters').textContent = (page.parameters / 1e6).toFixed(0);
$('start').textContent = `Load the model (${MB(page.files.reduce((sum, f) =>
  sum + (f.later ? 0 : f.bytes), 0))})`;
$('first').href = page.chapters['00'].address;
$('first').textContent = page.chapters['00'].title;
$('sampler').append(...page.samplers.map((name) => make('option', {}, name)));
for (const { src, alt, wanted } of page.gallery) addToStrip(alt, src, wanted);
fillIn({ seed: 0, ...Object.fromEntries(Object.entries(FIELDS).map(([name, key]) =>
  [name, page.defaults[key]])), prompt: page.sentences[0] });
fillIn(linked());
if (page.gallery.length) { // never empty: what the model drew before, and the noise it began with
  const [{ src, alt, wanted }] = page.gallery;
  const size = model.side ** 2;
  heat($('noisy'), gaussian(wanted.seed)(model.channels * size).subarray(0, size),
    { side: model.side, signed: true });
  Object.assign($('picture0'), { width: model.picture, height: model.picture });
  const sample = make('img', { src });
  const put = () => sides[0].run || $('picture0').getContext('2d').drawImage(sample, 0, 0);
  sample.decode().then(put, () => {});
  $('caption0').textContent = `Drawn beforehand: ${alt}`;
}
chips();
listen();
