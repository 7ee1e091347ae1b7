"""Image similarity and regularization (§2.4)."""
