"""What is measured: one torchmetrics.Metric per file, and the protocol that belongs to a number.

What compares features takes rows of them, from notes or from anywhere. States are sums (float64,
integers as int64), or all rows where a number draws from them; then the order counts, and who
gathers them keeps it. So any split over batches and ranks gives the same value. Images are
(B, 3, H, W) in [-1, 1] and are clipped and rounded to 8 bits first, as if they had been saved.
Networks, judges and encoders are injected. Metrics are held outside of anything that is
checkpointed or converted to another dtype.
"""
