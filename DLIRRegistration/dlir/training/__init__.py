"""Unsupervised training of a model's stages, one after the other (§2.3, §5.1, §6.1)."""
