"""What is noted of each picture for metrics: features in frozen networks, embeddings of captions.

A function makes an observer for a ``Setting`` and raises ValueError for what lacks. Networks are
read once by a process for all observers that share a file; they follow the pictures' device.
"""
