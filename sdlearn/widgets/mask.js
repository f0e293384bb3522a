// Drawing on a picture (widgets.MaskCanvas): the mouse, a finger or sliders set cells of a canvas over it. The mask travels as a row of 0 and 1.
let count = 0;

// The cells that no way from the edge reaches without crossing the mask: the inside of an outline.
function inside(bits, columns, rows) {
  const outside = new Uint8Array(bits.length), queue = [];
  const visit = (r, c) => {
    const i = r * columns + c;
    if (r >= 0 && c >= 0 && r < rows && c < columns && !bits[i] && !outside[i]) { outside[i] = 1; queue.push([r, c]); }
  };
  for (let r = 0; r < rows; r++) { visit(r, 0); visit(r, columns - 1); }
  for (let c = 0; c < columns; c++) { visit(0, c); visit(rows - 1, c); }
  while (queue.length) { const [r, c] = queue.pop(); visit(r - 1, c); visit(r + 1, c); visit(r, c - 1); visit(r, c + 1); }
  return bits.map((bit, i) => !bit && !outside[i]);
}

function render({ model, el }) {
  const columns = model.get('columns'), rows = model.get('rows'), id = `sd-mask-${++count}`;
  const button = (text, attributes = {}) => make('button', { type: 'button', textContent: text, ...attributes });
  const range = (name, text, least, most, value) => {
    const input = make('input', { type: 'range', id: `${id}-${name}`, min: least, max: most });
    input.value = value;
    return [input, make('label', { htmlFor: input.id }, text, ' ', input)];
  };
  const canvas = make('canvas', { width: columns, height: rows, className: 'sd-mask-canvas' });
  const frame = make('div', { className: 'sd-frame sd-mask-stage' }, make('img', { src: model.get('src'), alt: model.get('alt') }), canvas);
  frame.style.cssText = `width: ${model.get('size')}px; aspect-ratio: ${model.get('size')} / ${model.get('high')}`;
  const [brush, brushLabel] = range('brush', 'Brush', 1, Math.max(3, columns >> 1), Math.max(2, columns >> 3));
  const rub = make('input', { type: 'checkbox', id: `${id}-rub` }), rubLabel = make('label', {}, rub, ' Rub out');
  const undo = button('Undo'), clear = button('Clear'), fill = button('Fill outline');
  const sides = [['left', 'Left', columns, 0], ['right', 'Right', columns, columns], ['top', 'Top', rows, 0], ['bottom', 'Bottom', rows, rows]]
    .map(([name, text, most, value]) => range(name, text, 0, most, value));
  const add = button('Add rectangle'), take = button('Take rectangle out');
  const prompt = make('input', { type: 'text', id: `${id}-prompt`, placeholder: 'what the whole picture should show', autocomplete: 'off', maxLength: 4000 });
  const go = button('Repaint', { type: 'submit', className: 'sd-go' }), stop = button('Stop'), bar = make('progress', { 'aria-label': 'Steps done' });
  const notes = make('ul', { className: 'sd-notes', 'aria-live': 'polite' }), status = make('div', { className: 'sd-status', role: 'status' });
  const image = make('img', { alt: '' }), out = make('figure', {}, make('div', { className: 'sd-frame' }, image), make('figcaption'));
  out.firstChild.style.cssText = frame.style.cssText;
  out.style.visibility = 'hidden';
  out.hidden = !model.get('asks');
  const form = make('form', { hidden: !model.get('asks') },
    make('div', { className: 'sd-row sd-prompt' }, make('label', { htmlFor: prompt.id }, 'Prompt'), prompt), notes,
    make('div', { className: 'sd-row' }, go, stop, bar));
  const rectangle = make('details', {}, make('summary', {}, 'Rectangle by sliders'),
    make('div', { className: 'sd-row' }, ...sides.map(([, label]) => label)), make('div', { className: 'sd-row' }, add, take));
  const root = make('div', { className: 'sd-panel' },
    make('div', { className: 'sd-stage' }, make('figure', {}, frame), out),
    make('div', { className: 'sd-row sd-mask-tools' }, brushLabel, rubLabel, undo, clear, fill), rectangle, form, status);
  el.append(root);

  const [tell, hush] = speaking(model, () => { root.classList.remove('sd-busy'); stop.disabled = true; status.textContent = GONE; });
  let bits = [], last = null, history = [];
  const box = () => { const [l, r, t, b] = sides.map(([input]) => Number(input.value)); return [Math.min(l, r), Math.max(l, r), Math.min(t, b), Math.max(t, b)]; };
  const show = () => {  // striped light and dark, so that it is seen on any color
    const context = canvas.getContext('2d'), pixels = context.createImageData(columns, rows), [l, r, t, b] = box();
    bits.forEach((on, i) => {
      const c = i % columns, y = Math.floor(i / columns), light = (c + y) % 2 ? 255 : 30;
      const edge = rectangle.open && c >= l && c < r && y >= t && y < b && (c === l || c === r - 1 || y === t || y === b - 1);
      pixels.data.set(edge ? [230, 159, 0, 230] : [light, light, light, on ? 185 : 0], 4 * i);
    });
    context.putImageData(pixels, 0, 0);
    const held = [undo, fill].find((one) => one === root.getRootNode().activeElement);
    undo.disabled = !history.length;
    fill.disabled = !inside(bits, columns, rows).some(Boolean);
    if (held?.disabled) (held === undo ? clear : undo).focus();  // keys go on from the next button
  };
  const send = () => { model.set('bits', bits.map(Number).join('')); model.save_changes(); show(); };
  const remember = () => { history = [...history.slice(-49), [...bits]]; };
  const change = (to) => { remember(); bits = to; send(); };
  const dab = (x, y, on) => {
    for (let i = 0; i < bits.length; i++) {
      const dx = (i % columns) + 0.5 - x, dy = Math.floor(i / columns) + 0.5 - y;
      if (Math.hypot(dx, dy) <= brush.value / 2 || Math.max(Math.abs(dx), Math.abs(dy)) <= 0.5) bits[i] = on;
    }
  };
  const stroke = (event) => {
    const area = canvas.getBoundingClientRect(), on = !(rub.checked || event.shiftKey);
    const x = ((event.clientX - area.left) / area.width) * columns, y = ((event.clientY - area.top) / area.height) * rows;
    const from = last ?? [x, y], parts = Math.ceil(2 * Math.hypot(x - from[0], y - from[1])) || 1;
    for (let k = 1; k <= parts; k++) dab(from[0] + ((x - from[0]) * k) / parts, from[1] + ((y - from[1]) * k) / parts, on);
    last = [x, y];
    show();
  };
  canvas.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    remember();
    stroke(event);
  });
  canvas.addEventListener('pointermove', (event) => { if (last) stroke(event); });
  for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => { if (last) { last = null; send(); } });
  undo.addEventListener('click', () => { if (history.length) { bits = history.pop(); send(); } });
  clear.addEventListener('click', () => change(bits.map(() => false)));
  fill.addEventListener('click', () => { const hole = inside(bits, columns, rows); change(bits.map((bit, i) => bit || hole[i])); });
  const rectangular = (on) => {
    const [l, r, t, b] = box();
    change(bits.map((bit, i) => { const c = i % columns, y = Math.floor(i / columns); return c >= l && c < r && y >= t && y < b ? on : bit; }));
  };
  add.addEventListener('click', () => rectangular(true));
  take.addEventListener('click', () => rectangular(false));
  for (const [input] of sides) input.addEventListener('input', show);
  rectangle.addEventListener('toggle', show);
  prompt.addEventListener('input', () => { model.set('prompt', prompt.value); model.save_changes(); });
  form.addEventListener('submit', (event) => { event.preventDefault(); tell({ do: 'run', prompt: prompt.value, bits: bits.map(Number).join('') }); });
  stop.addEventListener('click', () => tell({ do: 'stop' }));
  // JupyterLab's own keys stay away from the fields
  root.addEventListener('keydown', (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === 'z' && event.target.type !== 'text') { event.preventDefault(); undo.click(); }
    if (event.key !== 'Escape' && event.key !== 'Tab' && !(event.key === 'Enter' && event.shiftKey)) event.stopPropagation();
  });

  const listen = (names, draw) => { for (const name of names) model.on(`change:${name}`, draw); draw(); };
  listen(['bits'], () => {
    const text = model.get('bits');
    if (last || text === bits.map(Number).join('')) return;  // not in the middle of a stroke
    if (bits.length) remember();
    bits = [...text].map((bit) => bit === '1');
    show();
  });
  listen(['prompt'], () => { if (document.activeElement !== prompt) prompt.value = model.get('prompt'); });
  listen(['notes'], () => notes.replaceChildren(...model.get('notes').map((text) => make('li', {}, text))));
  listen(['busy', 'done', 'total'], () => {
    root.classList.toggle('sd-busy', model.get('busy'));
    go.disabled = model.get('busy');
    stop.disabled = !model.get('busy');
    if (model.get('total')) { bar.max = model.get('total'); bar.value = model.get('done'); } else bar.removeAttribute('value');
  });
  listen(['result'], () => {
    const now = model.get('result');
    if (!now.src) return;
    out.style.visibility = '';
    image.src = now.src;
    image.alt = now.alt;
    out.lastChild.textContent = `Repainted: ${now.prompt}`;
  });
  listen(['status', 'bad'], () => status.replaceChildren(...(model.get('bad') ? [make('b', {}, 'Not possible: ')] : []), model.get('status')));
  return hush;
}

export default { render };
