"""What a hostile client does to a server: the attacks of `sceneshift bench hostile`, and their means."""
