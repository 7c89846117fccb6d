"""From a source of captioned pictures to checked image shards: `ldm prepare`."""
