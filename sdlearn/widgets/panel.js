// What a PromptPanel shows: the sentence and its marks, the picture and what is known of it, the last results.
// Everything is a native control with a label; the kernel is asked by messages, what it knows arrives in the model's fields.
const QUIET = 500;  // milliseconds after the last key
let count = 0;

function fields(model, ask) {
  const id = `sd-panel-${++count}`, field = (name, text, type, attributes = {}) => {
    const input = make('input', { type, id: `${id}-${name}`, autocomplete: 'off', ...attributes });
    return [input, make('label', { htmlFor: input.id }, text)];
  };
  const [prompt, promptLabel] = field('prompt', 'Prompt', 'text', { placeholder: 'what the picture should show', maxLength: 4000 });
  const kinds = { seed: ['Seed', 0, 2 ** 31 - 1, true], steps: ['Steps', 1, 1000, true], guidance: ['Guidance', 0, 30, false] };
  const numbers = Object.entries(kinds).map(([key, [name, least, most, whole]]) => {
    const [input, label] = field(key, name, 'text', { inputMode: whole ? 'numeric' : 'decimal' });
    const read = () => {
      const text = input.value.trim(), value = Number(text);
      const good = text !== '' && value >= least && value <= most && (!whole || Number.isInteger(value));
      input.setAttribute('aria-invalid', String(!good));
      return good ? value : null;
    };
    input.addEventListener('change', () => { const value = read(); if (value !== null) { model.set(key, value); model.save_changes(); } });
    return { key, name, least, most, whole, input, read, box: make('span', { className: 'sd-number' }, label, ' ', input) };
  });
  const wrong = () => numbers.filter((n) => n.read() === null)
    .map((n) => `${n.name} is a ${n.whole ? 'whole ' : ''}number from ${n.least} to ${n.most}; ${JSON.stringify(n.input.value)} is not.`).join(' ');
  const [live, liveLabel] = field('live', 'Draw while I type', 'checkbox');
  live.addEventListener('change', () => { model.set('live', live.checked); model.save_changes(); if (live.checked) ask('quick'); });
  return { prompt, promptLabel, numbers, wrong, live, liveBox: make('span', {}, live, ' ', liveLabel) };
}

// A picture with the place where a word was read lit up on it.
function stage() {
  const image = make('img', { alt: '' }), canvas = make('canvas'), frame = make('div', { className: 'sd-frame' }, image, canvas);
  const light = (heat, word) => {
    const context = canvas.getContext('2d'), one = heat?.words?.[word];
    if (!one) { canvas.width = canvas.height = 1; return; }
    const side = heat.side, bytes = Uint8Array.from(atob(one.map), (c) => c.charCodeAt(0)), small = new ImageData(side, side);
    bytes.forEach((value, i) => small.data.set([20, 20, 30, Math.round(225 * (1 - value / 255))], 4 * i));
    canvas.width = canvas.height = side;
    context.putImageData(small, 0, 0);
  };
  return { frame, image, light };
}

