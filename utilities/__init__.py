"""What every room may use: types, tensor functions, seeding, devices, run folder, logging, checkpoints."""
