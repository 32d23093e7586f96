"""From traces to what Prometheus reads: the table of metric families, cells, and the exposition."""
