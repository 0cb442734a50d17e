{{/* The application: what goes into serveConfigV2. */}}

{{/* serveConfigV2 of the installed RayService, or nothing. */}}
{{- define "marquee.installedServe" -}}
{{- $installed := lookup "ray.io/v1" "RayService" .Release.Namespace (include "marquee.fullname" .) | default dict -}}
{{- dig "spec" "serveConfigV2" "" $installed -}}
{{- end -}}

{{/* {"bundle": …, "traffic": […]}: of the installed RayService where there is one and it is to be kept, else from
     the values. `helm template` reaches no cluster, finds none, and so renders the same bytes each time. */}}
{{- define "marquee.inService" -}}
{{- $bundle := .Values.config.bundle -}}
{{- $found := dict "bundle" $bundle "traffic" (list (dict "bundle" $bundle "weight" 100)) -}}
{{- if .Values.traffic.keepLive -}}
{{- $serve := include "marquee.installedServe" . | fromYaml -}}
{{- range $application := $serve.applications | default list -}}
{{- if eq $application.name "marquee" -}}
{{- with dig "args" "bundle" "" $application -}}{{- $_ := set $found "bundle" . -}}{{- end -}}
{{- range $deployment := $application.deployments | default list -}}
{{- with dig "user_config" "traffic" list $deployment -}}{{- $_ := set $found "traffic" . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* Stage of the values → class of the application, of those that have replicas, ingress first. */}}
{{- define "marquee.stages" -}}
{{- $classes := dict "retrieval" "Retriever" "ranking" "Ranker" "diversity" "Diversifier" "explain" "ExplainerReplica" -}}
{{- $stages := list (dict "stage" "ingress" "class" "Ingress") -}}
{{- range $stage := list "retrieval" "ranking" "diversity" "explain" -}}
{{- if eq (index $.Values.config.placement $stage) "deployment" -}}
{{- $stages = append $stages (dict "stage" $stage "class" (index $classes $stage)) -}}
{{- end -}}
{{- end -}}
{{- dict "stages" $stages | toJson -}}
{{- end -}}

{{/* Serve's configuration. Cores and GPUs go through `args`: `ray_actor_options` here would replace those of the
     application whole, and with them the folder in which replicas add up their metrics. */}}
{{- define "marquee.serveConfig" -}}
{{- $inService := include "marquee.inService" . | fromJson -}}
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
      {{- merge (dict "bundle" $inService.bundle "deployments" $actors) (deepCopy .Values.config) | toYaml | nindent 6 }}
    deployments:
      {{- range $stages }}
      - name: {{ .class }}
        {{- omit (index $.Values.stages .stage) "num_cpus" "num_gpus" | toYaml | nindent 8 }}
        user_config:
          traffic:
            {{- toYaml $inService.traffic | nindent 12 }}
      {{- end }}
{{- end -}}

{{/* The same as text. Where it says what the installed one says, byte for byte that: the controller of rollouts
     wrote it last, and Helm 4 would call any other bytes a conflict with it. */}}
{{- define "marquee.serveText" -}}
{{- $made := include "marquee.serveConfig" . -}}
{{- $installed := include "marquee.installedServe" . -}}
{{- eq ($made | fromYaml | toJson) ($installed | fromYaml | toJson) | ternary $installed $made -}}
{{- end -}}
