#!/bin/sh
# Gives kubelet's cgroups all controllers, as kind's script of this name does in a container. That
# one refuses a root cgroup that holds processes; on a machine, kernel threads are always there.
set -eu
for group in / /kubelet /kubelet.slice; do
  folder=/sys/fs/cgroup$group
  mkdir -p "$folder"
  sed -e 's/ / +/g' -e 's/^/+/' <"$folder/cgroup.controllers" >"$folder/cgroup.subtree_control"
done
