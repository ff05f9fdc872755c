"""What an operator and the holders of keys see and do over HTTP: keys, stages, usage, the audit log."""
