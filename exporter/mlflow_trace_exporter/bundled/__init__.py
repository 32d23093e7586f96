"""Files for other programs that the package ships: rules, dashboards, the runbook."""
