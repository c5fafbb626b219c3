/** The page: it takes photos, tells the worker what to do and shows what the worker says. */

import { Curve, Smoothed } from './curve.js';
import { skipNotices } from './photos.js';
import { sheetOf } from './sheet.js';
import { verdict } from './verdict.js';

const SAMPLES = ['1.png', '2.png', '3.png', '4.png', '5.png'];
const PREVIEWS = 4; // pictures before and after

// More than one thread needs a page that is isolated, by its server and over https or on this computer: ?threads=2.
const threads = crossOriginIsolated ? Number(new URLSearchParams(location.search).get('threads') ?? 1) : 1;

const $ = (id) => document.getElementById(id);
const worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
const curve = new Curve($('curve'));
let files = [],
  ready = false,
  busy = false,
  drawnPrompt = '',
  smoothed = new Smoothed();

/** A picture of RGBA bytes as a canvas in a list. */
function show(list, rgba, side, label) {
  const canvas = Object.assign(document.createElement('canvas'), { width: side, height: side });
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', label);
  canvas.getContext('2d').putImageData(new ImageData(rgba, side, side), 0, 0);
  const item = document.createElement('li');
  item.append(canvas);
  $(list).append(item);
}

const clear = (...lists) => lists.forEach((list) => $(list).replaceChildren());
/** What is going on, read out by a screen reader when it changes. */
function say(message) {
  if ($('status').textContent !== message) $('status').textContent = message;
}

function complain(message) {
  $('error').textContent = message;
  $('error').hidden = !message;
}

function warn(message) {
  $('notice').textContent = message;
  $('notice').hidden = !message;
}

/** Lets a link give a file. */
function offer(name, data, type) {
  URL.revokeObjectURL($(name).href);
  $(name).href = URL.createObjectURL(new Blob([data], { type }));
}

function clock(seconds) {
  const total = Math.round(seconds),
    pad = (x) => String(x).padStart(2, '0');
  const [hours, minutes] = [Math.floor(total / 3600), Math.floor(total / 60) % 60];
  return hours ? `${hours}:${pad(minutes)}:${pad(total % 60)}` : `${minutes}:${pad(total % 60)}`;
}

function setBusy(now) {
  busy = now;
  $('start').disabled = busy || !ready || !files.length;
  $('draw').disabled = busy;
  $('cancel').disabled = !busy;
}

function choose(chosen) {
  files = chosen;
  clear('chosen');
  complain('');
  warn('');
  $('skipped').textContent = '';
  if (files.length) say('');
  if (files.length && ready && !busy) send({ type: 'look', files });
  else setBusy(busy);
}

function send(message) {
  complain('');
  setBusy(true);
  worker.postMessage(message);
}

