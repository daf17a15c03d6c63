"""Links to the other members: frames in order, snapshots in streams, one greeting for both.

May import `config`, `metrics` and everything below them, but not `storage`. What a frame says is
the node's affair: here it is bytes.
"""
