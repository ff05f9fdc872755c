"""The model that ships: its modules, how it reads a prompt, and its weights."""
