"""Trains the embedded model: its world, its data, its training stages. The product imports nothing from here."""
