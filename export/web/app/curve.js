/** The loss by step on a canvas: every loss as a dot, the smoothed one as a line. */

const EDGE = { left: 40, right: 6, top: 8, bottom: 22 }; // CSS pixels
const SMOOTHING = 0.8; // how much of the loss so far a step keeps, of 40 steps on a draw each

/** A mean of losses that forgets: bias-corrected (Kingma and Ba, 2015), or the first loss would weigh most for long. */
export class Smoothed {
  #sum = 0;
  #weight = 0;

  add(loss) {
    this.#sum = SMOOTHING * this.#sum + (1 - SMOOTHING) * loss;
    this.#weight = SMOOTHING * this.#weight + (1 - SMOOTHING);
  }

  /** NaN before the first loss. */
  get value() {
    return this.#sum / this.#weight;
  }
}

export class Curve {
  constructor(canvas) {
    this.canvas = canvas;
    this.start();
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#draw());
  }

  start() {
    this.points = []; // [loss, smoothed] each step
    this.total = 1;
  }

  add(loss, smoothed, total) {
    this.points.push([loss, smoothed]);
    this.total = total;
    this.canvas.setAttribute(
      'aria-label',
      `Loss by step: ${smoothed.toFixed(4)} after ${this.points.length} of ${total} steps`,
    );
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = undefined;
      this.#draw();
    });
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas,
      pen = this.canvas.getContext('2d');
    const ratio = devicePixelRatio;
    [this.canvas.width, this.canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)]; // clears it
    pen.scale(ratio, ratio);
    const losses = this.points
      .map(([loss]) => loss)
      .filter(Number.isFinite)
      .sort((a, b) => a - b);
    if (!losses.length) return;
    const smoothed = this.points.map(([, value]) => value).filter(Number.isFinite);
    const top = Math.max(losses[Math.floor(0.98 * (losses.length - 1))], ...smoothed) * 1.1; // single losses may be above
    const x = (step) => EDGE.left + (step / this.total) * (width - EDGE.left - EDGE.right);
    const y = (loss) => Math.max(EDGE.top, height - EDGE.bottom - (loss / top) * (height - EDGE.top - EDGE.bottom));
    const style = getComputedStyle(document.body),
      probe = getComputedStyle(this.canvas);
    const color = (name) => {
      this.canvas.style.color = `var(${name})`;
      return probe.color;
    };
    const [line, soft, accent] = ['--line', '--soft', '--accent'].map(color);
    pen.font = `12px ${style.fontFamily}`;
    [pen.strokeStyle, pen.fillStyle, pen.lineWidth] = [line, soft, 1];
    pen.textBaseline = 'middle';
    pen.textAlign = 'right';
    for (let i = 0; i <= 2; i++) {
      const value = (top * i) / 2;
      pen.beginPath();
      pen.moveTo(EDGE.left, y(value));
      pen.lineTo(width - EDGE.right, y(value));
      pen.stroke();
      pen.fillText(value.toFixed(2), EDGE.left - 6, y(value));
    }
    pen.fillText(`step ${this.total}`, width - EDGE.right, height - 8);
    pen.textAlign = 'left';
    pen.fillText('0', EDGE.left, height - 8);
    pen.globalAlpha = 0.5;
    pen.fillStyle = accent;
    for (const [i, [loss]] of this.points.entries()) {
      if (Number.isFinite(loss)) pen.fillRect(x(i + 1) - 2, y(loss) - 2, 4, 4);
    }
    pen.globalAlpha = 1;
    [pen.strokeStyle, pen.lineWidth, pen.lineJoin] = [accent, 2, 'round'];
    pen.beginPath();
    for (const [i, [, smoothed]] of this.points.entries()) pen.lineTo(x(i + 1), y(smoothed));
    pen.stroke();
  }
}
