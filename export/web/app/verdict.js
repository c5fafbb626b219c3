/** How much closer to the photos a run has come, by its two losses: means over the same draws, which training never uses. */
export function verdict(before, after) {
  const losses = `loss ${before.toFixed(4)} before and ${after.toFixed(4)} after, on draws that were not trained on`;
  const percent = Math.round(100 * (1 - after / before));
  return percent >= 1 ? `Closer to your photos by ${percent} %: ${losses}` : `No closer to your photos: ${losses}`;
}
