"""What crosses a peer link or lies in the log: structs and their codec.

This room imports nothing of the project and does nothing but describe data. Every struct is an
array on the wire: fields are only ever appended, unknown trailing fields are ignored and missing
trailing fields take their defaults, so two versions of a member understand each other.
"""
