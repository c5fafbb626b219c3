"""What the options of an unlearning run may be; imports nothing, so that ``--help`` answers at once."""

SURROGATES = ("edit", "nearest", "given")
TIMESTEP_WEIGHTS = ("uniform", "snr", "window", "responsibility")
SURGERIES = ("none", "one_sided", "symmetric")
SCOPES = ("global", "tensor")
SPACES = ("gradient", "preconditioned", "update")
LAYERS = ("branches", "all")
METRICS = ("euclidean", "retained")
RETENTIONS = ("data", "teacher")
LR_SCHEDULERS = ("constant", "linear")
AWARENESS = ("none", "int8", "int4")
