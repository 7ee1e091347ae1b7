"""What a registration gives back: images, labels, landmarks, the report, and the files that hold them."""
