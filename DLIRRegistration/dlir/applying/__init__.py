"""What is done with saved transforms: applied to images, points and surfaces, one after the other, inverted."""
