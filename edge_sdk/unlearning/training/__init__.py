"""Training that forgets: losses, weights over timesteps, surrogates, gradient surgery, the loop."""
