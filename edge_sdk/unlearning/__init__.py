"""Instance unlearning on a server: remove single outputs that no prompt names, with backpropagation, on float weights.

After "Unlearning the Unpromptable" (Lee et al., 2026, arXiv 2603.10445): a surrogate's denoising target on the noised
image to forget, weights over timesteps, and gradient surgery that gives retention priority. The paper's formulas for
the last two were not available to us: what is here are reconstructions, named as such, and compared by measurement.
"""
