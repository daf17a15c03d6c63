"""Credentials: passwords, tokens, keys of API and signatures, and how often one may try."""
