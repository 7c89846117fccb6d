"""What each command and each part may be told: names, types and ranges; defaults are in YAML."""
