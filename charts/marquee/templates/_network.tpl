{{/* Parts of NetworkPolicies. */}}

{{/* (list root components…): a selector of the release's pods of these components. */}}
{{- define "marquee.podsOf" -}}
{{- $root := first . -}}
matchLabels:
  app.kubernetes.io/instance: {{ $root.Release.Name }}
  app.kubernetes.io/part-of: marquee
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: [{{ rest . | join ", " }}]}
{{- end -}}

{{/* Ray's pods that serve. */}}
{{- define "marquee.rayPods" -}}
{{- include "marquee.podsOf" (list . "head" "worker-cpu" "worker-gpu") -}}
{{- end -}}

{{/* The port in a URL, or its scheme's: https 443, http 80, redis 6379. */}}
{{- define "marquee.portOf" -}}
{{- $url := urlParse . -}}
{{- $parts := splitList ":" $url.host -}}
{{- gt (len $parts) 1 | ternary (last $parts) (dict "http" "80" "https" "443" "redis" "6379" "rediss" "6379" | dig $url.scheme "443") -}}
{{- end -}}

{{/* (list "to"/"from" peers port…): one rule; no peers mean anywhere. */}}
{{- define "marquee.rule" -}}
{{- $peers := index . 1 -}}
- ports:
    {{- range slice . 2 }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with $peers }}
  {{ index $ 0 }}: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Egress to the features' Redis. */}}
{{- define "marquee.toRedis" -}}
{{- if .Values.redis.external.enabled }}
{{- include "marquee.rule" (list "to" .Values.networkPolicy.redisTo .Values.redis.external.port) }}
{{- else }}
- ports:
    - {protocol: TCP, port: 6379}
  to:
    - podSelector:
        {{- include "marquee.podsOf" (list . "redis") | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Egress to the bundle store; none for a volume. Where no endpoint is named, HTTPS; and where no key is
     given, the addresses at which clouds give pods their identity (Amazon's and Google's metadata, EKS's agent). */}}
{{- define "marquee.toStore" -}}
{{- $store := .Values.bundleStore -}}
{{- if ne $store.type "pvc" -}}
{{- $endpoint := eq $store.type "s3" | ternary $store.s3.endpoint "" | default "https://cloud" -}}
{{ include "marquee.rule" (list "to" .Values.networkPolicy.objectStoreTo (include "marquee.portOf" $endpoint)) }}
{{- if not (or $store.s3.existingSecret $store.gs.existingSecret) }}
{{ include "marquee.rule" (list "to" (list (dict "ipBlock" (dict "cidr" "169.254.169.254/32")) (dict "ipBlock" (dict "cidr" "169.254.170.23/32"))) 80) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Egress to the data that the bootstrap reads: by the URL's port, HTTPS for an object store's or for MovieLens;
     none for a claim, or for a world that is made. */}}
{{- define "marquee.toData" -}}
{{- $job := .Values.bootstrap -}}
{{- $url := include "marquee.tables" . -}}
{{- if not (or $job.datasetClaim (and (empty $url) (eq $job.dataset "synthetic"))) -}}
{{- if and (hasPrefix "s3://" $url) (eq .Values.bundleStore.type "s3") .Values.bundleStore.s3.endpoint -}}
{{- $url = .Values.bundleStore.s3.endpoint -}}
{{- end -}}
{{- include "marquee.rule" (list "to" .Values.networkPolicy.dataTo (include "marquee.portOf" (default "https://anywhere" $url))) }}
{{- end -}}
{{- end -}}

{{/* Egress to the Kubernetes API. */}}
{{- define "marquee.toApi" -}}
{{- include "marquee.rule" (concat (list "to" .Values.networkPolicy.apiServerTo) .Values.networkPolicy.apiServerPorts) -}}
{{- end -}}

{{/* Egress to the trace collector, if there is one. */}}
{{- define "marquee.toTracing" -}}
{{- with .Values.tracing.endpoint }}
{{- include "marquee.rule" (list "to" $.Values.networkPolicy.tracingTo (include "marquee.portOf" .)) }}
{{- end }}
{{- end -}}

{{/* Egress to the Triton server, where one computes the networks of a deployment. */}}
{{- define "marquee.toTriton" -}}
{{- $used := dict -}}
{{- range (include "marquee.deployments" . | fromJson).deployments -}}{{- $_ := set $used .size.runtime true -}}{{- end -}}
{{- if hasKey $used "triton" }}
{{- $address := dig "runtimes" "triton" "address" "" .Values.config -}}
{{- include "marquee.rule" (list "to" .Values.networkPolicy.tritonTo (regexFind "[0-9]+$" $address)) }}
{{- end }}
{{- end -}}
