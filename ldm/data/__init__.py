"""What flows in: sources of captioned pictures, image shards on disk, and the way between them."""
