"""Turns a model's folder into parts on a device: checks the files, plans the memory, loads and places the parts."""
