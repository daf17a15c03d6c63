"""The pure heart of a member: consensus and state machine, composed.

Nothing here reads a clock, a disk or a socket: time arrives as an argument, and effects
leave as values. What a member must do with them is said in `coordinator.replica.replica`.
"""
