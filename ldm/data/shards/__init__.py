"""Image shards on the disk: their index, their reader, their verification."""
