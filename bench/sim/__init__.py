"""The arbiter on a virtual clock, with its traces, cost tables and plots."""
