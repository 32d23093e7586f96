"""From traces to the text that Prometheus scrapes: metric families, cells, and the exposition."""
