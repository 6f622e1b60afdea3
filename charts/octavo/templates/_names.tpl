{{- /* Gives .Values what a chart of an earlier version did not know: `helm upgrade --reuse-values` takes that chart's
     values for the whole. Every template begins with it. What a user took out of resources stays out. */}}
{{- define "octavo.filled" -}}
{{- range $name, $default := .Files.Get "defaults.json" | fromJson }}
{{- if not (hasKey $.Values $name) }}
{{- $_ := set $.Values $name $default }}
{{- else if and (kindIs "map" $default) (ne $name "resources") }}
{{- $section := get $.Values $name | default dict }}
{{- range $key, $value := $default }}
{{- if not (hasKey $section $key) }}{{ $_ := set $section $key $value }}{{ end }}
{{- end }}
{{- $_ := set $.Values $name $section }}
{{- end }}
{{- end }}
{{- end }}

{{- define "octavo.operator" -}}
{{ printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* A release's name may begin with a digit and have dots, a Service's may not. */}}
{{- define "octavo.ofService" -}}
{{ regexReplaceAll "^([0-9])" .Release.Name "octavo-${1}" | replace "." "-" }}
{{- end }}

{{- /* The metrics API's Service and Secret; on the cluster, its ClusterRole. */}}
{{- define "octavo.metricsApi" -}}
{{ printf "%s-metrics-api" (include "octavo.ofService" .) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The webhook's Service and Secret; on the cluster, its configuration and its ClusterRole. */}}
{{- define "octavo.webhook" -}}
{{ printf "%s-webhook" (include "octavo.ofService" .) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "octavo.webhookConfiguration" -}}
{{ printf "%s-%s" .Release.Namespace (include "octavo.webhook" .) }}
{{- end }}

{{- define "octavo.metricsApiRole" -}}
{{ printf "%s-%s" .Release.Namespace (include "octavo.metricsApi" .) }}
{{- end }}

{{- /* Whether it is served: true, or empty. */}}
{{- define "octavo.servesMetricsApi" -}}
{{- $enabled := toString .Values.metricsApi.enabled }}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") (not .Values.namespaces)) }}true{{ end }}
{{- end }}

{{- /* Whether the Prometheus operator's objects are made: true, or empty. */}}
{{- define "octavo.monitored" -}}
{{- $enabled := toString .Values.monitoring.enabled }}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor") (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PrometheusRule")) }}true{{ end }}
{{- end }}

{{- define "octavo.selector" -}}
app.kubernetes.io/name: octavo-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "octavo.labels" -}}
{{ include "octavo.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* What stands before an image's repository: nothing, or a registry and a slash. */}}
{{- define "octavo.registry" -}}
{{- with (.Values.global).imageRegistry | default .Values.imageRegistry }}{{ trimSuffix "/" . }}/{{ end }}
{{- end }}

{{- define "octavo.image" -}}
{{ printf "%s%s:%s" (include "octavo.registry" .) .Values.image.repository (include "octavo.text" .Values.image.tag | default .Chart.AppVersion) }}
{{- end }}

{{- define "octavo.runtimeImage" -}}
{{ printf "%s%s:%s" (include "octavo.registry" .) .Values.runtime.repository (include "octavo.text" .Values.runtime.tag | default .Chart.AppVersion) }}
{{- end }}

{{- /* A value as it was written: Helm reads a tag such as 20261128 as a number, and would write 2.0261128e+07. */}}
{{- define "octavo.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- /* A map whose values are text, whatever they were written as. */}}
{{- define "octavo.texts" -}}
{{- range $key, $value := . }}
{{ $key | quote }}: {{ include "octavo.text" $value | quote }}
{{- end }}
{{- end }}

{{- /* The namespaces of a list that are there, separated by spaces; all of them where Helm sees none: it may not look, or
     renders without a cluster. */}}
{{- define "octavo.namespaces" -}}
{{- $found := list }}
{{- range .Values.namespaces }}
{{- if lookup "v1" "Namespace" "" . }}{{ $found = append $found . }}{{ end }}
{{- end }}
{{- join " " ($found | default .Values.namespaces) }}
{{- end }}

{{- define "octavo.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "octavo.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}
