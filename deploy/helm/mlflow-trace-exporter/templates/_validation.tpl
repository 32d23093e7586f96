{{- /* Fails with one message if values contradict each other. The schema has checked the type of each. */}}
{{- define "mlflow-trace-exporter.validate" -}}
{{- $ledger := .Values.config.ledger | default dict -}}
{{- $url := $ledger.url | default "" | toString -}}
{{- $path := $ledger.path | default "" | toString -}}
{{- $uri := (.Values.config.mlflow | default dict).tracking_uri | default "" | toString -}}
{{- $name := include "mlflow-trace-exporter.workload" (list . .Values.shards) -}}
{{- $replicas := include "mlflow-trace-exporter.replicas" . | int -}}
{{- if and (gt $replicas 1) (not $url) -}}
{{- fail (printf "replicaCount: is %d, but one ledger in a file belongs to one process; set config.ledger.url to a PostgreSQL database, or leave replicaCount out" $replicas) -}}
{{- end -}}
{{- if or (regexMatch "://[^/?#]*:[^/?#]*@" $url) (regexMatch "(?i)[?& ]?(ssl)?password *=" $url) -}}
{{- fail "config.ledger.url: contains a password, and would be in a ConfigMap; put it into a Secret as PGPASSWORD, and name the Secret in existingSecret" -}}
{{- end -}}
{{- if regexMatch "://[^/?#]*:[^/?#]*@" $uri -}}
{{- fail "config.mlflow.tracking_uri: contains a password, and would be in a ConfigMap; put it into a Secret as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and name the Secret in existingSecret" -}}
{{- end -}}
{{- if and $url $path -}}
{{- fail "config.ledger: has both url and path; a ledger is in PostgreSQL or in a file" -}}
{{- end -}}
{{- if and $path (not (hasPrefix "/var/lib/mlflow-trace-exporter/" (clean $path))) -}}
{{- fail "config.ledger.path: is not in /var/lib/mlflow-trace-exporter, where the volume is" -}}
{{- end -}}
{{- if not (contains "mlflow-trace-exporter" $name) -}}
{{- fail (printf "fullnameOverride, nameOverride: the name %s does not contain mlflow-trace-exporter; it is the job in Prometheus, and the alerts look for that name" $name) -}}
{{- end -}}
{{- if gt (len $name) 52 -}}
{{- fail (printf "fullnameOverride: the name %s is longer than the 52 characters that leave Kubernetes room for its suffixes; choose a shorter one" $name) -}}
{{- end -}}
{{- if and (or .Values.web.tls .Values.web.clientCertificate) (not .Values.web.existingSecret) -}}
{{- fail "web.existingSecret: is missing; web.tls and web.clientCertificate need a Secret with web.yml and the certificates" -}}
{{- end -}}
{{- if ne (empty .Values.web.clientCertificate) (empty .Values.web.clientKey) -}}
{{- fail "web.clientCertificate and web.clientKey: set both or none" -}}
{{- end -}}
{{- if and .Values.web.clientCertificate (not .Values.web.tls) -}}
{{- fail "web.tls: is false, but web.clientCertificate is set; client certificates need TLS" -}}
{{- end -}}
{{- end }}
