"""A child asks, a scene answers: a chat page beside a live picture."""
