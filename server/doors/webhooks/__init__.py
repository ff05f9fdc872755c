"""`/v1/webhook_endpoints`: where a key's holder wants to be told, in the shape of OpenAI's API."""
