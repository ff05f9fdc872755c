"""Decides what is on air at each frame of the program. Pure: the frame index is its clock."""
