"""How the embedded model came about: its world, its data, its training. Nothing of the product imports it."""
