// Paints train ids instead of colours, so that no pixel is of a colour that is no class. FREE pixels are see-through.
// props: rows, columns, classes [{name, colour: [r, g, b]}], value {ids: base64 of rows * columns bytes, row by row}.
// Triggers 'input' after each stroke.
const FREE = 255, KEPT = 50;  // KEPT: strokes that undo knows
const {rows, columns, classes} = props;
const find = (selector) => element.querySelector(selector);
const canvas = find('canvas'), context = canvas.getContext('2d');
canvas.width = columns; canvas.height = rows;
let ids = new Uint8Array(rows * columns).fill(FREE);
let tool = 'brush', chosen = 0, strokes = [], start = null, last = null;

function decode(text) { return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)); }
function encode(bytes) {
  let text = '';
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return btoa(text);
}

function show() {
  const picture = context.createImageData(columns, rows);
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === FREE) continue;
    picture.data.set(classes[ids[i]].colour, 4 * i);
    picture.data[4 * i + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

function keep() { strokes.push(ids.slice()); if (strokes.length > KEPT) strokes.shift(); }
function tell() { show(); props.value = {ids: encode(ids)}; trigger('input'); }

function take() {  // what the program puts onto the canvas
  const given = props.value && props.value.ids;
  if (!given || given === encode(ids)) return;
  const bytes = decode(given);
  if (bytes.length !== ids.length) return;
  keep(); ids = bytes; show();
}

function set(x, y) { if (x >= 0 && y >= 0 && x < columns && y < rows) ids[y * columns + x] = chosen; }
function rectangle(a, b) {
  for (let y = Math.min(a.y, b.y); y <= Math.max(a.y, b.y); y++)
    for (let x = Math.min(a.x, b.x); x <= Math.max(a.x, b.x); x++) set(x, y);
}
function line(a, b) {  // discs along the way from a to b
  const size = Number(find('[data-size]').value), r = size / 2, steps = Math.max(Math.abs(b.x - a.x), Math.abs(b.y - a.y), 1);
  for (let k = 0; k <= steps; k++) {
    const cx = a.x + (b.x - a.x) * k / steps, cy = a.y + (b.y - a.y) * k / steps;
    for (let y = Math.floor(cy - r); y <= cy + r; y++)
      for (let x = Math.floor(cx - r); x <= cx + r; x++)
        if ((x - cx) ** 2 + (y - cy) ** 2 < r * r + 0.01 || size === 1 && x === Math.round(cx) && y === Math.round(cy)) set(x, y);
  }
}
function fill(at) {
  const from = ids[at.y * columns + at.x], waiting = [at.y * columns + at.x];
  if (from === chosen) return;
  while (waiting.length) {
    const i = waiting.pop();
    if (ids[i] !== from) continue;
    ids[i] = chosen;
    const x = i % columns;
    if (x > 0) waiting.push(i - 1);
    if (x < columns - 1) waiting.push(i + 1);
    if (i >= columns) waiting.push(i - columns);
    if (i < ids.length - columns) waiting.push(i + columns);
  }
}

function choose(id) {
  chosen = id;
  element.querySelectorAll('.palette button').forEach((b) => b.classList.toggle('chosen', Number(b.dataset.id) === id));
}
function use(name) {
  tool = name;
  element.querySelectorAll('[data-tool]').forEach((b) => b.classList.toggle('chosen', b.dataset.tool === name));
}
function place(event) {
  const box = canvas.getBoundingClientRect();
  const at = (value, size) => Math.min(Math.max(Math.floor(value), 0), size - 1);
  return {x: at((event.clientX - box.left - canvas.clientLeft) / canvas.clientWidth * columns, columns),
          y: at((event.clientY - box.top - canvas.clientTop) / canvas.clientHeight * rows, rows)};
}

canvas.addEventListener('pointerdown', (event) => {
  const at = place(event);
  if (tool === 'pick') { choose(ids[at.y * columns + at.x]); return use('brush'); }
  keep(); start = last = at;
  canvas.setPointerCapture(event.pointerId);
  if (tool === 'fill') fill(at);
  if (tool === 'brush') line(at, at);
  if (tool === 'box') rectangle(at, at);
  show();
});
canvas.addEventListener('pointermove', (event) => {
  const at = place(event), id = ids[at.y * columns + at.x];
  find('[data-says]').textContent = id === FREE ? 'free' : classes[id].name;
  if (!start || tool === 'fill') return;
  if (tool === 'box') { ids = strokes[strokes.length - 1].slice(); rectangle(start, at); }
  else line(last, at);
  last = at; show();
});
for (const end of ['pointerup', 'pointercancel'])
  canvas.addEventListener(end, () => { if (start) { start = last = null; tell(); } });

function undo() { if (strokes.length) { ids = strokes.pop(); tell(); } }
find('[data-undo]').addEventListener('click', undo);
find('[data-clear]').addEventListener('click', () => { keep(); ids.fill(FREE); tell(); });
document.addEventListener('keydown', (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === 'z' && !/INPUT|TEXTAREA/.test(event.target.tagName)) undo();
});
element.querySelectorAll('[data-tool]').forEach((b) => b.addEventListener('click', () => use(b.dataset.tool)));

[...classes.map((c, id) => [id, c.name, `rgb(${c.colour})`]), [FREE, 'free', 'none']].forEach(([id, name, colour]) => {
  const button = document.createElement('button'), patch = document.createElement('i');
  button.type = 'button'; button.dataset.id = id;
  patch.style.background = colour; patch.style.border = '1px solid #888';
  button.append(patch, name);
  button.addEventListener('click', () => choose(id));
  find('.palette').append(button);
});
choose(0); use('brush'); show(); take();
watch('value', take);