const heard = {
  opened({ model, weights, resolution, bytes, initializer, prompts, steps }) {
    ready = true;
    const kind = prompts.pocket ? ', which draws pixel-art people only' : '';
    $('model').textContent =
      `Model: ${model.name}${kind}. ${weights} weights, ${(bytes / 1e6).toFixed(1)} MB, ` +
      `pictures of ${resolution} x ${resolution} pixels.`;
    $('full').value = steps;
    $('full').textContent = `${steps}, the full run`;
    $('initializer').value = initializer ?? '';
    $('prompt').dataset.template = (prompts.pocket ?? prompts.object)[0].text;
    setBusy(false);
    if (files.length) choose(files);
  },
  photos({ pictures, side, skipped }) {
    clear('chosen');
    pictures.forEach((rgba, i) => show('chosen', rgba, side, `Photo ${i + 1} as the model sees it`));
    const seen = pictures.length === 1 ? 'photo, as the model sees it' : 'photos, as the model sees them';
    $('skipped').textContent = [`${pictures.length} ${seen}`, ...skipNotices(skipped)].join('. ');
  },
  notice: ({ message }) => warn(message),
  looked: () => setBusy(false),
  status: ({ message }) => say(message),
  step({ step, total, loss, forwards, eta, skipped }) {
    $('progress').hidden = false;
    say('Learning');
    if (!skipped) smoothed.add(loss);
    [$('bar').max, $('bar').value] = [total, step];
    $('step').textContent = `${step} of ${total}`;
    $('loss').textContent = smoothed.value.toFixed(4);
    $('forwards').textContent = forwards;
    $('eta').textContent = clock(eta);
    curve.add(loss, smoothed.value, total);
  },
  picture({ kind, rgba, side, index, images }) {
    $('result').hidden = false;
    show(
      kind,
      rgba,
      side,
      { before: 'Before', after: 'After', drawn: drawnPrompt }[kind] + `, picture ${index + 1} of ${images}`,
    );
  },
  learned({ file, record, before, after, steps, forwards, seconds, cancelled }) {
    $('finished').hidden = $('result').hidden = false;
    offer('download', file, 'application/octet-stream');
    offer('record', `${JSON.stringify(record, null, 2)}\n`, 'application/json');
    $('summary').textContent = `${verdict(before, after)}. ${steps} steps and ${forwards} forward passes in ${clock(seconds)}.`;
    say(cancelled ? `Stopped after step ${steps}; what was learned so far can be downloaded` : 'Done');
    setBusy(false);
  },
  drawn({ cancelled, unused }) {
    const without = unused.length ? `. No prompt has the word ${unused.join(', ')}, so its embedding has no effect` : '';
    say((cancelled ? 'Stopped' : 'Done') + without);
    setBusy(false);
  },
  error({ message }) {
    complain(message);
    say('');
    if (!ready) $('model').textContent = 'There is no model to learn with.';
    setBusy(false);
    $('cancel').disabled = true;
  },
};
worker.onmessage = ({ data: { type, ...rest } }) => heard[type]?.(rest);
worker.onerror = (event) =>
  heard.error({
    message: `the worker could not be started${event.message ? ` (${event.message})` : ''}; reload the page`,
  });

$('files').addEventListener('change', () => choose(Array.from($('files').files)));
for (const type of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  $('drop').addEventListener(type, (event) => {
    event.preventDefault();
    $('drop').classList.toggle('over', type === 'dragenter' || type === 'dragover');
    if (type === 'drop') choose(Array.from(event.dataTransfer.files));
  });
}
$('samples').addEventListener('click', async () => {
  try {
    choose(
      await Promise.all(
        SAMPLES.map(async (name) => {
          const answer = await fetch(`samples/${name}`);
          if (!answer.ok) throw new Error('this server has no samples; choose photos of your own');
          return new File([await answer.blob()], name);
        }),
      ),
    );
  } catch (error) {
    complain(error.message);
  }
});
$('form').addEventListener('submit', (event) => {
  event.preventDefault();
  const placeholder = $('placeholder').value.trim(),
    seed = Number($('seed').value);
  clear('before', 'after', 'drawn');
  $('finished').hidden = $('result').hidden = $('progress').hidden = true;
  $('prompt').value = $('prompt').dataset.template.replace('{}', placeholder) + ' on a blue background';
  smoothed = new Smoothed();
  curve.start();
  say('Reading the photos');
  send({
    type: 'learn',
    files,
    placeholder,
    initializer: $('initializer').value.trim(),
    steps: Number($('steps').value),
    seed,
    preview: PREVIEWS,
  });
});
$('save').addEventListener('click', () => {
  const rows = [
    ['Before', 'before'],
    ['After', 'after'],
    [drawnPrompt, 'drawn'],
  ].map(([name, list]) => [name, Array.from($(list).querySelectorAll('canvas'))]);
  sheetOf(rows).toBlob((blob) => {
    const href = URL.createObjectURL(blob);
    Object.assign(document.createElement('a'), { href, download: 'pictures.png' }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  });
});
$('draw-form').addEventListener('submit', (event) => {
  event.preventDefault();
  clear('drawn');
  say('Drawing');
  drawnPrompt = $('prompt').value;
  send({
    type: 'draw',
    prompt: drawnPrompt,
    negative: $('negative').value.trim(),
    files: Array.from($('embeddings').files),
    images: PREVIEWS,
    seed: Number($('seed').value),
  });
});
$('cancel').addEventListener('click', () => {
  $('cancel').disabled = true;
  say('Stopping');
  worker.postMessage({ type: 'cancel' });
});
worker.postMessage({ type: 'open', base: new URL('bundle/', location.href).href, threads });
