"""`sceneshift generate`: many prompts to files, by a server that runs or by an engine of its own."""
