"""Pictures in memory that are read like image shards, for tests of what is made of shards."""

import numpy as np

from ldm.data.source import Sample


class Pictures:
    """Drawn pictures of given heights and widths; ``captions[i]`` are those of picture i."""

    def __init__(self, sizes, captions=None, metas=None):
        self._sizes = sizes
        self._captions = captions or [(f"picture {i}",) for i in range(len(sizes))]
        self.metas = metas or [{}] * len(sizes)
        self.caption_counts = np.array([len(own) for own in self._captions], np.int32)

    def __len__(self):
        return len(self._sizes)

    def key(self, i):
        return f"key{i:04d}"

    def size(self, i):
        return self._sizes[i]

    def sizes(self):
        return np.array(self._sizes, np.int32)

    def captions(self, i):
        return self._captions[i]

    def read(self, i, at_least_px=None):
        image = np.random.default_rng(i).integers(0, 256, (*self.size(i), 3), dtype=np.uint8)
        return Sample(self.key(i), image, self._captions[i], self.metas[i])
