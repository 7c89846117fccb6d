"""What `ldm evaluate` can measure: one file per question, each yielding named records."""
