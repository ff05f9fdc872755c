"""An engine around an engine that gives clips again which were made before."""
