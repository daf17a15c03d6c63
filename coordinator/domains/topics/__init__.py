"""Topics: durable, ordered, replayable publish and subscribe."""
