"""The dashboards as code: `python -m grafana` writes them to grafana/dashboards/, and a test sees that both agree."""
