"""What every room may use: types, tensor functions, runtime, run folder, logging, checkpoints."""
