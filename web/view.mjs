/** Drawing: pictures, maps of numbers in colors that color-blind eyes can tell apart. */

/** Evenly spaced stops, joined by straight lines. */
const ramp = (...stops) => (x) => {
  const at = Math.min(Math.max(x, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  return stops[low].map((value, c) => value + (at - low) * (stops[low + 1][c] - value));
};
/** Above 0 orange, below 0 purple (PuOr); and from little to much (cividis). */
const SIGNED = ramp([45, 0, 75], [128, 115, 172], [247, 247, 247], [224, 130, 20], [127, 59, 8]);
const AMOUNT = ramp([0, 32, 77], [65, 77, 108], [124, 123, 120], [188, 175, 111], [255, 234, 70]);

/** @param {HTMLCanvasElement} canvas @param {{side: number, data: Uint8ClampedArray}} image */
export function show(canvas, { side, data, width = side }) {
  Object.assign(canvas, { width, height: side });
  canvas.getContext('2d').putImageData(new ImageData(data, width, side), 0, 0);
}

/** Numbers as colors; `signed` ones symmetric about 0. */
export function heat(canvas, numbers, { side, width = side, signed = false }) {
  const most = numbers.reduce((m, x) => Math.max(m, Math.abs(x)), 1e-9);
  const data = new Uint8ClampedArray(4 * width * side).fill(255);
  for (let i = 0; i < width * side; i++) {
    const share = numbers[i] / most;
    data.set(signed ? SIGNED((share + 1) / 2) : AMOUNT(share), 4 * i);
  }
  show(canvas, { side, width, data });
}

/** A picture, bright where the map is strong and dim elsewhere. */
export function spotlight(canvas, image, map, side) {
  const [least, most] = [Math.min(...map), Math.max(...map)];
  const light = new Uint8ClampedArray(4 * side * side).fill(255);
  map.forEach((value, i) =>
    light.fill(46 + (209 * (value - least)) / (most - least || 1), 4 * i, 4 * i + 3));
  const small = make('canvas');
  show(small, { side, data: light });
  show(canvas, image);
  const context = canvas.getContext('2d');
  context.globalCompositeOperation = 'multiply';
  context.drawImage(small, 0, 0, image.side, image.side);
}

/** An element in one line. @returns {HTMLElement} */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
