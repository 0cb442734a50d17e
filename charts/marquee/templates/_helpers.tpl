{{/* Names, labels, images and security, used by every template. Ray's pods are in _ray.tpl. */}}

{{/* At most 40 characters: KubeRay allows a RayService 47, and the chart adds endings of its own. */}}
{{- define "marquee.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* (list root component): what selects the pods of a component, and never changes. */}}
{{- define "marquee.selector" -}}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/part-of: marquee
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* (list root component): all labels of an object that is not one of Ray's pods. */}}
{{- define "marquee.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{ include "marquee.selector" . }}
{{- end -}}

{{/* (list root component): `metadata` of an object named for its component, or the release for "". */}}
{{- define "marquee.metadata" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
name: {{ include "marquee.fullname" $root }}{{ with $component }}-{{ . }}{{ end }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "marquee.labels" (list $root (default "serve" $component)) | nindent 2 }}
{{- end -}}

{{/* (list root image): registry/repository@digest or :tag. */}}
{{- define "marquee.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- $registry := default $image.registry $root.Values.global.imageRegistry -}}
{{- $name := ternary $image.repository (printf "%s/%s" $registry $image.repository) (empty $registry) -}}
{{- with $image.digest -}}
{{- printf "%s@%s" $name . -}}
{{- else -}}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* (list root overrides suffix): an image of Marquee, of which a component may say repository, tag and digest.
     A digest of `image` names other bytes than a suffixed tag would, so it counts only without a suffix. */}}
{{- define "marquee.ownImage" -}}
{{- $root := index . 0 -}}{{- $given := index . 1 -}}{{- $suffix := index . 2 -}}{{- $base := $root.Values.image -}}
{{- $tag := printf "%s%s" (default $root.Chart.AppVersion $base.tag) $suffix -}}
{{- include "marquee.image" (list $root (dict
    "registry" $base.registry
    "repository" (default $base.repository $given.repository)
    "tag" (default $tag $given.tag)
    "digest" (or $suffix $given.repository $given.tag $given.digest | empty | ternary $base.digest $given.digest))) -}}
{{- end -}}

{{/* What every pod says before its containers: (list root role token uid). Where no role is named, KubeRay names
     the service account. */}}
{{- define "marquee.pod" -}}
{{- $root := index . 0 -}}{{- $uid := index . 3 -}}
{{- with index . 1 }}
serviceAccountName: {{ include "marquee.fullname" $root }}-{{ . }}
{{- end }}
automountServiceAccountToken: {{ index . 2 }}
enableServiceLinks: false
{{- with $root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $uid }}
  runAsGroup: {{ $uid }}
  fsGroup: {{ $uid }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* Every container's securityContext. */}}
{{- define "marquee.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Where a pod may run, from values that name it. */}}
{{- define "marquee.scheduling" -}}
{{- range $field := list "priorityClassName" "nodeSelector" "tolerations" "affinity" }}
{{- with index $ $field }}
{{ $field }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The Secret's entry as an environment variable: (list variable secret key). */}}
{{- define "marquee.secretEnv" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end -}}
