"""Sources of captioned pictures, one file each; what they yield is said in ``ldm.data.source``."""
