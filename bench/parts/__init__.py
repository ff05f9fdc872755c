"""What benches are made of: servers, browsers, viewers, networks, facts of the machine."""
