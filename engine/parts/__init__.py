"""The parts of a model at work: text encoders, denoiser, previews, decoders, and one generation's state."""
