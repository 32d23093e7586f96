{{- define "mlflow-trace-exporter.name" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{- define "mlflow-trace-exporter.fullname" -}}
{{- $name := include "mlflow-trace-exporter.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name }}
{{- else -}}
{{ .Release.Name }}-{{ $name }}
{{- end }}
{{- end }}

{{- /* The labels that never change, by which the Service finds the pods of all shards. */}}
{{- define "mlflow-trace-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mlflow-trace-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mlflow-trace-exporter.labels" -}}
{{- merge (fromYaml (include "mlflow-trace-exporter.ownLabels" .)) .Values.commonLabels | toYaml }}
{{- end }}

{{- define "mlflow-trace-exporter.ownLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "mlflow-trace-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "mlflow-trace-exporter.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (ternary (include "mlflow-trace-exporter.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- /* "yes" if the ledger is in PostgreSQL, and several replicas may share it. */}}
{{- define "mlflow-trace-exporter.shared" -}}
{{- if (.Values.config.ledger | default dict).url }}yes{{ end }}
{{- end }}

{{- define "mlflow-trace-exporter.replicas" -}}
{{- if kindIs "invalid" .Values.replicaCount -}}
{{ ternary 2 1 (eq (include "mlflow-trace-exporter.shared" .) "yes") }}
{{- else -}}
{{ .Values.replicaCount }}
{{- end }}
{{- end }}

{{- /* The name of a shard's workload. Takes a list: the root context, and the number of the shard. */}}
{{- define "mlflow-trace-exporter.workload" -}}
{{- $root := index . 0 -}}
{{ include "mlflow-trace-exporter.fullname" $root }}
{{- if gt (int $root.Values.shards) 1 }}-shard-{{ index . 1 }}-of-{{ $root.Values.shards }}{{ end }}
{{- end }}

{{- /* The labels of a shard's pods that never change. Takes the same list. */}}
{{- define "mlflow-trace-exporter.podSelectorLabels" -}}
{{- $root := index . 0 -}}
{{ include "mlflow-trace-exporter.selectorLabels" $root }}
{{- if gt (int $root.Values.shards) 1 }}
shard: {{ index . 1 }}-of-{{ $root.Values.shards }}
{{- end }}
{{- end }}

{{- /* http or https: the scheme, and the name of the port. */}}
{{- define "mlflow-trace-exporter.scheme" -}}
{{ ternary "https" "http" .Values.web.tls }}
{{- end }}

{{- /* exporter.yml. */}}
{{- define "mlflow-trace-exporter.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $ledger := $config.ledger | default dict -}}
{{- if not (or $ledger.url $ledger.path) -}}
{{- $_ := set $config "ledger" (set $ledger "path" "/var/lib/mlflow-trace-exporter/ledger.db") -}}
{{- end -}}
{{ toYaml $config }}
{{- end }}

{{- /* A packaged file, with links to this exporter and this Grafana. Its own braces are for Prometheus and Grafana.
Takes a list: the root context, and the path. */}}
{{- define "mlflow-trace-exporter.file" -}}
{{- $root := index . 0 -}}
{{- $exporter := ($root.Values.config.web | default dict).external_url | default "http://127.0.0.1:10500" | trimSuffix "/" -}}
{{- $grafana := $root.Values.grafanaUrl | trimSuffix "/" -}}
{{ $root.Files.Get (index . 1) | replace "http://127.0.0.1:10500" $exporter | replace "http://127.0.0.1:3000" $grafana }}
{{- end }}

{{- /* How a probe asks. Takes a list: the root context, and the path. The kubelet has no client certificate. */}}
{{- define "mlflow-trace-exporter.probe" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.web.clientCertificate -}}
exec:
  command:
    - mlflow-trace-exporter
    - probe
    - --insecure
    - --cert-file=/etc/mlflow-trace-exporter/web/{{ $root.Values.web.clientCertificate }}
    - --key-file=/etc/mlflow-trace-exporter/web/{{ $root.Values.web.clientKey }}
    - https://127.0.0.1:10500{{ index . 1 }}
{{- else -}}
httpGet:
  path: {{ index . 1 }}
  port: {{ include "mlflow-trace-exporter.scheme" $root }}
  scheme: {{ include "mlflow-trace-exporter.scheme" $root | upper }}
{{- end }}
{{- end }}
