{{/* The image of a program: a list of the root and the program's name. */}}
{{- define "mooring.image" -}}
{{- $root := index . 0 -}}
{{ $root.Values.image.prefix }}/{{ index . 1 }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* Where the configuration is mounted: a kubeconfig in kube-proxy's ConfigMap is named by its path. */}}
{{- define "mooring.configDirectory" -}}
{{ ternary "/var/lib/kube-proxy" "/etc/mooring-proxy" (not (empty .Values.proxy.existingConfigMap)) }}
{{- end }}
