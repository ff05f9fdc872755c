"""The wire protocol, written once: types, codes, decoding, and the one table of routes and messages."""
