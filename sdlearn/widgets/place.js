// A place in a picture (widgets.LivePicture with a row and a column): a click, a drag or the arrow keys choose it.
function render({ model, el }) {
  const dot = make('div', { className: 'sd-place-dot' }), field = make('div', { className: 'sd-place-field', tabIndex: 0, role: 'application' }, dot);
  el.append(field);
  const go = (...at) => {
    const counts = model.get('counts');
    model.set('at', at.map((value, i) => Math.max(0, Math.min(counts[i] - 1, value))));
    model.save_changes();
  };
  const show = () => {
    const [row, column] = model.get('at'), [rows, columns] = model.get('counts');
    dot.style.cssText = `top: ${100 * row / rows}%; left: ${100 * column / columns}%; height: ${100 / rows}%; width: ${100 / columns}%`;
    field.setAttribute('aria-label', `Place in the picture: row ${row + 1} of ${rows}, column ${column + 1} of ${columns}. Click, or use the arrow keys`);
  };
  const point = (event) => {
    const box = field.getBoundingClientRect(), [rows, columns] = model.get('counts');
    go(Math.floor((event.clientY - box.top) / box.height * rows), Math.floor((event.clientX - box.left) / box.width * columns));
  };
  field.addEventListener('pointerdown', point);
  field.addEventListener('pointermove', (event) => { if (event.buttons === 1) point(event); });
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  field.addEventListener('keydown', (event) => {
    const move = moves[event.key], [row, column] = model.get('at');
    if (!move) return;
    event.preventDefault();  // the page would scroll
    event.stopPropagation();  // and JupyterLab leave the cell
    go(row + move[0], column + move[1]);
  });
  model.on('change:at', show);
  show();
}

export default { render };
