"""Frozen feature networks: VGG16, the FID Inception, CLIP image towers, any network of timm.

Each is always in eval mode, has no trainable parameter, and takes images (B, 3, H, W); all but
VGG16 repeat the channel of grey ones (B, 1, H, W). They may be moved between devices, but belong
to no checkpoint.
"""
