/** Settings of the zeroth-order optimizer and its presets: the twin of edge_sdk/zo/config.py, names as there. */

export const PAPER = Object.freeze({
  optimizer: 'adam', // or 'gauss_newton'
  max_train_steps: 30000,
  learning_rate: 5e-3,
  lr_schedule: 'constant', // or 'cosine'
  zo_samples: 2,
  zo_directions: 0,
  zo_mu: 1e-3,
  zo_difference: 'forward', // or 'central'
  zo_draws: 'shared', // or 'per_direction'
  train_batch_size: 1,
  zo_normalize: false,
  subspace_buffer: 128,
  subspace_threshold: 1e-3,
  timestep_range: [500, 900],
  adam_beta1: 0.9,
  adam_beta2: 0.999,
  adam_eps: 1e-3,
  damping: 0.1,
  memory: 1.0,
  trust_radius: 3.0,
  average_from: 1.0,
  max_bad_steps: 10,
});

const within = (low, high) => (value) => Number.isFinite(value) && low <= value && value <= high;
const between = (low, high) => (value) => Number.isFinite(value) && low < value && value < high;
const share = (value) => Number.isFinite(value) && 0 <= value && value < 1;
const whole = (low, high) => (value) => Number.isSafeInteger(value) && low <= value && value <= high;
const one = (...values) => (value) => values.includes(value);
const ACCEPTED = {
  schema_version: one(1), // of a record of settings, not of a bundle
  optimizer: one('adam', 'gauss_newton'),
  max_train_steps: whole(1, Number.MAX_SAFE_INTEGER),
  learning_rate: between(0, 10),
  lr_schedule: one('constant', 'cosine'),
  zo_samples: whole(1, 4096),
  zo_directions: whole(0, 4096),
  zo_mu: between(0, 10),
  zo_difference: one('forward', 'central'),
  zo_draws: one('shared', 'per_direction'),
  train_batch_size: whole(1, 4096),
  zo_normalize: one(true, false),
  subspace_buffer: (value) => value === 0 || whole(2, 4096)(value),
  subspace_threshold: share,
  timestep_range: (value) =>
    Array.isArray(value) && value.length === 2 && value.every(Number.isSafeInteger) && 0 <= value[0] && value[0] < value[1],
  adam_beta1: share,
  adam_beta2: share,
  adam_eps: between(0, Infinity),
  damping: (value) => within(0, 1000)(value) && value > 0,
  memory: within(0, 100),
  trust_radius: between(0, Infinity),
  average_from: within(0, 1),
  max_bad_steps: whole(1, Number.MAX_SAFE_INTEGER),
};

/**
 * A record of settings, as bundles have it.
 * @throws {Error} one line: a setting is missing, unknown or out of range
 */
export function checked(settings) {
  for (const name of Object.keys(settings)) {
    if (!Object.hasOwn(ACCEPTED, name)) throw new Error(`unknown setting ${JSON.stringify(name)}`);
  }
  for (const [name, accepts] of Object.entries(ACCEPTED)) {
    if (!accepts(settings[name])) throw new Error(`${name} is ${JSON.stringify(settings[name])}, which it cannot be`);
  }
  return settings;
}

const SAMPLES = 32; // directions a step of the preset `fast`

/**
 * The preset for a vocabulary of this standard deviation per dimension and token embeddings of this width: Gauss-Newton
 * steps, see gauss_newton.js.
 */
export function fast(vocabularyStd, width) {
  const directions = Math.min(2 * SAMPLES, Math.max(SAMPLES, Math.floor(width / 12)));
  return {
    ...PAPER,
    optimizer: 'gauss_newton',
    max_train_steps: Math.floor((40 * directions) / SAMPLES),
    zo_samples: SAMPLES,
    zo_directions: directions,
    zo_mu: 0.4 * vocabularyStd,
    trust_radius: 3 * vocabularyStd,
    subspace_buffer: 0,
    timestep_range: [0, 1000],
  };
}
