{{/* Claims that only one node at a time may mount, and the pods that therefore share a node. */}}

{{/* (list root name values): access modes of a claim: of the one that is there, because they cannot be changed,
     else those of the values. `helm template` reaches no cluster and takes the values'. */}}
{{- define "marquee.accessModes" -}}
{{- $root := index . 0 -}}{{- $values := index . 2 -}}
{{- $there := lookup "v1" "PersistentVolumeClaim" $root.Release.Namespace (index . 1) | default dict -}}
{{- dict "modes" (dig "spec" "accessModes" $values.accessModes $there) | toJson -}}
{{- end -}}

{{/* (list root name values): "true" where only one node at a time may mount the claim. */}}
{{- define "marquee.oneNode" -}}
{{- $modes := (include "marquee.accessModes" . | fromJson).modes -}}
{{- or (has "ReadWriteMany" $modes) | ternary "" "true" -}}
{{- end -}}

{{- define "marquee.bundlesClaim" -}}
{{- default (printf "%s-bundles" (include "marquee.fullname" .)) .Values.bundleStore.pvc.existingClaim -}}
{{- end -}}

{{- define "marquee.workspaceClaim" -}}
{{- default (printf "%s-workspace" (include "marquee.fullname" .)) .Values.workspace.existingClaim -}}
{{- end -}}

{{/* {"components": […]}: those whose pods must share a node, as they mount a claim that only one node may. */}}
{{- define "marquee.together" -}}
{{- $found := list -}}
{{- if and (eq .Values.bundleStore.type "pvc") (include "marquee.oneNode" (list . (include "marquee.bundlesClaim" .) .Values.bundleStore.pvc)) -}}
{{- $found = list "head" "worker-cpu" "worker-gpu" "bootstrap" "train" -}}
{{- end -}}
{{- if include "marquee.oneNode" (list . (include "marquee.workspaceClaim" .) .Values.workspace) -}}
{{- $found = concat $found (list "bootstrap" "train" "materialize") | uniq -}}
{{- end -}}
{{- dict "components" $found | toJson -}}
{{- end -}}

{{/* (list root component values): the values with an affinity that puts the pod where the others of its claims are. */}}
{{- define "marquee.placed" -}}
{{- $root := index . 0 -}}{{- $values := deepCopy (index . 2) -}}
{{- $together := (include "marquee.together" $root | fromJson).components -}}
{{- if has (index . 1) $together -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (include "marquee.podsOf" (concat (list $root) $together) | fromYaml) -}}
{{- $affinity := default dict $values.affinity -}}
{{- $near := default dict $affinity.podAffinity -}}
{{- $required := append (default list $near.requiredDuringSchedulingIgnoredDuringExecution) $term -}}
{{- $near = set $near "requiredDuringSchedulingIgnoredDuringExecution" $required -}}
{{- $_ := set $values "affinity" (set $affinity "podAffinity" $near) -}}
{{- end -}}
{{- toYaml $values -}}
{{- end -}}

{{/* (list root values): a job's values; where it has `gpus` and says not where, on the nodes of workers.gpu. */}}
{{- define "marquee.onGpus" -}}
{{- $gpu := (index . 0).Values.workers.gpu -}}{{- $values := deepCopy (index . 1) -}}
{{- if gt (int $values.gpus) 0 -}}
{{- $_ := set $values "nodeSelector" (default $gpu.nodeSelector $values.nodeSelector) -}}
{{- $_ := set $values "tolerations" (default $gpu.tolerations $values.tolerations) -}}
{{- end -}}
{{- toYaml $values -}}
{{- end -}}

{{/* What cannot work with a claim that only one node may mount, as a JSON list of faults. */}}
{{- define "marquee.volumeFaults" -}}
{{- $v := .Values -}}{{- $faults := list -}}
{{- $together := (include "marquee.together" .  | fromJson).components -}}
{{- $say := "is ReadWriteOnce, so all pods that mount it share a node" -}}
{{- $name := has "head" $together | ternary "bundleStore.pvc.accessModes" "workspace.accessModes" -}}
{{- $instead := has "head" $together | ternary "use ReadWriteMany, or an object store (bundleStore.type)" "use ReadWriteMany" -}}
{{- $groups := dict "head" (list "head" $v.head) "worker-cpu" (list "workers.cpu" $v.workers.cpu) -}}
{{- if $v.workers.gpu.enabled -}}{{- $_ := set $groups "worker-gpu" (list "workers.gpu" $v.workers.gpu) -}}{{- end -}}
{{- if include "marquee.bootstraps" . -}}{{- $_ := set $groups "bootstrap" (list "bootstrap" (include "marquee.onGpus" (list . $v.bootstrap) | fromYaml)) -}}{{- end -}}
{{- if $v.retrain.enabled -}}{{- $_ := set $groups "train" (list "retrain.worker" (include "marquee.onGpus" (list . $v.retrain.worker) | fromYaml)) -}}{{- end -}}
{{- if $v.materialize.enabled -}}{{- $_ := set $groups "materialize" (list "materialize" $v.materialize) -}}{{- end -}}
{{- $first := "" -}}{{- $nodes := dict -}}
{{- range $component, $group := $groups -}}
{{- if has $component $together -}}
{{- $values := index $group 1 -}}
{{- if not $first -}}
{{- $first = index $group 0 -}}{{- $nodes = default dict $values.nodeSelector -}}
{{- else if ne (toJson $nodes) (default dict $values.nodeSelector | toJson) -}}
{{- $faults = append $faults (printf "%s %s, but %s and %s select different nodes (nodeSelector): %s" $name $say $first (index $group 0) $instead) -}}
{{- end -}}
{{- range $values.topologySpreadConstraints -}}
{{- if and (eq .whenUnsatisfiable "DoNotSchedule") (gt (int (default 1 $values.minReplicas)) 1) -}}
{{- $faults = append $faults (printf "%s %s, but %s must spread over %s (topologySpreadConstraints): %s" $name $say (index $group 0) .topologyKey $instead) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $modes := dict "bundleStore.pvc.accessModes" (eq $v.bundleStore.type "pvc" | ternary $v.bundleStore.pvc.accessModes list) "workspace.accessModes" $v.workspace.accessModes -}}
{{- if or (has "ReadWriteOncePod" $modes) (eq (toJson $modes) "[\"ReadOnlyMany\"]") -}}
{{- $faults = append $faults (printf "%s is %s, but several pods write there, one after the other or together: use ReadWriteOnce or ReadWriteMany" $name (join "," $modes)) -}}
{{- end -}}
{{- end -}}
{{- $faults | uniq | toJson -}}
{{- end -}}
