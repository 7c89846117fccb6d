"""The bill of materials: which weights of others, and which data, a model was made of."""
