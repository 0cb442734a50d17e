{{/* Addresses and secrets of a container that runs Marquee: Redis, the bundle store, traces, folders. */}}

{{- define "marquee.redisHost" -}}
{{- $external := .Values.redis.external -}}
{{- $external.enabled | ternary (printf "%s:%v" $external.host $external.port) (printf "%s-redis-client:6379" (include "marquee.fullname" .)) -}}
{{- end -}}

{{- define "marquee.redisScheme" -}}
{{- and .Values.redis.external.enabled .Values.redis.external.tls | ternary "rediss" "redis" -}}
{{- end -}}

{{/* Redis with the state of Ray's head. */}}
{{- define "marquee.stateAddress" -}}
{{- default (printf "%s://%s" (include "marquee.redisScheme" .) (include "marquee.redisHost" .)) .Values.ray.gcsFaultTolerance.redisAddress -}}
{{- end -}}

{{- define "marquee.redisEnv" -}}
{{- $redis := .Values.redis -}}
{{- $user := $redis.external.enabled | ternary $redis.external.username "" -}}
{{- $database := $redis.external.enabled | ternary $redis.external.database 0 -}}
{{- $login := "" -}}
{{- if $redis.existingSecret }}
{{- $login = printf "%s:$(MARQUEE_REDIS_PASSWORD)@" $user }}
{{ include "marquee.secretEnv" (list "MARQUEE_REDIS_PASSWORD" $redis.existingSecret $redis.passwordKey) }}
{{- end }}
- name: REDIS_URL
  value: {{ printf "%s://%s%s/%v" (include "marquee.redisScheme" .) $login (include "marquee.redisHost" .) $database | quote }}
{{- end -}}

{{- define "marquee.storeEnv" -}}
{{- $store := .Values.bundleStore -}}
{{- if eq $store.type "s3" }}
{{- with $store.s3.endpoint }}
- name: AWS_ENDPOINT_URL_S3
  value: {{ . | quote }}
{{- end }}
{{- with $store.s3.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- with $store.s3.existingSecret }}
{{ include "marquee.secretEnv" (list "AWS_ACCESS_KEY_ID" . "AWS_ACCESS_KEY_ID") }}
{{ include "marquee.secretEnv" (list "AWS_SECRET_ACCESS_KEY" . "AWS_SECRET_ACCESS_KEY") }}
{{- end }}
{{- else if and (eq $store.type "gs") $store.gs.existingSecret }}
- name: GOOGLE_APPLICATION_CREDENTIALS
  value: /var/run/secrets/marquee/gs/key.json
{{- end }}
{{- end -}}

{{/* (list root home): Redis, traces, and where files may be written. */}}
{{- define "marquee.env" -}}
{{- $root := index . 0 -}}
- name: HOME
  value: /tmp
- name: MARQUEE_HOME
  value: {{ index . 1 }}
- name: MARQUEE_RELEASE  # so that a command says what to do in a cluster
  value: {{ $root.Release.Name }}
- name: PYTHONDONTWRITEBYTECODE
  value: "1"
{{- include "marquee.redisEnv" $root }}
{{- with $root.Values.tracing }}
{{- if .endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .sampleRatio | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The folder that bundles are published to. */}}
{{- define "marquee.storeUrl" -}}
{{- $store := .Values.bundleStore -}}
{{- coalesce $store.url (regexReplaceAll "/[^/]*$" .Values.config.bundle "") (eq $store.type "pvc" | ternary $store.pvc.mountPath "") | default "" -}}
{{- end -}}

{{/* (list root writes): who trains publishes bundles, who serves only reads them. */}}
{{- define "marquee.storeMounts" -}}
{{- $store := (index . 0).Values.bundleStore -}}
{{- if eq $store.type "pvc" }}
- name: bundles
  mountPath: {{ $store.pvc.mountPath }}
  readOnly: {{ not (index . 1) }}
{{- else if and (eq $store.type "gs") $store.gs.existingSecret }}
- name: gs-key
  mountPath: /var/run/secrets/marquee/gs
  readOnly: true
{{- end }}
{{- end -}}

{{- define "marquee.storeVolumes" -}}
{{- $store := .Values.bundleStore -}}
{{- if eq $store.type "pvc" }}
- name: bundles
  persistentVolumeClaim:
    claimName: {{ include "marquee.bundlesClaim" . }}
{{- else if and (eq $store.type "gs") $store.gs.existingSecret }}
- name: gs-key
  secret:
    secretName: {{ $store.gs.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* The jobs' data, features and checkpoints. */}}
{{- define "marquee.workspaceMount" -}}
- name: workspace
  mountPath: /var/lib/marquee
{{- end -}}

{{- define "marquee.workspaceVolume" -}}
- name: workspace
  persistentVolumeClaim:
    claimName: {{ include "marquee.workspaceClaim" . }}
{{- end -}}

{{/* What `marquee train` needs to read the values' recipe: a JSON list each of env, mounts, volumes; none without one. */}}
{{- define "marquee.recipe" -}}
{{- if .Values.recipe -}}
{{- $folder := "/var/run/marquee/recipe" -}}
{{- dict
    "env" (list (dict "name" "MARQUEE_RECIPE" "value" (printf "%s/recipe.yaml" $folder)))
    "mounts" (list (dict "name" "recipe" "mountPath" $folder "readOnly" true))
    "volumes" (list (dict "name" "recipe" "configMap" (dict "name" (printf "%s-recipe" (include "marquee.fullname" .))))) | toJson -}}
{{- else -}}
{"env": [], "mounts": [], "volumes": []}
{{- end -}}
{{- end -}}
