"""A package, as torch-fidelity installs one of this name, which child processes would import."""
