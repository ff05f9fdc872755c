"""How well a trained model draws, what it listens to, and what judges it."""
