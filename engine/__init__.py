"""The generation engine: prompts in, previews and clips out, in a process of its own."""
