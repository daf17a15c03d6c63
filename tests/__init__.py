"""The tests: folders mirror the source; beside them property, simulation, chaos and the rest."""
