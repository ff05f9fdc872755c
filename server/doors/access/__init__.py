"""Who may come in: the token, client secrets, proxies, origins, hosts, and limits by address."""
