"""How to run the exporter on Kubernetes: a Helm chart, and the same as plain manifests. `python -m deploy` writes what
of it comes from elsewhere in the project, and a test sees that both agree."""
