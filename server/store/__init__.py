"""What outlives the process: keys, client secrets, usage and the audit log, in one SQLite file."""
