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
