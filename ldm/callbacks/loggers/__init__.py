"""Programs that show what metrics.jsonl holds: one file each, and how they are kept up with it."""
