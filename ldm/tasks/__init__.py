"""What trains: one Lightning module per stage, and the few lines they share."""
