"""The media path: pixels, encoding, packets to viewers."""
