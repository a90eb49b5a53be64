{{/* What the schema cannot say, or not in words that help: values that do not go together, or would do nothing. */}}
{{- define "spillway.refused" -}}
{{- if .Chart.IsRoot }}
{{- range $key, $_ := .Values.global }}
{{- if ne $key "imageRegistry" }}{{ fail (printf "global.%s is not known" $key) }}{{ end }}
{{- end }}
{{- end }}
{{- if regexMatch "^(127\\.|\\[[0:]*:0*1\\])" .Values.httpAddress }}
{{- fail (printf "httpAddress %s is out of the kubelet's reach: its probes come from outside of the pod" .Values.httpAddress) }}
{{- end }}
{{- $name := include "spillway.fullname" . }}
{{- if and .Values.metrics.service.enabled (not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name)) }}
{{- fail (printf "no Service can be called %s: it begins with a digit or has a dot; set fullnameOverride" $name) }}
{{- end }}
{{- if and (eq .Values.dnsPolicy "None") (not (dig "nameservers" list .Values.dnsConfig)) }}
{{- fail "dnsPolicy None leaves the pods without DNS: set dnsConfig.nameservers" }}
{{- end }}
{{- $volumes := list }}
{{- range .Values.extraVolumes }}{{ $volumes = append $volumes .name }}{{ end }}
{{- range .Values.extraVolumeMounts }}
{{- if not (has .name $volumes) }}
{{- fail (printf "extraVolumeMounts: there is no volume %s in extraVolumes" .name) }}
{{- end }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if has .name (fromYamlArray (include "spillway.settings" $)) }}
{{- fail (printf "extraEnv: a value of its own sets %s" .name) }}
{{- end }}
{{- end }}
{{- range $argument := .Values.extraArgs }}
{{- range fromYamlArray (include "spillway.settings" $) }}
{{- $flag := . | trimPrefix "SPILLWAY" | replace "_" "-" | lower | printf "-%s" }}
{{- if or (eq $argument $flag) (hasPrefix (printf "%s=" $flag) $argument) }}
{{- fail (printf "extraArgs: a value of its own sets %s" $flag) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.metrics.monitor }}
{{- if gt (int64 (include "spillway.milliseconds" .scrapeTimeout)) (int64 (include "spillway.milliseconds" .interval)) }}
{{- fail (printf "metrics.monitor.scrapeTimeout %s is longer than metrics.monitor.interval %s" .scrapeTimeout .interval) }}
{{- end }}
{{- end }}
{{- $replicas := int .Values.replicas }}
{{- with .Values.podDisruptionBudget }}
{{- if and .enabled (gt $replicas 1) }}
{{- $stay := toString .minAvailable }}
{{- if hasSuffix "%" $stay }}
{{- /* Kubernetes rounds up. */}}
{{- $stay = div (add (mul $replicas (int (trimSuffix "%" $stay))) 99) 100 }}
{{- end }}
{{- if eq (toString .minAvailable) "" }}
{{- if eq (toString .maxUnavailable | trimSuffix "%" | int) 0 }}
{{- fail (printf "podDisruptionBudget.maxUnavailable %v lets no node be drained" .maxUnavailable) }}
{{- end }}
{{- else if ge (int $stay) $replicas }}
{{- fail (printf "podDisruptionBudget.minAvailable %v of %d replicas lets no node be drained" .minAvailable $replicas) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The environment variables that the Deployment sets; a flag is called like its variable. */}}
{{- define "spillway.settings" -}}
[SPILLWAY_LEASE_NAMESPACE, SPILLWAY_LEASE_NAME, SPILLWAY_LEASE_SECONDS, SPILLWAY_IDENTITY, SPILLWAY_HTTP_ADDRESS,
  SPILLWAY_LOG, SPILLWAY_LOG_FORMAT, SPILLWAY_WATCH_NAMESPACE]
{{- end }}

{{/* A duration as Prometheus writes it, such as 1m30s. */}}
{{- define "spillway.milliseconds" -}}
{{- $sum := 0 }}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" . -1 }}
{{- $sum = add $sum (mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[a-z]+$" .))) }}
{{- end }}
{{- $sum }}
{{- end }}
