"""Measures a trained model: how well it draws, which words it follows, and the classifier that judges it."""
