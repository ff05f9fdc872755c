"""A program's pictures: composed, encoded once, kept, and handed out."""
