"""`/v1/videos`: clips on demand, in the shape of OpenAI's API."""
