"""What is drawn for training: specs with captions, rendered clips in files, latents."""
