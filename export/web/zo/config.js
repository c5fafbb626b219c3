/** Settings of the zeroth-order optimizer and its presets: the twin of edge_sdk/zo/config.py, names as there. */

export const PAPER = Object.freeze({
  max_train_steps: 30000,
  learning_rate: 5e-3,
  lr_schedule: 'constant', // or 'cosine'
  zo_samples: 2,
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
  average_from: 1.0,
  max_bad_steps: 10,
});

/** The preset for a vocabulary of this standard deviation per dimension. */
export function fast(vocabularyStd) {
  return {
    ...PAPER,
    max_train_steps: 1333,
    learning_rate: 0.45 * vocabularyStd,
    lr_schedule: 'cosine',
    zo_mu: 0.4 * vocabularyStd,
    subspace_buffer: 0,
    timestep_range: [0, 1000],
    adam_eps: 1e-8,
    average_from: 0.7,
  };
}
