"""The data for training: captions of specs, rendered clips in files, latents."""
