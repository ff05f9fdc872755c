"""The Sceneshift server: sessions, stages and the media path. Imports no torch."""
