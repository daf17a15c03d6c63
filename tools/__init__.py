"""Small programs that the Makefile and the build run; no part of the product."""
