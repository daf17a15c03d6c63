"""Mistakes to plant: each function makes a wrong function from the right one."""
