"""A program's sound: music, its mix, and the tracks that carry it."""
