"""Nodes with a kernel of their own: user-mode Linux guests that join a cluster made by kind.

A node in a container shares the host's kernel; where that has no IPVS, kube-proxy cannot run in
ipvs mode on it. A guest is an ordinary process with a disk, a network device on the network of the
nodes, and kubelet, containerd, Calico and kube-proxy like any other node.
"""
