{{- define "octavo.operator" -}}
{{ printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The metrics API's Service and Secret; on the cluster, its ClusterRole. A release's name may begin with a digit and
     have dots, a Service's may not. */}}
{{- define "octavo.metricsApi" -}}
{{ printf "%s-metrics-api" (regexReplaceAll "^([0-9])" .Release.Name "octavo-${1}" | replace "." "-") | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "octavo.metricsApiRole" -}}
{{ printf "%s-%s" .Release.Namespace (include "octavo.metricsApi" .) }}
{{- end }}

{{- /* Whether it is served: true, or empty. */}}
{{- define "octavo.servesMetricsApi" -}}
{{- $enabled := toString .Values.metricsApi.enabled }}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") (not .Values.namespaces)) }}true{{ end }}
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

{{- define "octavo.image" -}}
{{ printf "%s:%s" .Values.image.repository (include "octavo.text" .Values.image.tag | default .Chart.AppVersion) }}
{{- end }}

{{- define "octavo.runtimeImage" -}}
{{ printf "%s:%s" .Values.runtime.repository (include "octavo.text" .Values.runtime.tag | default .Chart.AppVersion) }}
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
