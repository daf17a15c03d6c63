"""Discovery: how the members of a cluster to be find each other."""
