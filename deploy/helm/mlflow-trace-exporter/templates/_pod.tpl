{{- /* The template of a shard's pods. Takes a list: the root context, and the number of the shard. */}}
{{- define "mlflow-trace-exporter.pod" -}}
{{- $root := index . 0 -}}
{{- $shared := include "mlflow-trace-exporter.shared" $root -}}
{{- $selector := include "mlflow-trace-exporter.podSelectorLabels" . -}}
{{- with $root.Values -}}
metadata:
  annotations:
    checksum/config: {{ include "mlflow-trace-exporter.config" $root | sha256sum }}
    {{- with .podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- merge (fromYaml $selector) .podLabels (fromYaml (include "mlflow-trace-exporter.labels" $root)) | toYaml | nindent 4 }}
spec:
  serviceAccountName: {{ include "mlflow-trace-exporter.serviceAccountName" $root }}
  automountServiceAccountToken: false
  {{- with .imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml .podSecurityContext | nindent 4 }}
  containers:
    - name: exporter
      image: "{{ .image.repository }}:{{ .image.tag | default $root.Chart.AppVersion }}"
      imagePullPolicy: {{ .image.pullPolicy }}
      args:
        - serve
        - --config.file=/etc/mlflow-trace-exporter/config/exporter.yml
        - --web.listen-address=:10500
        {{- if .web.existingSecret }}
        - --web.config.file=/etc/mlflow-trace-exporter/web/web.yml
        {{- end }}
        - --log.level={{ .log.level }}
        - --log.format={{ .log.format }}
        {{- if gt (int .shards) 1 }}
        - --shard={{ index $ 1 }}/{{ .shards }}
        {{- end }}
      {{- with .existingSecret }}
      envFrom:
        - secretRef:
            name: {{ . }}
      {{- end }}
      {{- with .extraEnv }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: {{ include "mlflow-trace-exporter.scheme" $root }}
          containerPort: 10500
      startupProbe:
        {{- include "mlflow-trace-exporter.probe" (list $root "/-/healthy") | nindent 8 }}
        {{- toYaml .startupProbe | nindent 8 }}
      livenessProbe:
        {{- include "mlflow-trace-exporter.probe" (list $root "/-/healthy") | nindent 8 }}
        {{- toYaml .livenessProbe | nindent 8 }}
      readinessProbe:
        {{- include "mlflow-trace-exporter.probe" (list $root "/-/ready") | nindent 8 }}
        {{- toYaml .readinessProbe | nindent 8 }}
      {{- with .resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml .securityContext | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/mlflow-trace-exporter/config
          readOnly: true
        {{- if .web.existingSecret }}
        - name: web
          mountPath: /etc/mlflow-trace-exporter/web
          readOnly: true
        {{- end }}
        {{- if not $shared }}
        - name: ledger
          mountPath: /var/lib/mlflow-trace-exporter
        {{- end }}
        - name: tmp
          mountPath: /tmp
        {{- with .extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "mlflow-trace-exporter.fullname" $root }}
    {{- with .web.existingSecret }}
    - name: web
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    - name: tmp
      emptyDir: {}
    {{- with .extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .affinity }}
  affinity:
    {{- toYaml .affinity | nindent 4 }}
  {{- else if $shared }}
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- $selector | nindent 16 }}
  {{- end }}
  {{- with .topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
