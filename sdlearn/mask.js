// Drawing on a picture (widgets.MaskCanvas): the mouse or a finger sets cells of a canvas over it, and after each stroke a hidden text field
// carries them to the kernel as a row of 0 and 1. What the kernel sets, by its sliders, comes back in the attribute data-bits.
(() => {
  if (window.__sdlearnMask) return;
  window.__sdlearnMask = true;
  const make = (parent, tag, attributes) => parent.appendChild(Object.assign(document.createElement(tag), attributes));

  const bind = (box, echo) => {
    const stage = box.querySelector('.sd-mask-stage'), [columns, rows] = echo.dataset.cells.split(',').map(Number);
    const canvas = make(stage, 'canvas', { width: columns, height: rows }), tools = make(stage.parentElement, 'div', { className: 'sd-mask-tools' });
    const brush = make(make(tools, 'label', { textContent: 'Brush ' }), 'input', { type: 'range', min: 1, max: Math.max(3, columns >> 1), value: Math.max(2, columns >> 3) });
    const rub = make(make(tools, 'label', { textContent: 'Rub out ' }), 'input', { type: 'checkbox' });
    for (const input of [brush, rub]) input.addEventListener('keydown', (event) => { if (event.key !== 'Escape' && event.key !== 'Tab') event.stopPropagation(); });
    let last = null, turn = null, bits = [];

    const show = () => {  // chequered, so that it is seen on any colour
      const context = canvas.getContext('2d'), image = context.createImageData(columns, rows);
      bits.forEach((on, i) => { const light = ((i % columns) + Math.floor(i / columns)) % 2 ? 255 : 30; image.data.set([light, light, light, on ? 185 : 0], 4 * i); });
      context.putImageData(image, 0, 0);
    };
    const dab = (x, y, on) => {
      for (let i = 0; i < bits.length; i++) {
        const dx = (i % columns) + 0.5 - x, dy = Math.floor(i / columns) + 0.5 - y;
        if (Math.hypot(dx, dy) <= brush.value / 2 || Math.max(Math.abs(dx), Math.abs(dy)) <= 0.5) bits[i] = on;
      }
    };
    const stroke = (event) => {
      const area = canvas.getBoundingClientRect(), on = !(rub.checked || event.shiftKey);
      const x = ((event.clientX - area.left) / area.width) * columns, y = ((event.clientY - area.top) / area.height) * rows;
      const from = last ?? [x, y], count = Math.ceil(2 * Math.hypot(x - from[0], y - from[1])) || 1;
      for (let k = 1; k <= count; k++) dab(from[0] + ((x - from[0]) * k) / count, from[1] + ((y - from[1]) * k) / count, on);
      last = [x, y];
      show();
    };
    const send = () => {
      if (!last) return;
      last = null;
      const field = box.querySelector('.sd-mask-data textarea');
      field.value = bits.map(Number).join('');
      field.dispatchEvent(new Event('input', { bubbles: true }));
    };
    canvas.addEventListener('pointerdown', (event) => { if (event.button === 0) { event.preventDefault(); canvas.setPointerCapture(event.pointerId); stroke(event); } });
    canvas.addEventListener('pointermove', (event) => { if (last) stroke(event); });
    for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, send);
    return (news) => {
      if (last || news.dataset.turn === turn) return;  // not in the middle of a stroke
      turn = news.dataset.turn;
      bits = [...news.dataset.bits].map((bit) => bit === '1');
      show();
    };
  };

  const bound = new WeakMap();
  const look = () => document.querySelectorAll('.sd-mask').forEach((box) => {
    const echo = box.querySelector('.sd-mask-echo'), stage = box.querySelector('.sd-mask-stage');
    if (!echo || !stage?.querySelector('img')) return;
    if (!bound.has(box)) { bound.set(box, bind(box, echo)); box.classList.add('sd-mask-live'); }
    bound.get(box)(echo);
  });
  let due = false;
  new MutationObserver(() => {
    if (!due) { due = true; requestAnimationFrame(() => { due = false; look(); }); }
  }).observe(document.body, { childList: true, subtree: true });
  look();
})();
