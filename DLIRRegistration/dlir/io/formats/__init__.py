"""Files of images as programs write them: what holds them, what their headers say, and whether they are whole."""
