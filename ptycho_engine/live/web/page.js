'use strict';
// Draws what the event stream of the run says. Nothing is sent back.

const COLOURS = {
  grey: ['#000000', '#ffffff'],
  viridis: ['#440154', '#472d7b', '#3b528b', '#2c728e', '#21918c', '#28ae80', '#5ec962', '#addc30', '#fde725'],
  magma: ['#000004', '#1d1147', '#51127c', '#832681', '#b73779', '#e75263', '#fc8961', '#fec488', '#fcfdbf'],
};
const PHASES = {
  measuring: 'The scan runs.',
  reconstructing: 'The scan is over; all frames are reconstructed.',
  ended: 'The run has ended; the images are its result.',
};
const TICKS = [0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 1e4, 1e5];
const byId = (id) => document.getElementById(id);

// 256 colours of four bytes; number 0 is transparent, for pixels that are not known.
function table(name) {
  const anchors = COLOURS[name].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const colours = new Uint32Array(256);
  const bytes = new Uint8ClampedArray(colours.buffer);
  for (let level = 1; level < 256; level++) {
    const place = ((level - 1) / 254) * (anchors.length - 1);
    const low = Math.min(Math.floor(place), anchors.length - 2);
    for (let part = 0; part < 3; part++) {
      bytes[4 * level + part] = anchors[low][part] + (place - low) * (anchors[low + 1][part] - anchors[low][part]);
    }
    bytes[4 * level + 3] = 255;
  }
  return colours;
}

function paint(canvas, width, height, levels, colours) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let at = 0; at < pixels.length; at++) pixels[at] = colours[levels[at]];
  canvas.getContext('2d').putImageData(image, 0, 0);
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return '–';
  const text = Math.abs(value) >= 1e5 ? value.toExponential(2) : String(Number(value.toPrecision(digits)));
  return text.replace('-', '−');
}

function showImage(figure, image) {
  const [canvas, bar] = figure.querySelectorAll('canvas');
  const [low, high] = figure.querySelectorAll('output');
  const colours = table(figure.dataset.colours);
  paint(canvas, image.width, image.height, Uint8Array.from(atob(image.pixels), (c) => c.charCodeAt(0)), colours);
  paint(bar, 255, 1, Uint8Array.from({ length: 255 }, (_, at) => at + 1), colours);
  low.value = number(image.low);
  high.value = number(image.high);
}

function drawing(parent) {
  parent.replaceChildren();
  return (name, attributes, text = '') => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    parent.append(element);
  };
}

// The numbers 1, 2 or 5 times a power of ten that make about `count` steps up to `most`.
function step(most, count) {
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
}

function showCurve(curve) {
  const draw = drawing(byId('curve'));
  if (!curve.frames.length) {
    draw('text', { x: 320, y: 130, 'text-anchor': 'middle' }, 'All frames so far lie on new area.');
    return;
  }
  const [left, right, top, bottom] = [48, 628, 8, 216];
  const most = Math.max(...curve.frames, 1);
  const low = Math.log(Math.min(...curve.unseen, 0.95));
  const high = Math.log(Math.max(...curve.unseen, 1.2) * 1.03);
  const x = (frames) => left + ((right - left) * frames) / most;
  const y = (unseen) => bottom - ((bottom - top) * (Math.log(unseen) - low)) / (high - low);
  let last = Infinity;
  for (const tick of TICKS.filter((value) => Math.log(value) >= low && Math.log(value) <= high)) {
    if (last - y(tick) < 16) continue;
    last = y(tick);
    draw('line', { class: 'axis', x1: left, x2: right, y1: last, y2: last });
    draw('text', { x: left - 8, y: last + 4, 'text-anchor': 'end' }, `${tick}×`);
  }
  for (let tick = 0, size = step(most, 6); tick <= most; tick += size) {
    draw('line', { class: 'axis', x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 5 });
    draw('text', { x: x(tick), y: bottom + 20, 'text-anchor': 'middle' }, String(tick));
  }
  draw('text', { x: (left + right) / 2, y: bottom + 38, 'text-anchor': 'middle' }, 'frames in the image');
  draw('line', { class: 'noise', x1: left, x2: right, y1: y(1), y2: y(1) });
  const points = curve.frames.map((frames, at) => [x(frames), y(curve.unseen[at])]);
  draw('polyline', { class: 'unseen', points: points.map((point) => point.join()).join(' ') });
  for (const [cx, cy] of points) draw('circle', { cx, cy, r: 2.5 });
}

function show(state) {
  byId('name').textContent = state.name;
  byId('phase').textContent = PHASES[state.phase];
  byId('enough').hidden = !state.enough;
  byId('used').textContent = state.used === state.frames ? state.used : `${state.used} of ${state.frames}`;
  byId('rate').textContent = number(state.rate);
  byId('lag').textContent = state.rate ? `${state.waiting} (${number(state.waiting / state.rate, 2)} s)` : state.waiting;
  for (const id of ['unplaced', 'left_out', 'lost']) byId(id).textContent = state[id];
  byId('unseen').textContent = state.unseen === null ? '–' : `${number(state.unseen)}× noise`;
  for (const id of ['error', 'gain']) byId(id).textContent = state[id] === null ? '–' : `${number(100 * Math.max(state[id], 0), 2)} %`;
  byId('calibrated').textContent = state.calibrated || '–';
  document.title = `${state.used} frames${state.enough ? ', enough' : ''} – PtychoPINN live`;
  showCurve(state.curve);
  for (const figure of document.querySelectorAll('figure[data-image]')) {
    const image = state.images?.[figure.dataset.image];
    if (image) showImage(figure, image);
  }
}

const events = new EventSource('events');
events.onmessage = (event) => {
  const state = JSON.parse(event.data);
  show(state);
  if (state.phase === 'ended') events.close();
};
events.onerror = () => {
  byId('phase').textContent = 'No connection: the run has ended, or was stopped.';
};
