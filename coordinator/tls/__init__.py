"""TLS of both ports: certificates, who may show which, and their renewal while running."""
