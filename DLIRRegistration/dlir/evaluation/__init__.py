"""Measures of a registration's quality (§4): overlap, surface distances, folding, landmark errors."""
