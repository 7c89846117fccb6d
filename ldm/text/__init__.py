"""Condition encoders: captions or classes to what the backbone attends to."""