function render({ model, el }) {
  const [send, hush] = speaking(model, () => { root.classList.remove('sd-busy'); stop.disabled = true; say(GONE, false); });
  // With the values of the fields: the model's own messages wait for each other, and would be overtaken.
  const ask = (what) => {
    const values = Object.fromEntries(form.numbers.map((n) => [n.key, n.read()]).filter(([, value]) => value !== null));
    send({ do: what, values: what === 'dice' ? values : { ...values, prompt: form.prompt.value } });
  };
  const form = fields(model, (what) => ask(what)), picture = stage(), pinned = stage();
  const button = (text, attributes = {}) => make('button', { type: 'button', textContent: text, ...attributes });
  const go = button('Generate', { type: 'submit', className: 'sd-go' }), stop = button('Stop'), four = button('Four seeds');
  const dice = button('Another sentence'), pin = button('Keep beside');
  const marks = make('div', { className: 'sd-marks' }), notes = make('ul', { className: 'sd-notes', 'aria-live': 'polite' });
  const chips = make('details', {}), bar = make('progress', { 'aria-label': 'Steps done' });
  const status = make('div', { className: 'sd-status', role: 'status' });
  const told = make('div', { className: 'sd-told' }), strip = make('ul', { className: 'sd-strip', 'aria-label': 'The last pictures' });
  const slider = make('input', { type: 'range', min: 0, 'aria-label': 'Step' }), at = make('output');
  const steps = make('div', { className: 'sd-steps' }, 'Step', slider, at);
  const main = make('figure', {}, picture.frame, steps), beside = make('figure', { hidden: true }, pinned.frame, make('figcaption'));
  const ask_form = make('form', {},
    make('div', { className: 'sd-row sd-prompt-row' }, make('span', { className: 'sd-row sd-prompt', style: 'margin:0;padding:0;flex-wrap:nowrap' }, form.promptLabel, form.prompt), dice),
    marks, notes, chips,
    make('div', { className: 'sd-row' }, ...form.numbers.map((n) => n.box), form.liveBox),
    make('div', { className: 'sd-row' }, go, stop, four, pin, bar));
  const root = make('div', { className: 'sd-panel' }, ask_form, status, make('div', { className: 'sd-stage' }, beside, main, told), strip);
  el.append(root);

  let timer = null, chosen = null;  // chosen: the result of the strip that is looked at
  const shown = () => chosen ?? model.get('shown');
  const late = () => main.classList.toggle('sd-late', !model.get('busy') && form.prompt.value.trim() !== (shown().prompt ?? '').trim());
  const type = (text) => {
    form.prompt.value = text;
    model.set('prompt', text);
    model.save_changes();
    late();
    clearTimeout(timer);
    if (model.get('live') && text.trim()) timer = setTimeout(() => ask('quick'), QUIET);
  };
  form.prompt.addEventListener('input', () => type(form.prompt.value));
  const start = (what) => {
    clearTimeout(timer);
    const wrong = form.wrong();
    if (wrong) { say(wrong, true); return; }
    chosen = null;
    ask(what);
  };
  ask_form.addEventListener('submit', (event) => { event.preventDefault(); start('full'); });
  four.addEventListener('click', () => start('four'));
  stop.addEventListener('click', () => { say('Stopping …', false); ask('stop'); });
  dice.addEventListener('click', () => { clearTimeout(timer); ask('dice'); });
  pin.addEventListener('click', () => {
    const now = shown(), open = beside.hidden || pinned.image.src !== now.src;
    beside.hidden = !open;
    pin.setAttribute('aria-pressed', String(open));
    if (open) { pinned.image.src = now.src; pinned.image.alt = `Kept beside: ${now.alt}`; beside.lastChild.textContent = `Kept: ${now.prompt} (seed ${now.seed})`; }
  });

  // JupyterLab's own keys stay away from the fields
  root.addEventListener('keydown', (event) => { if (event.key !== 'Escape' && event.key !== 'Tab' && !(event.key === 'Enter' && event.shiftKey)) event.stopPropagation(); });

  const say = (text, bad) => { status.replaceChildren(...(bad ? [make('b', {}, 'Not possible: ')] : []), text); };
  const idle = (input) => document.activeElement !== input;  // nobody's typing is overwritten
  const drawPrompt = () => { if (idle(form.prompt)) form.prompt.value = model.get('prompt'); late(); };
  const drawMarks = () => {
    const names = { known: '', plain: '', unknown: 'unknown', habit: 'works differently here' };
    marks.replaceChildren(...model.get('marks').map((mark) => {
      const span = make('span', { className: 'sd-mark', title: names[mark.kind] }, mark.text);
      span.dataset.kind = mark.kind;
      if (names[mark.kind]) span.append(make('span', { className: 'sd-small' }, mark.kind === 'unknown' ? ' ?' : ' !'));
      if (mark.take) {
        const take = button(mark.take, { 'aria-label': `Take ${mark.take} instead of ${mark.text}` });
        take.addEventListener('click', () => { type(form.prompt.value.replace(mark.text, () => mark.take)); form.prompt.focus(); });
        span.append(take);
      }
      return span;
    }));
    notes.replaceChildren(...model.get('notes').map((text) => make('li', {}, text)));
  };
  const drawChips = () => {
    const groups = Object.entries(model.get('chips'));
    chips.hidden = !groups.length;
    dice.hidden = !groups.length;
    chips.replaceChildren(make('summary', {}, 'Words this model knows'), ...groups.map(([name, words]) => {
      const row = make('div', { className: 'sd-chips', role: 'group', 'aria-label': name }, make('span', {}, name));
      for (const word of words) {
        const chip = button(word);
        chip.addEventListener('click', () => type(`${form.prompt.value.trimEnd()} ${word}`.trim()));
        row.append(chip);
      }
      return row;
    }));
  };
  const drawBusy = () => {
    const busy = model.get('busy');
    root.classList.toggle('sd-busy', busy);
    go.disabled = four.disabled = busy;
    stop.disabled = !busy;
    bar.max = model.get('total') || 1;
    bar.value = model.get('done');
    late();
  };
  const drawPicture = () => {
    const now = shown(), frames = chosen ? {} : model.get('frames');
    picture.frame.style.width = pinned.frame.style.width = `${model.get('size')}px`;
    main.classList.toggle('sd-noise', Boolean(now.noise));
    picture.image.src = now.src ?? '';
    picture.image.alt = now.alt ?? '';
    picture.light(null);
    const read = (now.heat?.words ?? []).map((word, i) => {
      const lit = button(word.text, { 'aria-pressed': 'false', 'aria-label': `Where ${word.text} was read` });
      const on = () => { picture.light(now.heat, i); lit.setAttribute('aria-pressed', 'true'); };
      const off = () => { picture.light(null); lit.setAttribute('aria-pressed', 'false'); };
      for (const event of ['focus', 'pointerenter']) lit.addEventListener(event, on);
      for (const event of ['blur', 'pointerleave']) lit.addEventListener(event, off);
      lit.addEventListener('click', () => (lit.getAttribute('aria-pressed') === 'true' ? on() : off()));
      return lit;
    });
    const lines = (now.judge ?? []).flatMap((line) => [make('dt', {}, line.name), make('dd', {}, line.text)]);
    told.replaceChildren(
      make('p', { className: 'sd-read' }, ...(read.length ? read.flatMap((word) => [word, ' ']) : [now.prompt ?? ''])),
      make('p', { className: 'sd-small' }, `Seed ${now.seed}, ${now.said}.${read.length ? ' Point at a word: bright is where it was read.' : ''}`),
      ...(lines.length ? [make('dl', {}, ...lines), make('p', { className: 'sd-small' }, 'Read from the picture by another small model. It knows this world only, and it can be wrong.')] : []));
    const some = !now.quick && frames.srcs?.length > 1;
    steps.classList.toggle('sd-some', Boolean(some));
    if (some) { slider.max = frames.srcs.length - 1; slider.value = slider.max; at.textContent = frames.labels.at(-1); slider.setAttribute('aria-valuetext', at.textContent); }
    late();
  };
  slider.addEventListener('input', () => {
    const frames = model.get('frames'), i = Number(slider.value);
    picture.light(null);
    picture.image.src = frames.srcs[i];
    picture.image.alt = frames.alts[i];
    at.textContent = frames.labels[i];
    slider.setAttribute('aria-valuetext', frames.labels[i]);
  });
  const drawStrip = () => {
    strip.replaceChildren(...model.get('strip').map((one) => {
      const back = make('button', { type: 'button', title: `${one.prompt} (seed ${one.seed})`, 'aria-label': `Bring back: ${one.prompt}, seed ${one.seed}` }, make('img', { src: one.src, alt: '' }));
      back.setAttribute('aria-current', String(one.src === shown().src));
      back.addEventListener('click', () => {
        if (model.get('busy')) return;
        clearTimeout(timer);
        chosen = one.src === model.get('shown').src ? null : one;
        model.set('prompt', one.prompt);
        model.set('seed', one.seed);
        model.save_changes();
        drawPrompt();
        drawPicture();
        for (const other of strip.querySelectorAll('button')) other.setAttribute('aria-current', String(other === back));
      });
      return make('li', {}, back);
    }));
  };
  const listen = (names, draw) => { for (const name of names) model.on(`change:${name}`, draw); draw(); };
  listen(['shown', 'frames', 'size'], () => { if (model.get('busy')) chosen = null; drawPicture(); });
  model.on('change:shown', () => { chosen = null; drawPicture(); });
  listen(['prompt'], drawPrompt);
  for (const n of form.numbers) listen([n.key], () => { if (idle(n.input)) { n.input.value = String(model.get(n.key)); n.read(); } });
  listen(['live'], () => { form.live.checked = model.get('live'); });
  listen(['marks', 'notes'], drawMarks);
  listen(['chips'], drawChips);
  listen(['busy', 'done', 'total'], drawBusy);
  listen(['strip'], drawStrip);
  listen(['status', 'bad'], () => say(model.get('status'), model.get('bad')));
  ask('ready');
  return () => { clearTimeout(timer); hush(); };
}

export default { render };
