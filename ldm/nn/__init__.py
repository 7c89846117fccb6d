"""Bricks of networks: torch only, no knowledge of what is trained with them."""
