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
const total = page.files.reduce((sum, file) => sum + (file.later ? 0 : file.bytes), 0);
const random = (below) => Math.floor(Math.random() * below);

const sides = [0, 1].map((i) => ({
  input: $(`prompt${i}`), box: $(`prompt${i}`).parentElement, canvas: $(`picture${i}`),
  caption: $(`caption${i}`), seen: $(`seen${i}`), run: null, judged: null }));
let comparing = false;
let newest = 0;
let timer;
let looking = false;
const active = () => sides.slice(0, comparing ? 2 : 1);

// ---- settings, links ---------------------------------------------------------------------------
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
}

// ---- drawing -----------------------------------------------------------------------------------
async function draw(quick) {
  clearTimeout(timer);
  if (!engine.ready || !$('panel').reportValidity()) return;
  const number = ++newest;
  const options = quick ? quickly() : settings();
  const older = sides[0].run && { prompt: sides[0].run.prompt, ...sides[0].run.options };
  const every = quick ? 0 : Math.ceil(options.steps / 4); // steps between two pictures on the way
  const begin = performance.now();
  for (const side of active()) {
    const run = { prompt: side.input.value, options, quick, frames: [], end: null };
    side.canvas.classList.add('old');
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
    run.end = end;
    look(options.steps);
    addToStrip(side.canvas.toDataURL(), { prompt: run.prompt, ...options }, true);
    judge(side, run);
  }
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  say(quick
    ? `Quick picture, ${options.steps} steps: ${seconds} s. Enter draws the full one.`
    : `${options.steps} steps: ${seconds} s. Move the slider to look back.`);
  visit(quick ? 'quick' : 'full', { prompt: sides[0].run.prompt, ...options, older });
  const step = sides[0].run.stepped / options.steps;
  globalThis.lastRun = { quick, number, seconds: Number(seconds), step }; // for tools/web_bench.py
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
  side.judged = run;
  paint();
}
const told = ({ prompt, seed, steps, guidance, sampler, negative }) => `${prompt || 'nothing'} `
  + `(seed ${seed}, ${steps} steps, guidance ${guidance}, ${sampler}`
  + `${negative ? `, negative prompt ${negative}` : ''})`;
function addToStrip(src, wanted, first) {
  const text = told(wanted);
  const item = make('button', { type: 'button' }, make('img', { src, alt: '' }), text);
  item.onclick = () => { fillIn(wanted); draw(false); };
  [...$('strip').children].find((old) => old.textContent === text)?.remove();
  $('strip')[first ? 'prepend' : 'append'](item);
  while ($('strip').children.length > KEPT) $('strip').lastChild.remove();
}

// ---- looking back ------------------------------------------------------------------------------
/** The frame in view of a run: its step, and the newest picture that is decoded up to there. */
function view(run, index = Number($('frame').value)) {
  if (!run?.frames.length) return null;
  const { frames, options, end, prompt } = run;
  const step = frames[Math.min(index, frames.length - 1)];
  const last = end && index >= options.steps;
  const drawn = last ? end : frames.slice(0, index + 1).findLast((frame) => frame.image);
  return { step, options, last, drawn, abar: abar[Math.round(step.t)],
    words: run.words ??= { ids: tokenizer.encode(prompt), pieces: tokenizer.pieces(prompt) },
    image: drawn?.image ?? step.hint, noisy: last ? end.noisy : step.noisy };
}
function paint() {
  for (const side of active()) {
    const now = view(side.run);
    if (!now) continue;
    side.seen.style.visibility = now.last && side.judged === side.run ? '' : 'hidden';
    if (side === sides[0]) show($('noisy'), now.noisy);
    if (!now.drawn) continue; // what stands there stays, dimmed, with its own caption
    show(side.canvas, now.image);
    side.canvas.classList.remove('old');
    side.caption.textContent = (now.last ? '' : `What step ${now.drawn.index + 1} imagines: `)
      + told({ prompt: side.run.prompt, ...now.options });
    side.canvas.setAttribute('aria-label', side.caption.textContent);
  }
  const { run } = sides[0];
  const at = Number($('frame').value);
  $('where').textContent = run ? (at >= run.options.steps ? 'done'
    : `${at + 1} of ${run.options.steps}, t = ${Math.round(run.frames[at]?.t ?? 0)}`) : '';
  $('frame').setAttribute('aria-valuetext', $('where').textContent);
  refresh();
}
/** A step that is not decoded and should be: one in view, or else any of a full run. */
function missing() {
  const runs = active().map((side) => side.run).filter((run) => run?.end);
  const seen = runs.map((run) => view(run)).filter((now) => !now.last).map((now) => now.step);
  const others = runs.filter((run) => !run.quick).flatMap((run) => run.frames);
  return [...seen, ...others].find((step) => !step.image);
}
/** Show a frame; then decode what is missing, one at a time, so that a new run need not wait. */
async function look(index) {
  const steps = sides[0].run?.options.steps ?? 1;
  Object.assign($('frame'), { max: steps, disabled: !sides[0].run?.end });
  if (index !== undefined) $('frame').value = index;
  paint();
  if (looking) return;
  looking = true;
  for (let step; (step = missing());) {
    step.image = await engine.ask('decode', { latents: step.x0 });
    if (step.index === Number($('frame').value)) paint();
  }
  looking = false;
}

