/** run.json: what a run says of itself, with the keys of edge_sdk/run_log.py. */

const SCHEMA_VERSION = 1;
export const VERSION = '0.1.0'; // of edge-sdk

/**
 * The record of a run on a bundle.
 *
 * @param manifest of the bundle
 * @param state of the run, see zo/loop.js
 * @param settings word, initializer, count, steps (null: the preset's) and seed, as the user gave them
 * @param losses [initial, final] on the held-out draws, and `draws`, how many
 * @param forwards of each part of the run, by its name in `forwards_of`; those that are missing are 0
 * @param varianceShare of the vocabulary along the directions that were searched, or null
 * @param photos how many were used and skipped: [used, skipped]
 * @param maxBatch rows a call of the denoiser
 * @param runtime version of onnxruntime-web
 */
export function runRecord(manifest, state, { settings, losses, draws, forwards, varianceShare, photos, maxBatch, runtime }) {
  const { model, weights, execution } = manifest,
    { eval_draws: _, ...zo } = state.config;
  const forwardsOf = { 'floor of mu': 0, 'held-out losses': 0, steps: state.forwards, preview: 0, validation: 0, ...forwards };
  return {
    schema_version: SCHEMA_VERSION,
    command: 'personalize',
    model: model.name,
    weights,
    execution,
    residency: 'resident',
    device: 'cpu',
    preset: 'fast',
    steps: state.step,
    max_batch: maxBatch,
    unet_forwards: state.forwards,
    seconds: Math.round(1000 * state.seconds) / 1000,
    peak_rss_mb: null, // a browser does not tell
    peak_anon_mb: null,
    loss_initial: losses[0],
    loss_final: losses[1],
    loss_draws: draws,
    variance_share: varianceShare,
    mu_min: manifest.mu_min ?? null,
    mu_forwards: 0,
    mu_source: 'mu_min' in manifest ? 'manifest' : null,
    forwards: Object.values(forwardsOf).reduce((sum, count) => sum + count, 0),
    forwards_of: forwardsOf,
    seed: settings.seed,
    resumed: 0,
    photos_used: photos[0],
    photos_skipped: photos[1],
    config: {
      schema_version: SCHEMA_VERSION,
      placeholder_token: settings.placeholder,
      initializer_token: settings.initializer,
      learnable_property: 'object',
      num_vectors: settings.count,
      resolution: null,
      center_crop: true,
      use_captions: false,
      activations: '16', // a bundle decides it; the value that Python's record has beside one
      preset: 'fast',
      search_basis: null,
      max_batch: null,
      eval_draws: draws,
      checkpointing_steps: null,
      stop_when_flat: false,
      seed: settings.seed,
      zo_options: { max_train_steps: settings.steps },
    },
    zo,
    versions: { 'edge-sdk': VERSION, 'onnxruntime-web': runtime },
  };
}

/** The share of the vocabulary's variance along the first directions; null in bundles that do not know it. */
export function varianceShare(manifest, directions, count) {
  const all = manifest.principal_directions.variance_share;
  if (all === undefined) return null;
  const squares = directions.map((row) => row.reduce((sum, x) => sum + x * x, 0)),
    sum = (values) => values.reduce((total, value) => total + value, 0);
  return (all * sum(squares.slice(0, count))) / sum(squares);
}
