"""`sceneshift doctor`: what this machine has and lacks, and whether viewers can reach it."""
