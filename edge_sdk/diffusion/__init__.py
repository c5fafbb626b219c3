"""What the Stable Diffusion family is, whatever runs it: networks, schedule, sampler, prompts, tokenizer, folder."""
