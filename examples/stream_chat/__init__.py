"""The audience chooses the scene: chat lines with `!scene …` become prompts, with cooldown, votes and a moderator."""
