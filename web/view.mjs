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
export function spotlight(canvas, image, map, mapSide) {
  const [least, most] = [Math.min(...map), Math.max(...map)];
  const step = image.side / mapSide;
  const at = (x, y) => map[Math.min(Math.max(y, 0), mapSide - 1) * mapSide
    + Math.min(Math.max(x, 0), mapSide - 1)];
  const data = new Uint8ClampedArray(image.data);
  for (let y = 0; y < image.side; y++) {
    for (let x = 0; x < image.side; x++) {
      const [u, v] = [(x + 0.5) / step - 0.5, (y + 0.5) / step - 0.5];
      const [i, j] = [Math.floor(u), Math.floor(v)];
      const [a, b] = [u - i, v - j];
      const value = (1 - b) * ((1 - a) * at(i, j) + a * at(i + 1, j))
        + b * ((1 - a) * at(i, j + 1) + a * at(i + 1, j + 1));
      const light = 0.18 + 0.82 * ((value - least) / (most - least || 1));
      for (let c = 0; c < 3; c++) data[4 * (y * image.side + x) + c] *= light;
    }
  }
  show(canvas, { side: image.side, data });
}

/** An element in one line. @returns {HTMLElement} */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
