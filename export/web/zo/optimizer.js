/** Adam on one small array in float64: the twin of edge_sdk/zo/optimizer.py. */

const END_FACTOR = 0.1; // what a cosine schedule ends at, as a share of the learning rate

export class Adam {
  constructor(config, size) {
    this.config = config;
    this.m = new Float64Array(size);
    this.v = new Float64Array(size);
    this.count = 0; // updates so far
  }

  /** The next token, Float32Array; `step` (from 0) sets the learning rate only. */
  update(theta, gradient, step) {
    const { adam_beta1: b1, adam_beta2: b2, adam_eps: eps } = this.config;
    this.count += 1;
    const first = 1 - b1 ** this.count,
      second = 1 - b2 ** this.count;
    const rate = learningRate(this.config, step);
    return theta.map((value, i) => {
      this.m[i] = b1 * this.m[i] + (1 - b1) * gradient[i];
      this.v[i] = b2 * this.v[i] + (1 - b2) * gradient[i] ** 2;
      return value - (rate * (this.m[i] / first)) / (Math.sqrt(this.v[i] / second) + eps);
    });
  }
}

/** Step size of step `step` (from 0). */
export function learningRate(config, step) {
  if (config.lr_schedule === 'constant') return config.learning_rate;
  const share = Math.min(1, step / config.max_train_steps);
  return config.learning_rate * (END_FACTOR + (1 - END_FACTOR) * 0.5 * (1 + Math.cos(Math.PI * share)));
}
