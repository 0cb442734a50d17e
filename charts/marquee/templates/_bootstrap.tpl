{{/* The Job that leads to the first bundle. */}}

{{/* "true" where there is such a Job: not where the values name a bundle that exists already. */}}
{{- define "marquee.bootstraps" -}}
{{- and .Values.bootstrap.enabled (empty .Values.config.bundle) | ternary "true" "" -}}
{{- end -}}

{{/* DATASET_PATH: a URL, a path on the claim, or nothing for MovieLens. */}}
{{- define "marquee.tables" -}}
{{- $job := .Values.bootstrap -}}
{{- $job.datasetClaim | empty | ternary $job.datasetPath (printf "/var/run/marquee/tables/%s" $job.datasetPath | trimSuffix "/") -}}
{{- end -}}

{{- define "marquee.bootstrapSpec" -}}
{{- $job := .Values.bootstrap -}}
{{- $gpus := int $job.gpus -}}
{{- $recipe := include "marquee.recipe" . | fromJson -}}
{{- $placed := include "marquee.placed" (list . "bootstrap" (include "marquee.onGpus" (list . $job) | fromYaml)) | fromYaml -}}
activeDeadlineSeconds: {{ $job.activeDeadlineSeconds }}
backoffLimit: {{ $job.backoffLimit }}
template:
  metadata:
    labels:
      {{- include "marquee.labels" (list . "bootstrap") | nindent 6 }}
    {{- with .Values.recipe }}
    annotations:
      checksum/recipe: {{ sha256sum . }}  # another recipe is another Job
    {{- end }}
  spec:
    {{- include "marquee.pod" (list . "bootstrap" true .Values.runAsUser) | nindent 4 }}
    restartPolicy: Never  # each try is a pod of its own, whose log stays
    terminationGracePeriodSeconds: 60  # a training ends orderly, and goes on after its last epoch
    {{- with include "marquee.scheduling" $placed | trim }}{{ . | nindent 4 }}{{ end }}
    containers:
      - name: marquee
        image: {{ include "marquee.ownImage" (list . (gt $gpus 0 | ternary .Values.workers.gpu.image dict) (gt $gpus 0 | ternary "-cuda" "")) }}
        imagePullPolicy: {{ .Values.image.pullPolicy }}
        command: [marquee, bootstrap, --service, {{ include "marquee.fullname" . }}{{ if not $job.evaluate }}, --no-evaluate{{ end }}]
        env:
          {{- include "marquee.env" (list . "/var/lib/marquee") | nindent 10 }}
          {{- with include "marquee.storeEnv" . | trim }}{{ . | nindent 10 }}{{ end }}
          - name: DATASET
            value: {{ $job.dataset | quote }}
          {{- with include "marquee.tables" . }}
          - name: DATASET_PATH
            value: {{ . | quote }}
          {{- end }}
          - name: MARQUEE_PUBLISH
            value: {{ include "marquee.storeUrl" . | quote }}
          - name: MARQUEE_TRAIN_WORKERS
            value: {{ max 1 $gpus | quote }}
          - name: MARQUEE_TRAIN_GPU
            value: {{ gt $gpus 0 | quote }}
          - name: RAY_USAGE_STATS_ENABLED
            value: "0"
          {{- with $recipe.env }}{{ toYaml . | nindent 10 }}{{ end }}
        resources:
          {{- include "marquee.resources" (list $job $gpus) | nindent 10 }}
        securityContext:
          {{- include "marquee.restricted" . | nindent 10 }}
        volumeMounts:
          - {name: tmp, mountPath: /tmp}
          - {name: shm, mountPath: /dev/shm}
          {{- include "marquee.workspaceMount" . | nindent 10 }}
          {{- with $recipe.mounts }}{{ toYaml . | nindent 10 }}{{ end }}
          {{- with include "marquee.storeMounts" (list . true) | trim }}{{ . | nindent 10 }}{{ end }}
          {{- if $job.datasetClaim }}
          - {name: tables, mountPath: /var/run/marquee/tables, readOnly: true}
          {{- end }}
    volumes:
      - {name: tmp, emptyDir: {}}
      - {name: shm, emptyDir: {medium: Memory, sizeLimit: 256Mi}}  # Ray's shared memory, of which it takes 100 MiB
      {{- include "marquee.workspaceVolume" . | nindent 6 }}
      {{- with $recipe.volumes }}{{ toYaml . | nindent 6 }}{{ end }}
      {{- with include "marquee.storeVolumes" . | trim }}{{ . | nindent 6 }}{{ end }}
      {{- with $job.datasetClaim }}
      - name: tables
        persistentVolumeClaim:
          claimName: {{ . }}
          readOnly: true
      {{- end }}
{{- end -}}
