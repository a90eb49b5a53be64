{{- define "spillway.name" -}}
{{- default .Chart.Name .Values.nameOverride -}}
{{- end }}

{{- define "spillway.fullname" -}}
{{- $name := .Release.Name -}}
{{- $own := include "spillway.name" . -}}
{{- if not (contains $own $name) }}{{ $name = printf "%s-%s" $name $own }}{{ end -}}
{{- default $name .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- end }}

{{- define "spillway.selector" -}}
app.kubernetes.io/name: {{ include "spillway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of every object. User labels come first: they cannot change what selectors rest on. */}}
{{- define "spillway.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name (replace "+" "_" .Chart.Version))
  "app.kubernetes.io/version" (.Values.image.tag | default .Chart.AppVersion | replace "@" "_" | trunc 63 | trimAll "-_.")
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "spillway" -}}
{{- toYaml (merge (fromYaml (include "spillway.selector" .)) $own (default dict .Values.commonLabels)) -}}
{{- end }}

{{- define "spillway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "spillway.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "spillway.leaseName" -}}
{{- default (include "spillway.fullname" .) .Values.leaseName -}}
{{- end }}

{{/* A registry of all charts' stands in the place of the image's own: of what is before the first slash, if that is a host. */}}
{{- define "spillway.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with (.Values.global).imageRegistry -}}
{{- $repository = printf "%s/%s" . (regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $repository "") -}}
{{- end -}}
{{- with .Values.image -}}
{{- if .digest }}{{ $repository }}@{{ .digest }}{{ else }}{{ $repository }}:{{ default $.Chart.AppVersion .tag }}{{ end -}}
{{- end -}}
{{- end }}

{{- define "spillway.port" -}}
{{- regexFind "[0-9]+$" .Values.httpAddress -}}
{{- end }}
