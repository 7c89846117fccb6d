"""What watches a training run: logging, validation, checkpoints, samples, signals."""