// ---- start -------------------------------------------------------------------------------------
const visit = tour(page, $('stops'), $('stop'), (prompt) => { fillIn({ prompt }); draw(true); });
const inView = () => view(sides[0].run);
const refresh = drawMap(page, $('boxes'), $('inside'), inView, visit);

async function begin() {
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
    side.input.oninput = () => { mark(side); later(); };
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
  $('reseed').onclick = () => { $('seed').value = random(10000); draw(true); };
  $('compare').onclick = () => { setComparing(!comparing); draw(true); };
  $('frame').oninput = ({ target: { value, max } }) => {
    look();
    visit({ 0: 'first', [max]: 'last' }[value]);
  };
  $('save').onclick = () => sides[0].canvas.toBlob((blob) => make('a', { download:
    `${sides[0].run.prompt || 'nothing'}.png`, href: URL.createObjectURL(blob) }).click());
  $('link').onclick = async () => {
    history.replaceState(null, '', address());
    const copied = await navigator.clipboard?.writeText(address()).then(() => true, () => false);
    say(copied ? 'The link is copied.' : 'The link now stands in the address bar.');
  };
  globalThis.onhashchange = () => {
    if (location.hash.includes('=')) { fillIn(linked()); draw(false); }
  };
}
const linked = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
function chip(word) {
  const { input } = sides[0];
  return make('button', { type: 'button', onclick: () => {
    input.value = `${input.value.trim()} ${word}`.trim();
    input.oninput();
  } }, word);
}
$('chips').append(...Object.values(page.world).map((list) => make('div', {}, ...list.map(chip))));
$('parameters').textContent = (page.parameters / 1e6).toFixed(0);
$('start').textContent = `Load the model (${MB(total)})`;
$('sampler').append(...page.samplers.map((name) => make('option', {}, name)));
for (const { src, wanted } of page.gallery) addToStrip(src, wanted);
// never empty: a picture that the model drew before, and the noise it began with
const [{ src, wanted }] = page.gallery;
const size = model.side ** 2;
heat($('noisy'), gaussian(wanted.seed)(model.channels * size).subarray(0, size),
  { side: model.side, signed: true });
const sample = make('img', { src });
Object.assign($('picture0'), { width: model.picture, height: model.picture });
sample.decode().then(() => sides[0].run
  || $('picture0').getContext('2d').drawImage(sample, 0, 0), () => {});
$('caption0').textContent = `Drawn beforehand: ${told(wanted)}`;
fillIn(wanted);
fillIn(linked());
listen();
const place = location.hash.slice(1); // of the contents, which were the first page once
if (page.chapters && place && !place.includes('=') && !$(place)) {
  location.replace(`contents.html#${place}`);
}
