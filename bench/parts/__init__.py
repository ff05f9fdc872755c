"""The common parts of benches: servers, browsers, viewers, networks, facts of the machine."""
