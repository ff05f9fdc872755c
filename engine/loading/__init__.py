"""From a model's folder to parts on a device: what is there, what fits where, and putting it there."""
