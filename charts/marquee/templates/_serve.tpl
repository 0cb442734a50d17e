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

{{/* Stage of the values → name of its deployment, of those that have replicas, ingress first. */}}
{{- define "marquee.stages" -}}
{{- $stages := list (dict "stage" "ingress" "deployment" "Ingress") -}}
{{- range $stage := list "retrieval" "ranking" "diversity" "explain" -}}
{{- if eq (index $.Values.config.placement $stage) "deployment" -}}
{{- $stages = append $stages (dict "stage" $stage "deployment" $stage) -}}
{{- end -}}
{{- end -}}
{{- dict "stages" $stages | toJson -}}
{{- end -}}

{{/* Serve's configuration. Cores and GPUs go through `args`: `ray_actor_options` here would replace those of the
     application whole, and with them the folder in which replicas add up their metrics. */}}
{{- define "marquee.serveConfig" -}}
{{- $stages := (include "marquee.stages" . | fromJson).stages -}}
{{- $actors := dict -}}
{{- range $stages -}}
{{- $_ := set $actors .stage (pick (index $.Values.stages .stage) "num_cpus" "num_gpus") -}}
{{- end -}}
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
      {{- merge (dict "traffic_file" (printf "%s/traffic.json" (include "marquee.trafficFolder" .)) "deployments" $actors) (deepCopy .Values.config) | toYaml | nindent 6 }}
    deployments:
      {{- range $stages }}
      - name: {{ .deployment }}
        {{- omit (index $.Values.stages .stage) "num_cpus" "num_gpus" | toYaml | nindent 8 }}
      {{- end }}
{{- end -}}
