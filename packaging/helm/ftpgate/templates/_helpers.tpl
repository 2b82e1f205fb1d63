{{/* The name of everything: the release's, or with the chart's. */}}
{{- define "ftpgate.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "ftpgate.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ftpgate.labels" -}}
{{ include "ftpgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "ftpgate.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "ftpgate.fullname" .) }}
{{- end }}

{{/*
ftpgate.toml. The value of a key is JSON, which is TOML, too. What is above the first table stands first.
*/}}
{{- define "ftpgate.toml" -}}
{{- $admin := deepCopy (.Values.config.admin | default dict) }}
{{- if .Values.metrics.tokenSecret }}
{{- $admin = merge $admin (dict "listen" ":9121" "token_file" "/run/secrets/ftpgate/token") }}
{{- end }}
{{- include "ftpgate.keys" (omit .Values.config "forward" "admin" "log") }}
{{- with $admin }}
[admin]
{{- include "ftpgate.keys" . }}
{{- end }}
{{- with .Values.config.log }}
[log]
{{- include "ftpgate.keys" . }}
{{- end }}
{{- range .Values.config.forward }}
[[forward]]
{{- include "ftpgate.keys" (omit . "tls") }}
{{- with .tls }}
[forward.tls]
{{- include "ftpgate.keys" . }}
{{- end }}
{{- end }}
{{- end }}

{{/* The keys of a table, one on each line. */}}
{{- define "ftpgate.keys" }}
{{- range $key, $value := . }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{ end }}

{{/* The ports of the forwards, as JSON: [{"name": ..., "port": ...}]. */}}
{{- define "ftpgate.ports" -}}
{{- $ports := list }}
{{- $seen := dict }}
{{- range $i, $forward := .Values.config.forward }}
{{- $listen := regexFind "[0-9]+$" (toString $forward.listen) | int }}
{{- if not (hasKey $seen (toString $listen)) }}
{{- $_ := set $seen (toString $listen) true }}
{{- $ports = append $ports (dict "name" (printf "ftp-%d" $i) "port" $listen) }}
{{- end }}
{{- if not $forward.passive_ports }}
{{- fail (printf "config.forward %d: set passive_ports, which the Service publishes; one port is enough" $i) }}
{{- end }}
{{- range $range := list $forward.passive_ports ($forward.server_ports | default "") }}
{{- with toString $range }}
{{- $first := splitList "-" . | first | trim | int }}
{{- $last := splitList "-" . | last | trim | int }}
{{- if gt (sub $last $first) 99 }}
{{- fail (printf "config.forward %d: a Service names every port: want at most 100 of them, not %s" $i .) }}
{{- end }}
{{- range $port := untilStep $first (add1 $last | int) 1 }}
{{- if not (hasKey $seen (toString $port)) }}
{{- $_ := set $seen (toString $port) true }}
{{- $ports = append $ports (dict "name" (printf "data-%d" $port) "port" $port) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $ports | toJson }}
{{- end }}
