/** Runs the bundle's golden vectors in a worker, as app.js runs its graphs; ?calls=N repeats each, ?threads=N. */

const worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
const option = (name) => Number(new URLSearchParams(location.search).get(name) ?? 1);
const [calls, threads] = ['calls', 'threads'].map(option);

/** {runtime, differences, bounds, milliseconds} or {error}; for whoever drives the page. */
window.verified = new Promise((resolve) => {
  worker.onmessage = ({ data: { type, message, ...found } }) => {
    if (type === 'opened') worker.postMessage({ type: 'check', calls });
    if (type === 'checked') resolve(found);
    if (type === 'error') resolve({ error: message });
  };
  worker.onerror = (event) => resolve({ error: event.message || 'the worker could not be started' });
});
worker.postMessage({ type: 'open', base: new URL('bundle/', location.href).href, threads });

const { error, runtime, differences = {}, bounds, milliseconds } = await window.verified;
const wrong = Object.entries(differences).filter(([graph, difference]) => !(difference <= bounds[graph]));
const status = document.getElementById('status');
status.textContent = error ?? `${runtime}: ${wrong.length ? `${wrong.length} graphs differ` : 'all graphs agree'}`;
for (const [graph, difference] of Object.entries(differences)) {
  const row = document.getElementById('rows').insertRow();
  for (const text of [graph, difference.toExponential(1), bounds[graph], milliseconds[graph].toFixed(1)])
    row.insertCell().textContent = text;
}
status.dataset.done = '';
