"""The HTTP server: metrics, pages, authentication and TLS."""
