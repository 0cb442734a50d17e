{{/* The application: what goes into serveConfigV2. */}}

{{/* The ConfigMap that says which bundle answers whom. No template makes it: `marquee rollout` and its controller
     write it, so that neither an upgrade nor a rollback of Helm moves a user. */}}
{{- define "marquee.trafficObject" -}}
{{- include "marquee.fullname" . }}-traffic
{{- end -}}

{{/* Where every pod that serves sees it; the folder is named like the object, for messages. */}}
{{- define "marquee.trafficFolder" -}}
/var/run/marquee/{{ include "marquee.trafficObject" . }}
{{- end -}}

{{/* Each deployment, ingress first: its name, where in the values its size is (for messages), its size, and the
     stages of a group. Defaults are laid under a group key by key, as `merge` takes a 0 for nothing. */}}
{{- define "marquee.deployments" -}}
{{- $found := list (dict "name" "Ingress" "at" "replicas.ingress" "size" .Values.replicas.ingress) -}}
{{- range $name, $group := .Values.replicas.groups -}}
{{- $size := deepCopy $.Values.replicas.groupDefaults -}}
{{- range $key, $value := omit $group "stages" "autoscaling_config" -}}{{- $_ := set $size $key $value -}}{{- end -}}
{{- range $key, $value := $group.autoscaling_config -}}{{- $_ := set $size.autoscaling_config $key $value -}}{{- end -}}
{{- $found = append $found (dict "name" $name "at" (printf "replicas.groups.%s" $name) "size" $size "stages" $group.stages) -}}
{{- end -}}
{{- dict "deployments" $found | toJson -}}
{{- end -}}

{{/* Serve's configuration. Cores and GPUs go through `args`: `ray_actor_options` here would replace those of the
     application whole, and with them the folder in which replicas add up their metrics. */}}
{{- define "marquee.serveConfig" -}}
{{- $deployments := (include "marquee.deployments" . | fromJson).deployments -}}
{{- $groups := dict -}}
{{- range rest $deployments -}}
{{- $_ := set $groups .name (set (pick .size "num_cpus" "num_gpus" "runtime") "stages" .stages) -}}
{{- end -}}
{{- $ingress := pick .Values.replicas.ingress "num_cpus" "num_gpus" "runtime" -}}
proxy_location: EveryNode
http_options:
  host: 0.0.0.0
  port: 8000
  request_timeout_s: {{ .Values.serve.requestTimeoutSeconds }}
logging_config:
  encoding: JSON
  log_level: {{ .Values.serve.logLevel }}
  enable_access_log: false
applications:
  - name: marquee
    route_prefix: /
    import_path: serving.app:build
    args:
      {{- merge (dict "traffic_file" (printf "%s/traffic.json" (include "marquee.trafficFolder" .)) "ingress" $ingress "groups" $groups) (deepCopy .Values.config) | toYaml | nindent 6 }}
    deployments:
      {{- range $deployments }}
      - name: {{ .name }}
        {{- omit .size "num_cpus" "num_gpus" "runtime" | toYaml | nindent 8 }}
      {{- end }}
{{- end -}}
